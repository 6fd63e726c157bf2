"""Reader of ScenarioNet pickles (Waymo and nuScenes scenes, 10 Hz), through the allow-list unpickler.

Traps: older Waymo files give one ``size`` instead of length, width and height, and lights by integer
codes. nuScenes egos are rear-axle poses with length and width swapped; nuScenes maps have no heights (the
third number of a lane point is its heading), no lane graph and a placeholder for the speed limit, and
their ``boundary_*`` lines are the rings of the drivable area.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions, safe_pickle
from perlsim.readers.fields import numbers, reading, time_step
from perlsim.readers.finalize import finalize
from perlsim.readers.scenarionet_map import lights_of, map_of, road_of
from perlsim.readers.womd import LICENCE, median_sizes
from perlsim.scenario import Array, Ego, Scenario, Tracks
from perlsim.vocabulary import AgentType

_NUSCENES_LICENCE = "CC BY-NC-SA 4.0"
_KINDS = {
    "VEHICLE": AgentType.VEHICLE,
    "PEDESTRIAN": AgentType.PEDESTRIAN,
    "CYCLIST": AgentType.CYCLIST,
    "TRAFFIC_CONE": AgentType.STATIC,
    "TRAFFIC_BARRIER": AgentType.STATIC,
    "TRAFFIC_OBJECT": AgentType.STATIC,
}
# nuScenes keeps its own class names in the metadata of a track.
_NUSCENES_KINDS = {
    "vehicle.motorcycle": AgentType.MOTORCYCLIST,
    "vehicle.bus.rigid": AgentType.BUS,
    "vehicle.bus.bendy": AgentType.BUS,
    "vehicle.truck": AgentType.TRUCK,
    "vehicle.construction": AgentType.TRUCK,
    "vehicle.trailer": AgentType.TRUCK,
}
# The nuScenes car is a Renault Zoe: wheelbase 2.588 m, length 4.084 m (maker's data sheet). Ego poses are
# at the middle of the rear axle; the front overhang is 0.84 m and the rear 0.66 m, so the centre lies 1.39
# m ahead.
_ZOE_WHEELBASE, _ZOE_AXLE_TO_CENTRE = 2.588, 1.39


def sniff(path: Path) -> bool:
    """Whether this is a pickle with ScenarioNet's keys; nothing is unpickled."""
    data = path.read_bytes()
    return data[:1] == b"\x80" and b"map_features" in data and b"sdc_id" in data


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the one scenario of a file.

    Raises:
        FormatError: the pickle holds more than plain data, or a key is missing or of another type.
    """
    document = safe_pickle.load(path)
    with reading(path, "(top level)"):
        if not isinstance(document, dict) or not {"tracks", "map_features", "metadata"} <= set(document):
            raise FormatError("the pickle is no ScenarioNet scenario: its keys are missing", file=path)
        raw = _scenario(document, path)
    yield finalize(raw)


def _scenario(document: dict[str, Any], path: Path) -> Scenario:
    metadata = document["metadata"]
    dataset = str(metadata.get("dataset", ""))
    with reading(path, "metadata.ts"):
        stamps = numbers(metadata["ts"], -1)
        dt = time_step(stamps, 0.1)
    names = [str(name) for name in document["tracks"]]
    ego = names.index(str(metadata["sdc_id"])) if str(metadata.get("sdc_id")) in names else -1
    with reading(path, "tracks"):
        tracks = _tracks(document["tracks"], len(stamps))
    with reading(path, "map_features"):
        features = map_of(document["map_features"], flat=dataset == "nuscenes")
        repairs = () if any(lane.exits for lane in features.lanes.values()) else features.connect_touching()
    with reading(path, "dynamic_map_states"):
        lights = lights_of(document.get("dynamic_map_states") or {}, len(stamps), features.lane_rows())
    with reading(path, "map_features"):
        road = road_of(features, lights, document["map_features"])
    chassis = Ego(ego)
    if dataset == "nuscenes":
        tracks, chassis, more = _mended_nuscenes(tracks, ego)
        repairs += more
    name = str(document.get("id") or metadata.get("scenario_id") or path.stem)
    return Scenario(
        scenario_id=name,
        source="scenarionet",
        dt=dt,
        tracks=tracks,
        ego=chassis,
        lights=lights,
        road=road,
        recording_id=_recording(metadata, name),
        place=str(metadata.get("map", "")) if dataset == "nuscenes" else "",
        dataset=dataset,
        licence={"waymo": LICENCE, "nuscenes": _NUSCENES_LICENCE}.get(dataset, ""),
        start_time=float(stamps[0]) if len(stamps) else 0.0,
        source_file=path.name,
        repairs=repairs,
    )


def _recording(metadata: dict[str, Any], name: str) -> str:
    """What scenes share when they may show the same drive: Waymo's source file, nuScenes' place and day."""
    if metadata.get("source_file"):
        return str(metadata["source_file"])
    if metadata.get("map") and metadata.get("date"):
        return f"{metadata['map']} {metadata['date']}"
    return name


def _tracks(tracks: dict[str, Any], num_steps: int) -> Tracks:
    count = len(tracks)
    position, velocity = np.zeros((count, num_steps, 3)), np.zeros((count, num_steps, 2))
    heading, valid = np.zeros((count, num_steps)), np.zeros((count, num_steps), bool)
    sizes = np.full((count, num_steps, 3), np.nan)
    for row, track in enumerate(tracks.values()):
        state = track["state"]
        position[row] = numbers(state["position"], num_steps, 3)
        velocity[row] = numbers(state["velocity"], num_steps, 2)
        heading[row] = numbers(np.ravel(state["heading"]), num_steps)
        valid[row] = numbers(np.ravel(state["valid"]), num_steps) > 0
        sizes[row] = _sizes(state, num_steps)
    size = median_sizes(sizes, valid)
    position[..., 2] -= 0.5 * np.where(size[:, 2] > 0, size[:, 2], 0.0)[:, None]
    return Tracks(
        position=position,
        heading=heading,
        velocity=velocity,
        size=size,
        kind=np.array([_kind(track) for track in tracks.values()], np.int8),
        valid=valid,
        ids=tuple(str(name) for name in tracks),
    )


def _sizes(state: dict[str, Any], num_steps: int) -> Array:
    """Length, width, height at each step, ``[T, 3]``."""
    if "size" in state:
        return numbers(state["size"], num_steps, 3)
    return np.stack([numbers(np.ravel(state[k]), num_steps) for k in ("length", "width", "height")], axis=-1)


def _kind(track: dict[str, Any]) -> AgentType:
    original = (track.get("metadata") or {}).get("type")
    return _NUSCENES_KINDS.get(str(original), _KINDS.get(str(track["type"]), AgentType.UNKNOWN))


def _mended_nuscenes(tracks: Tracks, ego: int) -> tuple[Tracks, Ego, tuple[str, ...]]:
    """Sets heights to that of the flat map, and turns the ego's rear-axle poses into box centres."""
    tracks.position[..., 2] = 0.0
    repairs = ["the map has no heights: all heights are 0"]
    if ego < 0:
        return tracks, Ego(-1), tuple(repairs)
    length, width, _ = tracks.size[ego]
    if width > length:
        tracks.size[ego, :2] = width, length
        repairs.append("length and width of the ego were swapped: put right")
    heading = tracks.heading[ego]
    tracks.position[ego, :, 0] += _ZOE_AXLE_TO_CENTRE * np.cos(heading)
    tracks.position[ego, :, 1] += _ZOE_AXLE_TO_CENTRE * np.sin(heading)
    repairs.append("poses of the ego were of its rear axle: moved to the box centre")
    return tracks, Ego(ego, _ZOE_WHEELBASE, _ZOE_AXLE_TO_CENTRE), tuple(repairs)
