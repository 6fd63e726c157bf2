"""Argoverse 2 sensor logs: a folder with boxes, ego poses and a vector map.

- ``annotations.feather``: boxes of each lidar sweep (10 Hz), centre and quaternion in the frame that the
  *moving ego* had at the sweep's time stamp. (Any ``annotations*.feather`` is read; there must be one.)
- ``city_SE3_egovehicle.feather``: ego poses in the city frame at every sensor's time stamps (about 170 Hz);
  the frame's origin is the middle of the rear axle.
- ``map/log_map_archive_*.json``: see `perlsim.readers.av2_map`.

There are no velocities (differences of positions are taken), no lights and no speed limits. Sweeps are not
exactly 0.1 s apart (96 to 104 ms): tracks are interpolated at a constant step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions
from perlsim.readers.arrow_tables import numbers, read_table, texts
from perlsim.readers.av2_map import find_map, read_map
from perlsim.readers.box_tables import Boxes, ego_track, tracks_on_grid, with_first
from perlsim.readers.finalize import finalize
from perlsim.readers.poses import Poses, heading_of, rotations
from perlsim.readers.resampling import time_grid
from perlsim.scenario import Array, Ego, Scenario
from perlsim.vocabulary import AgentType

LICENCE = "CC BY-NC-SA 4.0"
EGO_ID = "AV"
EGO_CATEGORY = "EGO_VEHICLE"

# The Ford Fusion Hybrid of the data set: size as in logs that carry an EGO_VEHICLE row; wheelbase from the
# manufacturer's data. The box centre lies 1.339 m ahead of the rear axle (the figure that py123d uses, too).
# The axle is 0.31 m above the road: the median over the two real logs at hand of ego height minus lane border
# height.
EGO_SIZE = (4.877, 2.0, 1.473)
EGO_WHEELBASE = 2.85
EGO_AXLE_TO_CENTRE = 1.339
EGO_AXLE_HEIGHT = 0.31

KINDS = {
    "ARTICULATED_BUS": AgentType.BUS,
    "BICYCLE": AgentType.CYCLIST,
    "BICYCLIST": AgentType.CYCLIST,
    "BOLLARD": AgentType.STATIC,
    "BOX_TRUCK": AgentType.TRUCK,
    "BUS": AgentType.BUS,
    "CONSTRUCTION_BARREL": AgentType.STATIC,
    "CONSTRUCTION_CONE": AgentType.STATIC,
    "LARGE_VEHICLE": AgentType.TRUCK,
    "MESSAGE_BOARD_TRAILER": AgentType.STATIC,
    "MOBILE_PEDESTRIAN_CROSSING_SIGN": AgentType.STATIC,
    "MOTORCYCLE": AgentType.MOTORCYCLIST,
    "MOTORCYCLIST": AgentType.MOTORCYCLIST,
    "OFFICIAL_SIGNALER": AgentType.PEDESTRIAN,
    "PEDESTRIAN": AgentType.PEDESTRIAN,
    "RAILED_VEHICLE": AgentType.VEHICLE,
    "REGULAR_VEHICLE": AgentType.VEHICLE,
    "SCHOOL_BUS": AgentType.BUS,
    "SIGN": AgentType.STATIC,
    "STOP_SIGN": AgentType.STATIC,
    "STROLLER": AgentType.PEDESTRIAN,
    "TRAFFIC_LIGHT_TRAILER": AgentType.STATIC,
    "TRUCK": AgentType.TRUCK,
    "TRUCK_CAB": AgentType.TRUCK,
    "VEHICULAR_TRAILER": AgentType.VEHICLE,
    "WHEELCHAIR": AgentType.PEDESTRIAN,
    "WHEELED_DEVICE": AgentType.CYCLIST,
    "WHEELED_RIDER": AgentType.CYCLIST,
}

_POSES = "city_SE3_egovehicle.feather"


def sniff(path: Path) -> bool:
    """Whether a folder is an Argoverse 2 sensor log."""
    return path.is_dir() and (path / _POSES).is_file()


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the one scenario of a log folder.

    Raises:
        FormatError: where a file is missing or damaged.
    """
    file, map_file = _annotations(path), find_map(path)
    table = read_table(file)
    stamp = numbers(table, "timestamp_ns", file, np.int64)
    ids, category = texts(table, "track_uuid", file), np.array(texts(table, "category", file), str)
    centre, quaternion = _columns(table, ("tx_m", "ty_m", "tz_m"), file), _quaternions(table, file)
    size = _columns(table, ("length_m", "width_m", "height_m"), file)
    poses = _poses(path / _POSES)
    repairs: list[str] = []

    own = category == EGO_CATEGORY
    ego_size = np.median(size[own], axis=0) if own.any() else np.array(EGO_SIZE)
    timed = (stamp >= poses.stamps[0]) & (stamp <= poses.stamps[-1])
    if not timed.any():
        raise FormatError("no box lies within the time of the ego poses", file=file, field="timestamp_ns")
    if not timed.all():
        repairs.append(f"{np.count_nonzero(~timed)} boxes outside the time of the ego poses were left out")
    stamps = np.unique(stamp[timed])
    kept = np.flatnonzero(timed & ~own)
    frame = np.searchsorted(stamps, stamp[kept])
    grid = time_grid((stamps - stamps[0]) * 1e-9, file, "timestamp_ns")
    if grid.num_empty:
        repairs.append(
            f"{grid.num_empty} of {len(grid.times)} sweeps are missing: interpolated where possible"
        )

    position, rotation = poses.at(stamps)
    boxes = Boxes(
        frame=frame,
        ids=[ids[row] for row in kept.tolist()],
        centre=position[frame] + np.einsum("nij,nj->ni", rotation[frame], centre[kept]),
        heading=heading_of(rotation[frame] @ rotations(quaternion[kept])),
        size=size[kept],
        kind=np.array([KINDS.get(name, AgentType.UNKNOWN) for name in category[kept]], np.int8),
    )
    offset = np.array([EGO_AXLE_TO_CENTRE, 0.0, 0.5 * ego_size[2] - EGO_AXLE_HEIGHT])
    ego = ego_track(EGO_ID, position + rotation @ offset, heading_of(rotation), ego_size, grid)
    yield finalize(
        Scenario(
            scenario_id=path.name,
            source="av2_sensor",
            dt=grid.dt,
            tracks=with_first(ego, tracks_on_grid(boxes, grid, repairs)),
            ego=Ego(0, EGO_WHEELBASE, EGO_AXLE_TO_CENTRE),
            road=read_map(map_file).road,
            recording_id=path.name,
            place=_city(map_file),
            dataset="argoverse2",
            licence=LICENCE,
            start_time=float(stamps[0]) * 1e-9,
            source_file=file.name,
            repairs=tuple(repairs),
            missing=("stop_signs",),
        )
    )


