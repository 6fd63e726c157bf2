"""CARLA recorder logs (``.log``), version 1, as CARLA 0.9 writes them.

Content: a header with the town's name, then packets of one byte id and four bytes size; per frame a start
with the elapsed time, actors added (blueprint, attributes, transform in cm and degrees), deleted,
positions, light states and, where additional data were recorded, bounding boxes (half sizes in cm). Frames
come at the simulation's variable step; they are brought to 0.1 s by interpolation. The world is
left-handed: y and yaw are flipped.

The town comes from `ReadOptions.maps` (``Town01.xodr`` or ``Town01.xodr.gz``); without it the scenario has
no road and says so in `Scenario.missing`. The ego is the actor named by `ReadOptions.ego` (its id or role
name), else the vehicle whose role is "hero" or "ego_vehicle". A recording is cut into windows of
`ReadOptions.window` seconds. A file that ends inside a frame is read up to the frame before, which
`Scenario.repairs` states.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions
from perlsim.readers.box_tables import note_repeated, note_unplaced
from perlsim.readers.carla_names import EGO_ROLES, LIGHT_STATES, agent_type, right_handed
from perlsim.readers.carla_town import MARGIN, crop_town, load_town, place_lights
from perlsim.readers.fields import ODD_STATE
from perlsim.readers.finalize import finalize
from perlsim.readers.resampling import TimeGrid
from perlsim.readers.windows import select, windows
from perlsim.scenario import Array, Ego, Lights, Road, Scenario, Tracks
from perlsim.vocabulary import AgentType, LightState
from perlsim.worlds.opendrive import box_around

DT = 0.1  # s
PROP_RANGE = 50.0  # m from the ego (or any vehicle) within which props are kept
_LOWEST_PROP = 0.2  # m, lower props (dirt, puddles) are driven over
_WALKER_HALF_HEIGHT = 0.93  # m: a walker's origin is its capsule's centre
_LONGEST = 24 * 3600.0  # s
_MAGIC = b"\x0e\x00CARLA_RECORDER"
_CENTIMETRE = 0.01

_POSITION = np.dtype([("id", "<u4"), ("location", "<f4", 3), ("rotation", "<f4", 3)])
_LIGHT = np.dtype([("id", "<u4"), ("frozen", "u1"), ("elapsed", "<f4"), ("state", "i1")])
_BOX = np.dtype([("id", "<u4"), ("origin", "<f4", 3), ("extent", "<f4", 3)])
# Packet ids (CarlaRecorderPacketId); the others are skipped by their size.
_FRAME_START, _FRAME_END, _ADDED, _POSITIONS, _LIGHTS, _BOXES = 0, 1, 2, 6, 7, 13


@dataclass(frozen=True)
class _Actor:
    blueprint: str
    location: tuple[float, float, float]
    yaw: float
    attributes: dict[str, str]


@dataclass
class _Log:
    """What the packets hold, still in CARLA's units and frame."""

    town: str
    date: int
    elapsed: list[float] = field(default_factory=list)
    positions: list[Array] = field(default_factory=list)
    lights: list[Array] = field(default_factory=list)
    actors: dict[int, _Actor] = field(default_factory=dict)
    boxes: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)


