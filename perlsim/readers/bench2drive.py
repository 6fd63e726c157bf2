"""Bench2Drive clips: a folder with ``anno/00000.json.gz`` and so on, ten frames a second.

Tested on files written to the public schema (docs/anno.md and tools/ of the public repository), as no real
clip was at hand. What the schema says, and its traps: CARLA's left-handed world, metres and degrees,
rotations as pitch, roll, yaw; extents are half sizes; ``bounding_boxes[0]`` is the ego; walkers' speed is
always 0, so that velocities of walkers are left to differentiation; the location of static vehicles is
wrong, so that ``center`` is taken for all; ``theta`` may be NaN and is not used; light states are numbered
Red 0, Yellow 1, Green 2, Off 3.

The map is ``TownXX_HD_map.npz``, beside the clip or in `ReadOptions.maps`, else an OpenDRIVE town in
`ReadOptions.maps`; without either the scenario has no road and says so in `Scenario.missing`, and of
lights and stop signs only those remain that affect the ego at some time, since the others' direction is
not given.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions
from perlsim.readers.bench2drive_map import HdMap, find_hd_map, read_hd_map
from perlsim.readers.box_tables import note_repeated
from perlsim.readers.carla_names import LIGHT_STATES, agent_type, right_handed
from perlsim.readers.carla_town import crop_town, load_town, place_lights
from perlsim.readers.fields import ODD_STATE
from perlsim.readers.finalize import finalize
from perlsim.scenario import Array, Ego, Lights, Road, Scenario, StopSigns, Tracks
from perlsim.vocabulary import AgentType, LightState
from perlsim.worlds.opendrive import OpenDriveMap

DT = 0.1  # s
_FRAME = re.compile(r"(\d{1,8})\.json\.gz")
_TOWN = re.compile(r"Town\d+[A-Za-z]*")
_MOST_FRAMES = 36_000  # an hour


def sniff(path: Path) -> bool:
    """Whether the folder holds ``anno`` with numbered ``.json.gz`` files."""
    try:
        return any(_FRAME.fullmatch(file.name) for file in (Path(path) / "anno").iterdir())
    except OSError:
        return False


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the one scenario of a clip.

    Raises:
        FormatError: names the frame and field that break the schema.
    """
    path = Path(path)
    files = _frame_files(path)
    first, last = min(files), max(files)
    if last - first >= _MOST_FRAMES:
        raise FormatError(
            f"frames {first} to {last} are no clip", file=path / "anno", remedy="check file names"
        )
    frames = {number - first: _boxes(file) for number, file in sorted(files.items())}
    steps = last - first + 1
    repairs = [] if len(files) == steps else [f"{steps - len(files)} frames are missing: left invalid"]
    tracks = _tracks(frames, steps, repairs)
    moving = tracks.position[tracks.valid]
    moving = moving[np.isfinite(moving).all(1)]
    if not len(moving):
        raise FormatError("no position is a finite number", file=path, field="bounding_boxes.center")
    town_name = (_TOWN.findall(path.name) or [""])[-1]
    town, hd_map = _town(path, options, town_name)
    road, new_lane_idx = Road(), np.zeros(0, np.int32)
    if town is not None:
        road, new_lane_idx = crop_town(town, moving)
        road = hd_map.with_edges(road) if hd_map else road
    lights = _lights(frames, steps, town, new_lane_idx)
    if town is None:
        road = Road(stop_signs=_stop_signs(frames))
    yield finalize(
        Scenario(
            path.name,
            "bench2drive",
            DT,
            tracks,
            Ego(0),
            lights,
            road,
            recording_id=path.name,
            place=town_name,
            dataset="bench2drive",
            start_time=first * DT,
            source_file=path.name,
            repairs=tuple(repairs),
            missing=()
            if town
            else (f"map (neither {town_name}_HD_map.npz nor its OpenDRIVE file was found)",),
        )
    )


def _frame_files(path: Path) -> dict[int, Path]:
    try:
        names = [
            (match, file) for file in (path / "anno").iterdir() if (match := _FRAME.fullmatch(file.name))
        ]
    except OSError as error:
        raise FormatError(f"the folder anno cannot be read: {error}", file=path) from error
    if not names:
        raise FormatError("the folder anno holds no frames", file=path, remedy="unpack the clip again")
    return {int(match[1]): file for match, file in names}


