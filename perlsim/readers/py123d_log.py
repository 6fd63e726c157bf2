"""The time-dependent files of a py123d log: ego poses, boxes and traffic lights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from perlsim.errors import FormatError
from perlsim.readers.arrow_tables import column, numbers, read_table
from perlsim.readers.box_tables import Boxes, ego_track, tracks_on_grid, with_first
from perlsim.readers.fields import ODD_STATE, reading
from perlsim.readers.mend_tracks import differences
from perlsim.readers.poses import Poses, heading_of, rotations
from perlsim.readers.py123d_labels import kinds_of
from perlsim.readers.py123d_map import metadata
from perlsim.readers.resampling import TimeGrid, time_grid
from perlsim.scenario import Array, Ego, Lights, Road, Tracks
from perlsim.vocabulary import LightState

EGO_FILE, BOXES_FILE = "ego_state_se3.arrow", "box_detections_se3.arrow"
_LIGHTS_FILE = "traffic_light_detections.arrow"
_EGO_ID = "ego"
_STATES = (LightState.GREEN, LightState.YELLOW, LightState.RED, LightState.OFF, LightState.UNKNOWN)


_NO_BOXES = Boxes(np.zeros(0, int), [], np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)), np.zeros(0, np.int8))


@dataclass(frozen=True)
class _Vehicle:
    """The ego's box: size ``[3]`` m, its centre in the pose's frame, its wheelbase and rear axle."""

    size: Array
    centre: Array
    wheelbase: float
    rear_axle_to_centre: float


class Py123dLog:
    """The time-dependent files of a log.

    Attributes:
        grid: time steps, laid through the time stamps of the boxes (of the ego where there are no boxes).
        start: s, time stamp of step 0.
    """

    def __init__(self, folder: Path):
        self._poses, self._vehicle = None, None
        stamps = None
        if (folder / EGO_FILE).is_file():
            self._poses, self._vehicle = _read_ego(folder / EGO_FILE)
            stamps = self._poses.stamps
        self._boxes, self._unlabelled, self._untimed = _NO_BOXES, 0, 0
        source = folder / EGO_FILE
        if (folder / BOXES_FILE).is_file():
            source = folder / BOXES_FILE
            stamps, self._boxes, self._unlabelled = _read_boxes(source)
        if stamps is None:
            raise FormatError(f"neither {EGO_FILE} nor {BOXES_FILE} is there", file=folder)
        if self._poses is not None:
            timed = (stamps >= self._poses.stamps[0]) & (stamps <= self._poses.stamps[-1])
            if not timed.any():
                raise FormatError("ego poses and boxes share no time", file=source, field="timestamp_us")
            self._untimed = int(np.count_nonzero(~timed))
            first, last = np.flatnonzero(timed)[[0, -1]]
            self._boxes = self._boxes.between(first, last + 1)
            stamps = stamps[first : last + 1]
        self._stamps = stamps
        self.start = float(stamps[0]) * 1e-6
        self.grid = time_grid((stamps - stamps[0]) * 1e-6, source, "timestamp_us")
        self._lights = _read_lights(folder / _LIGHTS_FILE) if (folder / _LIGHTS_FILE).is_file() else None

    def tracks(self, first: int, last: int, repairs: list[str]) -> tuple[Tracks, Ego]:
        """Road users present in the steps from ``first`` to before ``last``, the ego first."""
        grid, span = self.grid, self.grid.dt
        low = int(np.searchsorted(grid.stamps, grid.times[first] - 1.5 * span))
        high = int(np.searchsorted(grid.stamps, grid.times[last - 1] + 1.5 * span, side="right"))
        part = TimeGrid(grid.stamps[low:high], grid.times[first:last], span)
        if part.num_empty:
            repairs.append(
                f"{part.num_empty} of {last - first} frames are missing: interpolated where possible"
            )
        if self._untimed:
            repairs.append(
                f"{self._untimed} frames of the log outside the time of the ego poses were left out"
            )
        if self._unlabelled:
            repairs.append(f"{self._unlabelled} boxes of the log have an unknown label: kept as UNKNOWN")
        tracks = tracks_on_grid(self._boxes.between(low, high), part, repairs)
        if self._poses is None or self._vehicle is None:
            return tracks, Ego()
        vehicle = self._vehicle
        position, rotation = self._poses.at(self._stamps[low:high])
        ego = ego_track(
            _EGO_ID, position + rotation @ vehicle.centre, heading_of(rotation), vehicle.size, part
        )
        if self._boxes.velocity is not None:
            velocity = differences(ego.position[0, :, :2], ego.valid[0], span)
            ego = replace(ego, velocity=velocity[None])
        return with_first(ego, tracks), Ego(0, vehicle.wheelbase, vehicle.rear_axle_to_centre)

    def lights(self, first: int, last: int, road: Road) -> Lights:
        """States of the lanes that have lights, at the steps from ``first`` to before ``last``."""
        if self._lights is None:
            return Lights(state=np.zeros((0, last - first), np.int8))
        stamps, frame, lane, status = self._lights
        times = self._stamps[0] + self.grid.times[first:last] * 1e6
        nearest = np.abs(stamps[None, :] - times[:, None]).argmin(1) if len(stamps) else np.zeros(0, int)
        index = {name: i for i, name in enumerate(road.lanes.ids)}
        rows: dict[int, Array] = {}
        for step, row in enumerate(nearest.tolist()):
            if abs(stamps[row] - times[step]) > 1.5e6 * self.grid.dt:
                continue
            for entry in range(*np.searchsorted(frame, [row, row + 1]).tolist()):
                lane_idx = index.get(str(lane[entry]))
                if lane_idx is not None:
                    states = rows.setdefault(lane_idx, np.full(last - first, LightState.UNKNOWN, np.int8))
                    known = status[entry] < len(_STATES)
                    states[step] = _STATES[status[entry]] if known else ODD_STATE
        return Lights(
            position=np.array([road.lanes.centre[i][0] for i in rows]).reshape(-1, 3),
            heading=np.full(len(rows), np.nan),
            lane_idx=np.array(list(rows), np.int32),
            state=np.array(list(rows.values()), np.int8).reshape(-1, last - first),
        )


def _read_ego(path: Path) -> tuple[Poses, _Vehicle]:
    table = read_table(path)
    about = metadata(table, path)
    stamps, first = np.unique(numbers(table, "ego_state_se3.timestamp_us", path, np.int64), return_index=True)
    pose = _fixed(column(table, "ego_state_se3.imu_se3", path), 7, path, "ego_state_se3.imu_se3")[first]
    usable = np.isfinite(pose).all(1) & (np.abs(np.linalg.norm(pose[:, 3:], axis=1) - 1) < 0.01)
    if not usable.any():
        raise FormatError("no pose is usable", file=path, field="ego_state_se3.imu_se3")
    sizes = [about.get(name) for name in ("length", "width", "height", "wheel_base")]
    centre, axle = about.get("center_to_imu_se3"), about.get("rear_axle_to_imu_se3")
    with reading(path, "metadata"):
        length, width, height, wheelbase = np.array(sizes, np.float64)
        middle, rear = np.array([centre, axle], np.float64).reshape(2, 7)[:, :3]
    if not np.isfinite([length, width, height, *middle, *rear]).all():
        raise FormatError(
            "expected finite length, width, height, center_to_imu_se3 and rear_axle_to_imu_se3",
            file=path,
            field="metadata",
        )
    vehicle = _Vehicle(
        np.array([length, width, height]), middle, float(wheelbase), float(middle[0] - rear[0])
    )
    return Poses(stamps[usable], pose[usable, :3], pose[usable, 3:]), vehicle


def _read_boxes(path: Path) -> tuple[Array, Boxes, int]:
    """Time stamps ``[N]`` µs, boxes, and how many of them have a label that is not known."""
    key = "box_detections_se3"
    table = read_table(path)
    label_class = str(metadata(table, path).get("box_detection_label_class")).rsplit(".", 1)[-1]
    stamps = numbers(table, f"{key}.timestamp_us", path, np.int64)
    if not len(stamps):
        raise FormatError("the table has no rows", file=path)
    frame, values = _flat(table, f"{key}.bounding_box_se3", path)
    box = _fixed(values, 10, path, f"{key}.bounding_box_se3")
    ids = _aligned(table, f"{key}.track_token", path, frame)
    labels = _aligned(table, f"{key}.label", path, frame)
    if not pa.types.is_string(ids.type) or ids.null_count + labels.null_count:
        raise FormatError("expected text and whole numbers", file=path, field=f"{key}.track_token, label")
    kind, known, is_ego = kinds_of(label_class, labels.to_numpy(zero_copy_only=False))
    velocity = None
    if f"{key}.velocity_3d" in table.column_names:
        field = f"{key}.velocity_3d"
        velocity = _fixed(_aligned(table, field, path, frame), 3, path, field)[:, :2]
        # Converters that know no velocities write zeros.
        velocity = velocity if np.nan_to_num(velocity).any() else None
    if (np.diff(stamps) < 0).any():
        raise FormatError("time stamps do not increase", file=path, field=f"{key}.timestamp_us")
    unique, row = np.unique(stamps, return_inverse=True)  # rows of equal stamps are one frame
    boxes = Boxes(
        frame=row[frame],
        ids=ids.to_pylist(),
        centre=box[:, :3],
        heading=heading_of(rotations(box[:, 3:7])),
        size=box[:, 7:],
        kind=kind,
        velocity=velocity,
    )
    others = np.flatnonzero(~is_ego)
    return unique, boxes.select(others, boxes.frame[others]), int(np.count_nonzero(~known))


def _read_lights(path: Path) -> tuple[Array, Array, Array, Array]:
    """Time stamps ``[N]`` µs, and for each entry its row in them, its lane id and its status."""
    key = "traffic_light_detections"
    table = read_table(path)
    stamps = numbers(table, f"{key}.timestamp_us", path, np.int64)
    frame, lanes = _flat(table, f"{key}.lane_id", path)
    status = _aligned(table, f"{key}.status", path, frame)
    for name, values in (("lane_id", lanes), ("status", status)):
        if not pa.types.is_integer(values.type) or values.null_count:
            raise FormatError("expected whole numbers", file=path, field=f"{key}.{name}")
    return stamps, frame, lanes.to_numpy(zero_copy_only=False), status.to_numpy(zero_copy_only=False)


def _flat(table: pa.Table, name: str, path: Path) -> tuple[Array, pa.Array]:
    """The entries of a column of lists, and the row that each is in."""
    lists = column(table, name, path)
    if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
        raise FormatError(f"expected lists, found {lists.type}", file=path, field=name)
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lists)), lengths), lists.flatten()


def _aligned(table: pa.Table, name: str, path: Path, frame: Array) -> pa.Array:
    """The entries of a column of lists that has to have as many in each row as another."""
    own, values = _flat(table, name, path)
    if not np.array_equal(own, frame):
        raise FormatError("lists differ in length from those beside them", file=path, field=name)
    return values


def _fixed(values: pa.Array, width: int, path: Path, name: str) -> Array:
    """A column of lists of fixed length as ``[rows, width]``; nulls become NaN."""
    if not pa.types.is_fixed_size_list(values.type) or values.type.list_size != width:
        raise FormatError(f"expected lists of {width} numbers, found {values.type}", file=path, field=name)
    if not pa.types.is_floating(values.type.value_type):
        raise FormatError(f"expected numbers, found {values.type.value_type}", file=path, field=name)
    result = np.full((len(values), width), np.nan)
    present = values.is_valid().to_numpy(zero_copy_only=False)
    result[present] = values.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return result