def _annotations(folder: Path) -> Path:
    found = sorted(folder.glob("annotations*.feather"))
    if len(found) != 1:
        raise FormatError(
            f"expected one annotations*.feather, found {len(found)}",
            file=folder,
            remedy="test-split logs have none: they cannot be used; else fetch the whole log",
        )
    return found[0]


def _columns(table: pa.Table, names: tuple[str, ...], file: Path) -> Array:
    return np.stack([numbers(table, name, file) for name in names], axis=1)


def _quaternions(table: pa.Table, file: Path) -> Array:
    return _columns(table, ("qw", "qx", "qy", "qz"), file)


def _poses(file: Path) -> Poses:
    """Ego poses, sorted, the first of equal stamps, without those that are not finite."""
    table = read_table(file)
    stamps, first = np.unique(numbers(table, "timestamp_ns", file, np.int64), return_index=True)
    position = _columns(table, ("tx_m", "ty_m", "tz_m"), file)[first]
    quaternion = _quaternions(table, file)[first]
    usable = np.isfinite(position).all(1) & (np.abs(np.linalg.norm(quaternion, axis=1) - 1) < 0.01)
    if np.count_nonzero(usable) < 2:
        raise FormatError("expected at least two usable poses", file=file)
    return Poses(stamps[usable], position[usable], quaternion[usable])


def _city(map_file: Path) -> str:
    """City code in ``log_map_archive_<log>____<city>_city_<number>.json``, "" where there is none."""
    _, _, rest = map_file.name.partition("____")
    return rest.split("_")[0] if rest else ""