def _boxes(file: Path) -> list[dict]:
    """The bounding boxes of one frame, the ego first."""
    try:
        content = json.loads(gzip.decompress(file.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise FormatError(f"not readable: {error}", file=file, remedy="fetch the clip again") from error
    boxes = content.get("bounding_boxes") if isinstance(content, dict) else None
    if not isinstance(boxes, list) or not boxes or not all(isinstance(box, dict) for box in boxes):
        raise FormatError("expected a list of boxes, the ego first", file=file, field="bounding_boxes")
    if boxes[0].get("class") != "ego_vehicle":
        raise FormatError(
            f"expected the ego, found {boxes[0].get('class')!r}", file=file, field="bounding_boxes[0].class"
        )
    for place, box in enumerate(boxes):
        for key, needed in (("center", True), ("extent", True), ("rotation", True), ("location", False)):
            _check_vector(box, key, needed, file, place)
        if not isinstance(box.get("id", ""), str | int):
            raise FormatError("expected an id", file=file, field=f"bounding_boxes[{place}].id")
    return boxes


def _check_vector(box: dict, key: str, needed: bool, file: Path, place: int) -> None:
    value = box.get(key)
    if value is None and not needed:
        return
    try:
        box[key] = np.array(value, np.float64)
        fits = box[key].shape == (3,)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise FormatError(
            f"expected three numbers, found {value!s:.60}", file=file, field=f"bounding_boxes[{place}].{key}"
        )


def _kind(box: dict) -> AgentType | None:
    """Kind of road user of a box, None for lights and signs that stand beside the road."""
    name = str(box.get("type_id", ""))
    if box.get("class") == "walker":
        return AgentType.PEDESTRIAN
    if box.get("class") in ("ego_vehicle", "vehicle"):
        # Static vehicles carry the path of their mesh as type.
        base = {"base_type": str(box.get("base_type", ""))}
        return agent_type(name if name.startswith("vehicle.") else f"static.vehicle.{name}", base)
    # Cones and warning signs on the road are listed as signs, but unlike those have no trigger volume.
    if box.get("class") == "traffic_sign" and name.startswith("static.prop") and "dirt" not in name:
        return AgentType.STATIC
    return None


def _tracks(frames: dict[int, list[dict]], steps: int, repairs: list[str]) -> Tracks:
    rows: dict[str, int] = {}
    kinds, sizes = [], []
    found: dict[tuple[int, int], dict] = {}
    repeated = 0
    for step, boxes in frames.items():
        for place, box in enumerate(boxes):
            kind = _kind(box)
            if kind is None:
                continue
            # The ego may change its actor id between recordings of one clip, never its place.
            name = "ego" if place == 0 else str(box.get("id", ""))
            if name not in rows:
                rows[name] = len(rows)
                kinds.append(kind)
                sizes.append(2 * box["extent"])
            repeated += (rows[name], step) in found
            found.setdefault((rows[name], step), box)
    position, heading = np.zeros((len(rows), steps, 3)), np.zeros((len(rows), steps))
    velocity, valid = np.full((len(rows), steps, 2), np.nan), np.zeros((len(rows), steps), bool)
    note_repeated(repeated, "first", repairs)
    for (row, step), box in found.items():
        centre = right_handed(box["center"])
        position[row, step] = centre[0], centre[1], centre[2] - box["extent"][2]
        heading[row, step] = -np.deg2rad(box["rotation"][2])
        valid[row, step] = True
        speed = _speed(box)
        moves = kinds[row] not in (AgentType.PEDESTRIAN, AgentType.STATIC)
        if moves:
            velocity[row, step] = speed * np.array([np.cos(heading[row, step]), np.sin(heading[row, step])])
    size = np.array(sizes)
    size[~(np.isfinite(size) & (size > 0))] = np.nan
    return Tracks(position, heading, velocity, size, np.array(kinds, np.int8), valid, tuple(rows))


def _speed(box: dict) -> float:
    """Speed along the heading [m/s], NaN where it is no number ("None" is known to occur)."""
    try:
        return float(box["speed"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return float("nan")


def _town(path: Path, options: ReadOptions, name: str) -> tuple[OpenDriveMap | None, HdMap | None]:
    found = find_hd_map([path, path.parent, path.parent / "maps", options.maps], name)
    if found is None:
        return load_town(options.maps, name), None
    hd_map = read_hd_map(found)
    return OpenDriveMap(name, hd_map.road, hd_map.signals), hd_map


def _places(frames: dict[int, list[dict]], wanted: str) -> dict[str, Array]:
    """Where each light or sign acts: its trigger volume, else its box; right-handed, first sighting."""
    places: dict[str, Array] = {}
    for boxes in frames.values():
        for box in boxes:
            name = str(box.get("type_id", "")) if wanted != "traffic_light" else str(box.get("class", ""))
            key = str(box.get("id", ""))
            if not name.startswith(wanted) or key in places:
                continue
            place: Any = box.get("trigger_volume_location", box["center"])
            try:
                place = np.array(place, np.float64)
            except (TypeError, ValueError, OverflowError):
                continue
            if place.shape == (3,) and np.isfinite(place).all():
                places[key] = right_handed(place)
    return places


def _lights(frames, steps: int, town: OpenDriveMap | None, new_lane_idx: Array) -> Lights:
    places = _places(frames, "traffic_light")
    state = np.full((len(places), steps), LightState.UNKNOWN, np.int8)
    order = {key: row for row, key in enumerate(places)}
    for step, boxes in frames.items():
        for box in boxes:
            key, value = str(box.get("id", "")), box.get("state")
            if box.get("class") == "traffic_light" and key in order and isinstance(value, int):
                state[order[key], step] = LIGHT_STATES.get(value, ODD_STATE)
    positions = np.array(list(places.values())).reshape(-1, 3)
    heading = _facing(frames, list(places))
    return place_lights(town, new_lane_idx, positions, heading, state, by_stop_point=True)


def _facing(frames: dict[int, list[dict]], keys: list[str]) -> Array:
    """Direction of the traffic before each light or sign: the ego's in the last frame that it affects it."""
    heading = dict.fromkeys(keys, np.nan)
    for boxes in frames.values():
        for box in boxes:
            key = str(box.get("id", ""))
            if box.get("affects_ego") is True and key in heading:
                heading[key] = -np.deg2rad(boxes[0]["rotation"][2])
    return np.array(list(heading.values()), np.float64)


def _stop_signs(frames: dict[int, list[dict]]) -> StopSigns:
    """Stop signs where there is no map: where their trigger volumes lie."""
    places = _places(frames, "traffic.stop")
    positions = np.array(list(places.values())).reshape(-1, 3)
    return StopSigns(positions, _facing(frames, list(places)), np.full(len(places), -1, np.int32))