def sniff(path: Path) -> bool:
    """Whether the file starts as a recorder log does."""
    try:
        with Path(path).open("rb") as file:
            return file.read(2 + len(_MAGIC))[2:] == _MAGIC
    except OSError:
        return False


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the windows of a recording.

    Raises:
        FormatError: where the header, version, packets or time stamps are not as they should be, or the ego
            asked for is not there.
    """
    path = Path(path)
    log = _parse(path)
    ego_id = _ego_id(log, options.ego, path)
    town = load_town(options.maps, log.town)
    elapsed = np.array(log.elapsed)
    steps = int((elapsed[-1] - elapsed[0]) / DT + 1e-6) + 1
    found = False
    for idx, window in enumerate(windows(steps, DT, options.window)):
        times = elapsed[0] + DT * np.arange(window.start, window.stop)
        if ((elapsed >= times[0] - DT) & (elapsed <= times[-1] + DT)).any():
            raw = _scenario(log, times, ego_id, town, path)
            if raw is not None:
                found = True
                yield finalize(raw.replace(scenario_id=f"{path.stem}_{idx:04d}"))
    if not found:
        raise FormatError(
            "no road user is in any frame", file=path, field="positions", remedy="nothing to import"
        )


def _parse(path: Path) -> _Log:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"cannot be read: {error}", file=path) from error
    if data[2 : 2 + len(_MAGIC)] != _MAGIC:
        raise FormatError(
            "not a CARLA recorder log", file=path, field="magic", remedy="check the format's name"
        )
    version = int.from_bytes(data[:2], "little")
    if version != 1:
        raise FormatError(f"expected version 1, found {version}", file=path, field="version")
    try:
        date, at = struct.unpack_from("<q", data, 2 + len(_MAGIC))[0], 10 + len(_MAGIC)
        town, at = _text(data, at)
    except (struct.error, UnicodeDecodeError) as error:
        raise FormatError(f"the header is damaged: {error}", file=path, field="header") from error
    # Newer versions give the path of the map: "Carla/Maps/Town01".
    log = _Log(town.rsplit("/", 1)[-1], date)
    open_frame = False
    while at < len(data):
        if at + 5 > len(data) or at + 5 + (size := struct.unpack_from("<I", data, at + 1)[0]) > len(data):
            log.repairs.append(
                f"the file ends inside a packet; {len(log.elapsed)} frames before it were kept"
            )
            break
        kind, body = data[at], data[at + 5 : at + 5 + size]
        try:
            open_frame = _packet(log, kind, body, open_frame)
        except (struct.error, ValueError, IndexError) as error:
            raise FormatError(
                f"damaged: {error}", file=path, field=f"packet {kind} at byte {at}", remedy="record it again"
            ) from error
        at += 5 + size
    if open_frame:
        # Everything of a frame counts or nothing.
        for rows in (log.elapsed, log.positions, log.lights):
            rows.pop()
    _check(log, path)
    return log


def _packet(log: _Log, kind: int, body: bytes, open_frame: bool) -> bool:
    """Takes one packet in; returns whether a frame is open."""
    if kind == _FRAME_START:
        if open_frame:
            raise ValueError("a frame starts before the last one has ended")
        log.elapsed.append(struct.unpack_from("<Qdd", body)[2])
        log.positions.append(np.zeros(0, _POSITION))
        log.lights.append(np.zeros(0, _LIGHT))
        return True
    if kind == _FRAME_END:
        return False
    if kind in (_POSITIONS, _LIGHTS) and not open_frame:
        raise ValueError("outside a frame")
    if kind == _POSITIONS:
        log.positions[-1] = _records(body, _POSITION)
    elif kind == _LIGHTS:
        log.lights[-1] = _records(body, _LIGHT)
    elif kind == _ADDED:
        _added(log, body)
    elif kind == _BOXES:
        for box in _records(body, _BOX):
            if (
                np.isfinite(box["extent"]).all()
                and (box["extent"] > 0).all()
                and np.isfinite(box["origin"]).all()
            ):
                log.boxes[int(box["id"])] = (
                    box["origin"].astype(float) * _CENTIMETRE,
                    box["extent"].astype(float) * _CENTIMETRE,
                )
    return open_frame


def _records(body: bytes, kind: np.dtype) -> Array:
    count = struct.unpack_from("<H", body)[0]
    if len(body) != 2 + count * kind.itemsize:
        raise ValueError(f"{count} records of {kind.itemsize} bytes do not fill {len(body) - 2} bytes")
    return np.frombuffer(body, kind, count, 2)


def _text(data: bytes, at: int) -> tuple[str, int]:
    length = struct.unpack_from("<H", data, at)[0]
    raw = data[at + 2 : at + 2 + length]
    if len(raw) != length:
        raise struct.error("a text runs past the end")
    return raw.decode(), at + 2 + length


def _added(log: _Log, body: bytes) -> None:
    at = 2
    for _ in range(struct.unpack_from("<H", body)[0]):
        actor_id, _kind, x, y, z, _roll, _pitch, yaw, _uid = struct.unpack_from("<IB6fI", body, at)
        blueprint, at = _text(body, at + struct.calcsize("<IB6fI"))
        count = struct.unpack_from("<H", body, at)[0]
        at += 2
        attributes = {}
        for _ in range(count):
            name, at = _text(body, at + 1)
            attributes[name], at = _text(body, at)
        log.actors.setdefault(actor_id, _Actor(blueprint, (x, y, z), yaw, attributes))


def _check(log: _Log, path: Path) -> None:
    elapsed = np.array(log.elapsed)
    if not len(elapsed):
        raise FormatError("no complete frame", file=path, remedy="the recording was cut short at its start")
    if not np.isfinite(elapsed).all() or (np.diff(elapsed) < 0).any():
        raise FormatError("elapsed times do not increase", file=path, field="frame start")
    if elapsed[-1] - elapsed[0] > _LONGEST:
        raise FormatError(
            f"a recording of {elapsed[-1] - elapsed[0]:.3g} s, expected at most a day",
            file=path,
            field="elapsed",
        )
    # A second frame of the same time says nothing new.
    fresh = np.append(True, np.diff(elapsed) > 0)
    if not fresh.all():
        log.repairs.append(f"{int((~fresh).sum())} frames with the time of the frame before were dropped")
        for name in ("elapsed", "positions", "lights"):
            rows = getattr(log, name)
            setattr(log, name, [row for row, keep in zip(rows, fresh, strict=True) if keep])


def _ego_id(log: _Log, wanted: str | None, path: Path) -> int | None:
    roles = {i: actor.attributes.get("role_name", "") for i, actor in log.actors.items()}
    vehicles = [i for i, a in log.actors.items() if agent_type(a.blueprint, a.attributes) is not None]
    if wanted is None:
        found = [i for role in EGO_ROLES for i in vehicles if roles[i] == role]
        return found[0] if found else None
    found = [i for i in vehicles if str(i) == wanted] or [i for i in vehicles if roles[i] == wanted]
    if not found:
        names = ", ".join(f"{i} ({roles[i]})" for i in vehicles if not roles[i].startswith("prop"))[:300]
        raise FormatError(
            f"no road user has the id or role {wanted!r}",
            file=path,
            field="role_name",
            remedy=f"known are {names or 'none'}",
        )
    return found[0]


def _scenario(log: _Log, times: Array, ego_id: int | None, town, path: Path) -> Scenario | None:
    """One window, not yet finalized; None where nobody is in it."""
    elapsed = np.array(log.elapsed)
    # One frame beyond either end, to interpolate from.
    first = max(int(np.searchsorted(elapsed, times[0], side="right")) - 2, 0)
    last = min(int(np.searchsorted(elapsed, times[-1])) + 2, len(elapsed))
    grid = TimeGrid(elapsed[first:last] - times[0], times - times[0], DT)
    repairs = list(log.repairs)
    tracks = _tracks(log, first, last, grid, repairs)
    ego_idx = tracks.ids.index(str(ego_id)) if str(ego_id) in tracks.ids else -1
    kept = _near_props(tracks, ego_idx)
    tracks = select(tracks, kept)
    if not tracks.num_agents:
        return None
    ego_idx = int(kept[:ego_idx].sum()) if ego_idx >= 0 else -1
    road, lights = _surroundings(log, first, last, grid, tracks, town)
    missing = () if town else (f"map (no OpenDRIVE file of {log.town} in the maps folder)",)
    return Scenario(
        path.stem,
        "carla_recorder",
        DT,
        tracks,
        Ego(ego_idx),
        lights,
        road,
        recording_id=path.stem,
        place=log.town,
        dataset="carla",
        start_time=float(log.date + times[0]),
        source_file=path.name,
        repairs=tuple(repairs),
        missing=missing,
    )


def _tracks(log: _Log, first: int, last: int, grid: TimeGrid, repairs: list[str]) -> Tracks:
    frames = log.positions[first:last]
    rows = np.concatenate(frames)
    frame = np.repeat(np.arange(len(frames)), [len(part) for part in frames])
    kinds = {
        int(i): kind
        for i in np.unique(rows["id"])
        if int(i) in log.actors
        and (kind := agent_type(log.actors[int(i)].blueprint, log.actors[int(i)].attributes)) is not None
    }
    ids = sorted(kinds)
    known = np.isin(rows["id"], ids)
    placed = np.isfinite(rows["location"]).all(1) & np.isfinite(rows["rotation"]).all(1)
    note_unplaced(np.count_nonzero(known & ~placed), repairs)
    rows, frame = rows[known & placed], frame[known & placed]
    agent = np.searchsorted(ids, rows["id"])
    values = np.zeros((len(ids), len(frames), 5))
    valid = np.zeros((len(ids), len(frames)), bool)
    heading = -np.deg2rad(rows["rotation"][:, 2].astype(np.float64))
    centre, size = _boxes(log, ids, kinds)
    cos, sin = np.cos(heading), np.sin(heading)
    location = right_handed(rows["location"] * np.float64(_CENTIMETRE))
    offset = centre[agent]
    values[agent, frame] = np.stack(
        [
            location[:, 0] + cos * offset[:, 0] - sin * offset[:, 1],
            location[:, 1] + sin * offset[:, 0] + cos * offset[:, 1],
            location[:, 2] + offset[:, 2],
            cos,
            sin,
        ],
        axis=1,
    )
    valid[agent, frame] = True
    note_repeated(len(agent) - np.count_nonzero(valid), "last", repairs)
    steps, valid = grid.resample(values, valid)
    tracks = Tracks(
        position=steps[..., :3],
        heading=np.arctan2(steps[..., 4], steps[..., 3]),
        velocity=np.full((len(ids), len(grid.times), 2), np.nan),
        size=size,
        kind=np.array([kinds[i] for i in ids], np.int8),
        valid=valid,
        ids=tuple(str(i) for i in ids),
    )
    return select(tracks, np.any(valid, axis=1))


def _boxes(log: _Log, ids: list[int], kinds: dict[int, AgentType]) -> tuple[Array, Array]:
    """Per actor: box centre in x and y and its bottom in z, in the actor's right-handed frame; full sizes."""
    centre, size = np.zeros((len(ids), 3)), np.full((len(ids), 3), np.nan)
    for row, i in enumerate(ids):
        if i in log.boxes:
            origin, extent = log.boxes[i]
            centre[row] = origin[0], -origin[1], origin[2] - extent[2]
            size[row] = 2 * extent
        elif kinds[i] == AgentType.PEDESTRIAN:
            centre[row, 2] = -_WALKER_HALF_HEIGHT
    return centre, size


