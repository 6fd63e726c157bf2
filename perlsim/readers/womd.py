"""Reader of Waymo Open Motion `Scenario` protos in TFRecord files (v1.1 to v1.3), without TensorFlow.

World frame, 10 Hz, box centres. Heights become ground heights (centre − half height). Speed limits are in
mph. Road edges have the drivable area on their left in this format already. Speed bumps and driveways are
not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions
from perlsim.readers.fields import reading, time_step
from perlsim.readers.finalize import finalize
from perlsim.readers.tfrecord import first_record, records
from perlsim.readers.waymo_map import (
    AGENT_KINDS,
    LANE_KINDS,
    LINE_KINDS,
    MPH,
    Border,
    LaneFeature,
    MapFeatures,
    Neighbour,
    pack_lights,
)
from perlsim.readers.womd_schema import message_class
from perlsim.scenario import Array, Ego, Lights, Scenario, Tracks

EXAMPLE_KEYS = (b"roadgraph_samples/", b"state/current/")  # in every tf.Example, in no Scenario
LICENCE = "Waymo Dataset License (non-commercial)"
_STATE = (
    "center_x",
    "center_y",
    "center_z",
    "heading",
    "velocity_x",
    "velocity_y",
    "length",
    "width",
    "height",
)


def sniff(path: Path) -> bool:
    """Whether the first record of a TFRecord file is no tf.Example."""
    data = first_record(path)
    return data is not None and not any(key in data for key in EXAMPLE_KEYS)


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the scenarios of a file.

    Raises:
        FormatError: a record is damaged (names its number), or no `Scenario`.
    """
    for number, data in records(path):
        message = message_class("Scenario")()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise FormatError(f"record {number} is no Scenario message ({error})", file=path) from error
        if not message.tracks and not message.map_features:
            raise FormatError(
                f"record {number} holds neither tracks nor a map",
                file=path,
                remedy="it may be of another format, such as tf.Example",
            )
        with reading(path, f"record {number}"):
            raw = _scenario(message, path, number)
        yield finalize(raw)


def _scenario(message: Any, path: Path, number: int) -> Scenario:
    stamps = np.array(message.timestamps_seconds, np.float64)
    features = _map(message.map_features)
    lights = _lights(message.dynamic_map_states, len(stamps), features.lane_rows())
    name = message.scenario_id or f"{path.name}#{number}"
    ego = message.sdc_track_index if message.HasField("sdc_track_index") else -1
    return Scenario(
        scenario_id=name,
        source="womd",
        dt=time_step(stamps, 0.1),
        tracks=_tracks(message.tracks, len(stamps)),
        ego=Ego(ego),
        lights=lights,
        road=features.road(lights),
        recording_id=name,
        dataset="waymo",
        licence=LICENCE,
        start_time=float(stamps[0]) if len(stamps) else 0.0,
        source_file=path.name,
    )


def _tracks(messages: Any, num_steps: int) -> Tracks:
    values = np.zeros((len(messages), num_steps, len(_STATE)))
    valid = np.zeros((len(messages), num_steps), bool)
    for row, track in enumerate(messages):
        if len(track.states) != num_steps:
            raise ValueError(f"track {track.id} has {len(track.states)} states, there are {num_steps} steps")
        for step, state in enumerate(track.states):
            if state.valid:
                valid[row, step] = True
                values[row, step] = [getattr(state, name) for name in _STATE]
    size = median_sizes(values[..., 6:], valid)
    position = values[..., :3]
    position[..., 2] -= 0.5 * np.nan_to_num(size[:, None, 2])
    kinds = [track.object_type for track in messages]
    return Tracks(
        position=position,
        heading=values[..., 3],
        velocity=values[..., 4:6],
        size=size,
        kind=np.array([AGENT_KINDS[k] if 0 <= k < 4 else AGENT_KINDS[0] for k in kinds], np.int8),
        valid=valid,
        ids=tuple(str(track.id) for track in messages),
    )


def median_sizes(sizes: Array, valid: Array) -> Array:
    """One size for each road user: the median over its valid steps, ``[A, 3]``; NaN where it has none."""
    result = np.full((len(sizes), 3), np.nan)
    for row in np.flatnonzero(valid.any(1)):
        result[row] = np.median(sizes[row, valid[row]], axis=0)
    return result


def _points(messages: Any) -> Array:
    return np.array([(point.x, point.y, point.z) for point in messages], np.float64).reshape(-1, 3)


def _map(messages: Any) -> MapFeatures:
    features = MapFeatures()
    for message in messages:
        name = str(message.id)
        if message.HasField("lane"):
            features.lanes[name] = _lane(message.lane)
        elif message.HasField("road_line"):
            features.lines[name] = (_points(message.road_line.polyline), _line_kind(message.road_line.type))
        elif message.HasField("road_edge"):
            features.edges[name] = _points(message.road_edge.polyline)
        elif message.HasField("crosswalk"):
            features.crosswalks.append(_points(message.crosswalk.polygon))
        elif message.HasField("stop_sign"):
            sign = message.stop_sign
            features.stop_signs.append((_points([sign.position])[0], [str(lane) for lane in sign.lane]))
    return features


def _line_kind(code: int):
    return LINE_KINDS[code] if 0 <= code < len(LINE_KINDS) else LINE_KINDS[0]


def _lane(lane: Any) -> LaneFeature:
    def borders(segments: Any) -> list[Border]:
        return [Border(s.lane_start_index, s.lane_end_index, str(s.boundary_feature_id)) for s in segments]

    def beside(neighbours: Any) -> list[Neighbour]:
        return [
            Neighbour(str(n.feature_id), [_line_kind(b.boundary_type) for b in n.boundaries])
            for n in neighbours
        ]

    return LaneFeature(
        centre=_points(lane.polyline),
        kind=LANE_KINDS[lane.type] if 0 <= lane.type < len(LANE_KINDS) else LANE_KINDS[0],
        # 0 is what a field that was not set reads as.
        speed_limit=lane.speed_limit_mph * MPH if lane.speed_limit_mph > 0 else float("nan"),
        in_junction=lane.interpolating,
        exits=[str(name) for name in lane.exit_lanes],
        entries=[str(name) for name in lane.entry_lanes],
        left=beside(lane.left_neighbors),
        right=beside(lane.right_neighbors),
        left_borders=borders(lane.left_boundaries),
        right_borders=borders(lane.right_boundaries),
    )


def _lights(steps: Any, num_steps: int, lane_rows: dict[str, int]) -> Lights:
    seen = (
        (step, str(light.lane), light.state, _points([light.stop_point])[0])
        for step, states in enumerate(steps)
        for light in states.lane_states
    )
    return pack_lights(seen, num_steps, lane_rows)
