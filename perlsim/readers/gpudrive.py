"""Reader of GPUDrive's JSON scenarios (Waymo scenes, 10 Hz).

Older files give headings in degrees, newer ones in radians; some mark steps without data by (−10000,
−10000), some by (0.0001, 0.0001), whatever the valid flag says; some name no ego, have no heights, feature
ids or marking types. There is no lane graph: it is inferred from lanes that touch. Heights become ground
heights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from perlsim.errors import FormatError
from perlsim.geometry.polylines import wrap
from perlsim.readers import ReadOptions
from perlsim.readers.fields import numbers, reading
from perlsim.readers.finalize import finalize
from perlsim.readers.waymo_map import (
    CROSSWALK,
    DRIVEWAY,
    FIRST_EDGE,
    FIRST_LINE,
    SPEED_BUMP,
    STOP_SIGN,
    MapFeatures,
    pack_lights,
)
from perlsim.readers.womd import LICENCE
from perlsim.scenario import Array, Ego, Lights, Scenario, Tracks
from perlsim.vocabulary import AgentType

DT = 0.1  # s
_KINDS = {
    "vehicle": AgentType.VEHICLE,
    "pedestrian": AgentType.PEDESTRIAN,
    "cyclist": AgentType.CYCLIST,
}
# Codes for roads that only name their type; the lane code is that of a surface street.
_ROAD_CODES = {
    "lane": 2,
    "road_line": FIRST_LINE,
    "road_edge": FIRST_EDGE + 1,
    "stop_sign": STOP_SIGN,
    "crosswalk": CROSSWALK,
    "speed_bump": SPEED_BUMP,
    "driveway": DRIVEWAY,
}
# Waymo's state codes by GPUDrive's names.
_LIGHT_CODES = {
    "unknown": 0,
    "arrow_stop": 1,
    "arrow_caution": 2,
    "arrow_go": 3,
    "stop": 4,
    "caution": 5,
    "go": 6,
    "flashing_stop": 7,
    "flashing_caution": 8,
}


def sniff(path: Path) -> bool:
    """Whether the JSON starts as a GPUDrive file does, or at least has its keys."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head.lstrip().startswith(b"{"):
        return False
    if b'"objects"' in head and b'"position"' in head:
        return True
    try:
        document = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and {"objects", "roads"} <= set(document)


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the one scenario of a file.

    Raises:
        FormatError: no JSON, or a key is missing or of another type; names it.
    """
    try:
        document = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise FormatError(
            f"no valid JSON ({error})", file=path, remedy="fetch the file again; it is damaged"
        ) from error
    with reading(path, "(top level)"):
        raw = _scenario(document, path)
    yield finalize(raw)


def _scenario(document: dict[str, Any], path: Path) -> Scenario:
    with reading(path, "objects"):
        tracks, repairs = _tracks(list(document["objects"]))
    with reading(path, "roads"):
        features = _map(document["roads"])
        inferred = features.connect_touching()
    with reading(path, "tl_states"):
        lights = _lights(document.get("tl_states") or {}, tracks.num_steps, features.lane_rows())
    with reading(path, "metadata"):
        ego, ego_repairs = _ego(document.get("metadata") or {}, tracks)
    name = str(document.get("scenario_id") or document.get("name") or path.name).removesuffix(".json")
    return Scenario(
        scenario_id=name,
        source="gpudrive",
        dt=DT,
        tracks=tracks,
        ego=Ego(ego),
        lights=lights,
        road=features.road(lights),
        recording_id=name,
        dataset="waymo",
        licence=LICENCE,
        source_file=path.name,
        repairs=(*repairs, *ego_repairs, *inferred),
    )


def _points(points: list[dict[str, float]]) -> Array:
    """Points of ``{"x", "y", "z"}`` as ``[n, 3]``; z is 0 in files without heights."""
    return numbers([(p["x"], p["y"], p.get("z", 0.0)) for p in points] or np.zeros((0, 3)), -1, 3)


def _tracks(objects: list[dict[str, Any]]) -> tuple[Tracks, tuple[str, ...]]:
    num_steps = len(objects[0]["position"]) if objects else 1
    count = len(objects)
    position = np.zeros((count, num_steps, 3))
    velocity, heading = np.zeros((count, num_steps, 2)), np.zeros((count, num_steps))
    valid, size = np.zeros((count, num_steps), bool), np.full((count, 3), np.nan)
    for row, item in enumerate(objects):
        position[row] = _points(item["position"])
        velocity[row] = numbers([(v["x"], v["y"]) for v in item["velocity"]], -1, 2)
        heading[row] = numbers(item["heading"], num_steps)
        valid[row] = numbers(item["valid"], num_steps) > 0
        size[row] = [float(item.get(name) or np.nan) for name in ("length", "width", "height")]
    absent = _is_placeholder(position)
    marked = int(np.count_nonzero(valid & absent))
    valid &= ~absent
    repairs = (f"{marked} steps were marked valid but hold placeholders: masked",) if marked else ()
    heading, angle_repairs = _radians(heading, position, valid)
    height = size[:, 2]
    position[..., 2] -= 0.5 * np.where(height > 0, height, 0.0)[:, None]
    return Tracks(
        position=position,
        heading=heading,
        velocity=velocity,
        size=size,
        kind=np.array([_KINDS.get(str(item["type"]), AgentType.UNKNOWN) for item in objects], np.int8),
        valid=valid,
        ids=tuple(str(item.get("id", row)) for row, item in enumerate(objects)),
    ), (*repairs, *angle_repairs)


def _is_placeholder(position: Array) -> Array:
    """Steps ``[A, T]`` at (−10000, −10000), (0, 0) or (0.0001, 0.0001): no data, whatever the flag says."""
    far = (position[..., :2] == -10000.0).all(-1)
    zero = (np.abs(position[..., :2]) <= 1.0001e-4).all(-1)
    return far | zero


def _radians(heading: Array, position: Array, valid: Array) -> tuple[Array, tuple[str, ...]]:
    """Headings in radians: whichever unit agrees better with the directions of motion.

    A heading beyond 2π is degrees for certain; else degrees need radians to be off by 0.3 rad, since small
    headings fit either. Where nothing moves faster than 2 m/s and no heading is beyond 2π the unit cannot be
    told: radians are assumed, as newer files have them, and a repair says so.
    """
    step = np.diff(position[..., :2], axis=1)
    moving = valid[:, 1:] & valid[:, :-1] & (np.linalg.norm(step, axis=-1) > 2.0 * DT)
    direction = np.arctan2(step[..., 1], step[..., 0])[moving]
    logged = heading[:, :-1][moving]
    if (np.abs(heading[valid]) > 2 * np.pi + 1e-3).any():
        degrees = True
    elif len(logged):
        errors = [np.median(np.abs(wrap(unit * logged - direction))) for unit in (1.0, np.pi / 180)]
        degrees = bool(errors[0] > 0.3 and errors[1] < errors[0])
    else:
        return heading, ("the unit of headings cannot be told as nothing moves: taken as radians",)
    return (np.radians(heading), ("headings were in degrees: converted",)) if degrees else (heading, ())


def _map(roads: list[dict[str, Any]]) -> MapFeatures:
    features = MapFeatures()
    for row, road in enumerate(roads):
        kind = str(road["type"])
        code = road.get("map_element_id")
        if type(code) is not int:
            code = _ROAD_CODES.get(kind, -1)
        geometry = road["geometry"]
        name = str(road.get("id", f"row {row}"))
        features.add_coded(name, code, _points(geometry if isinstance(geometry, list) else [geometry]))
    return features


def _lights(states: dict[str, Any], num_steps: int, lane_rows: dict[str, int]) -> Lights:
    """Lights by lane id; each holds parallel lists of states, steps and positions."""
    seen = []
    for name, light in states.items():
        points = numbers([light["x"], light["y"], light.get("z") or np.zeros(len(light["x"]))], 3, -1).T
        steps = light.get("time_index", range(len(points)))
        for step, state, point in zip(steps, light["state"], points, strict=True):
            seen.append((int(step), str(name), _LIGHT_CODES.get(str(state), -1), point))
    return pack_lights(seen, num_steps, lane_rows)


def _ego(metadata: dict[str, Any], tracks: Tracks) -> tuple[int, tuple[str, ...]]:
    """The ego's row, −1 where none is named; one that cannot be it is left out with a note."""
    row = metadata.get("sdc_track_index")
    if row is None:
        return -1, ()
    if type(row) is not int or not 0 <= row < tracks.num_agents:
        return -1, (f"the ego index {row} is not among {tracks.num_agents} agents: no ego",)
    if not tracks.valid[row].any():
        return -1, (f"the ego ({tracks.ids[row]}) is never valid: no ego",)
    return row, ()