def _near_props(tracks: Tracks, ego_idx: int) -> Array:
    """Mask of the agents to keep: all but props that nobody comes near or that are driven over."""
    props = tracks.kind == AgentType.STATIC
    movers = ~props if ego_idx < 0 else np.arange(tracks.num_agents) == ego_idx
    around = tracks.position[movers][tracks.valid[movers]][::5, :2]
    kept = ~props | ~(tracks.size[:, 2] < _LOWEST_PROP)
    for row in np.flatnonzero(props & kept) if len(around) else ():
        place = tracks.position[row][np.argmax(tracks.valid[row])][:2]
        kept[row] = np.linalg.norm(around - place, axis=1).min() <= PROP_RANGE
    return kept


def _surroundings(
    log: _Log, first: int, last: int, grid: TimeGrid, tracks: Tracks, town
) -> tuple[Road, Lights]:
    moving = tracks.position[tracks.valid]
    road, new_lane_idx = crop_town(town, moving) if town else (Road(), np.zeros(0, np.int32))
    frames = log.lights[first:last]
    ids = sorted({int(i) for part in frames for i in part["id"]} & set(log.actors))
    states = np.full((len(ids), len(frames)), LightState.UNKNOWN, np.int8)
    for column, part in enumerate(frames):
        known = np.isin(part["id"], ids)
        states[np.searchsorted(ids, part["id"][known]), column] = [
            LIGHT_STATES.get(int(s), ODD_STATE) for s in part["state"][known]
        ]
    # A state holds from its frame until the next.
    holding = np.maximum(np.searchsorted(grid.stamps, grid.times + 1e-6, side="right") - 1, 0)
    places = right_handed(np.array([log.actors[i].location for i in ids]).reshape(-1, 3) * _CENTIMETRE)
    # The head looks to the right of the traffic that it faces: traffic heads for yaw − 90° (left-handed).
    heading = np.pi / 2 - np.deg2rad(np.array([log.actors[i].yaw for i in ids], np.float64))
    near = np.isfinite(places).all(1) & np.isfinite(heading)
    x_min, y_min, x_max, y_max = box_around(moving, MARGIN)
    near &= ((places[:, :2] >= [x_min, y_min]) & (places[:, :2] <= [x_max, y_max])).all(1)
    return road, place_lights(town, new_lane_idx, places[near], heading[near], states[:, holding][near])
