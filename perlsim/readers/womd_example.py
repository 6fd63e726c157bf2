"""Reader of Waymo Open Motion tf.Example TFRecord files, without TensorFlow.

91 steps: 10 past, 1 current, 80 future. Numbers are float32 in the log itself. Road points come without speed
limits, widths or a lane graph (inferred from lanes that touch) and are grouped into polylines by feature id.
Heights become ground heights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions
from perlsim.readers.fields import reading, time_step
from perlsim.readers.finalize import finalize
from perlsim.readers.tfrecord import first_record, records
from perlsim.readers.waymo_map import AGENT_KINDS, MapFeatures, pack_lights
from perlsim.readers.womd import EXAMPLE_KEYS, LICENCE, median_sizes
from perlsim.readers.womd_schema import message_class
from perlsim.scenario import Array, Ego, Lights, Scenario, Tracks

_PARTS = ("past", "current", "future")


def sniff(path: Path) -> bool:
    """Whether the first record of a TFRecord file is a tf.Example with motion features."""
    data = first_record(path)
    return data is not None and any(key in data for key in EXAMPLE_KEYS)


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the scenarios of a file.

    Raises:
        FormatError: a record is damaged (names its number), or lacks a feature (names it).
    """
    for number, data in records(path):
        message = message_class("Example")()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise FormatError(f"record {number} is no tf.Example ({error})", file=path) from error
        with reading(path, f"record {number}"):
            raw = _scenario(_Features(message), path, number)
        yield finalize(raw)


class _Features:
    """The features of an example by name."""

    def __init__(self, message):
        self._values = {entry.key: entry.value for entry in message.features.feature}

    def __call__(self, key: str, *shape: int) -> Array:
        """A numeric feature as float64 in the given shape."""
        value = self._values[key]
        values = value.int64_list.value if value.HasField("int64_list") else value.float_list.value
        return np.array(values, np.float64).reshape(shape)

    def over_time(self, group: str, name: str, count: int, *, time_first: bool = False) -> Array:
        """A feature of past, current and future as ``[count, T]``."""
        parts = []
        for part in _PARTS:
            values = self(f"{group}/{part}/{name}", -1)
            parts.append(values.reshape(-1, count).T if time_first else values.reshape(count, -1))
        return np.concatenate(parts, axis=1)

    def text(self, key: str) -> str:
        values = self._values[key].bytes_list.value if key in self._values else []
        return values[0].decode("utf-8", "replace") if values else ""


def _scenario(features: _Features, path: Path, number: int) -> Scenario:
    tracks, is_sdc = _tracks(features)
    name = features.text("scenario/id") or f"{path.name}#{number}"
    roads = _map(features)
    inferred = roads.connect_touching()
    lights = _lights(features, tracks.num_steps, roads.lane_rows())
    return Scenario(
        scenario_id=name,
        source="womd_example",
        dt=_time_step(features),
        tracks=tracks,
        ego=Ego(int(np.argmax(is_sdc)) if is_sdc.any() else -1),
        lights=lights,
        road=roads.road(lights),
        recording_id=name,
        dataset="waymo",
        licence=LICENCE,
        source_file=path.name,
        repairs=inferred,
    )


def _time_step(features: _Features) -> float:
    """Seconds between steps, from the time stamps of all road users where they are valid."""
    count = len(features("state/type", -1))
    stamps = features.over_time("state", "timestamp_micros", count) * 1e-6
    seen = np.where(features.over_time("state", "valid", count) > 0, stamps, np.nan)
    known = ~np.isnan(seen).all(0)
    if known.sum() < 2 or not known.all():
        return 0.1
    return time_step(np.nanmedian(seen, axis=0), 0.1)


def _tracks(features: _Features) -> tuple[Tracks, Array]:
    """Tracks of the slots that are ever valid, and which of them is the ego."""
    count = len(features("state/type", -1))

    def stacked(*names: str) -> Array:
        return np.stack([features.over_time("state", name, count) for name in names], axis=-1)

    valid = features.over_time("state", "valid", count) > 0
    used = np.flatnonzero(valid.any(1))
    valid = valid[used]
    size = median_sizes(stacked("length", "width", "height")[used], valid)
    position = stacked("x", "y", "z")[used]
    position[..., 2] -= 0.5 * np.nan_to_num(size[:, None, 2])
    kinds = features("state/type", count)[used]
    return Tracks(
        position=position,
        heading=features.over_time("state", "bbox_yaw", count)[used],
        velocity=stacked("velocity_x", "velocity_y")[used],
        size=size,
        kind=np.array([AGENT_KINDS[int(k)] if 0 <= k < 4 else AGENT_KINDS[0] for k in kinds], np.int8),
        valid=valid,
        ids=tuple(f"{number:g}" for number in features("state/id", count)[used]),
    ), features("state/is_sdc", count)[used] > 0


def _map(features: _Features) -> MapFeatures:
    """Road points, regrouped: a run of points of one id and type is a polyline."""
    xyz = features("roadgraph_samples/xyz", -1, 3)
    ids, kinds = (features(f"roadgraph_samples/{name}", len(xyz)) for name in ("id", "type"))
    kept = features("roadgraph_samples/valid", len(xyz)) > 0
    xyz, ids, kinds = xyz[kept], ids[kept], kinds[kept]
    cuts = np.flatnonzero((np.diff(ids) != 0) | (np.diff(kinds) != 0)) + 1
    found = MapFeatures()
    names: dict[str, int] = {}
    for points, feature, kind in zip(
        np.split(xyz, cuts), np.split(ids, cuts), np.split(kinds, cuts), strict=True
    ):
        if not len(points):
            continue
        name = f"{feature[0]:g}"
        names[name] = names.get(name, 0) + 1
        found.add_coded(name if names[name] == 1 else f"{name}/{names[name]}", int(kind[0]), points)
    return found


def _lights(features: _Features, num_steps: int, lane_rows: dict[str, int]) -> Lights:
    count = len(features("traffic_light_state/current/id", -1))
    names = ("id", "state", "valid", "x", "y", "z")
    values = {name: features.over_time("traffic_light_state", name, count, time_first=True) for name in names}
    points = np.stack([values[axis] for axis in "xyz"], axis=-1)
    seen = (
        (int(step), f"{values['id'][row, step]:g}", int(values["state"][row, step]), points[row, step])
        for row, step in np.argwhere(values["valid"] > 0)
    )
    return pack_lights(seen, num_steps, lane_rows)
