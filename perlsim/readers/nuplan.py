"""nuPlan logs: SQLite ``.db`` files, schema v1.1, with GeoPackage maps in `ReadOptions.maps`.

Tested on files written to the public schema (the devkit's nuplan_db_orm and maps), as no real log was at
hand. Frames are lidar sweeps at 20 Hz, of which every second is taken (10 Hz). Boxes are in the map's UTM
frame. The ego's pose is that of its rear axle; tracks hold its box centre, 1.461 m ahead (Pacifica: 5.176
m long, 1.127 m of it behind the axle), and its velocity there, turned from the ego frame. The maps have no
heights, so that all z are 0: roads that cross on two levels cannot be told apart. A log is cut into
windows of `ReadOptions.window` seconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions
from perlsim.readers.box_tables import note_repeated, note_unplaced
from perlsim.readers.fields import ODD_STATE
from perlsim.readers.finalize import finalize
from perlsim.readers.nuplan_map import NuplanMap, find_map, read_map
from perlsim.readers.resampling import TimeGrid, time_grid
from perlsim.readers.sqlite import MAGIC, columns, need_columns, opened
from perlsim.readers.windows import select, windows
from perlsim.scenario import Array, Ego, Lights, Road, Scenario, Tracks
from perlsim.vocabulary import AgentType, LightState

DT = 0.1  # s between the sweeps that are taken
MARGIN = 100.0  # m of map kept around everything that moves
# Chrysler Pacifica (devkit, vehicle_parameters): length, width, height, wheelbase, rear axle to box centre.
EGO_SIZE = (4.049 + 1.127, 2 * 1.1485, 1.777)
WHEELBASE = 3.089
REAR_AXLE_TO_CENTRE = (4.049 - 1.127) / 2

_KINDS = {
    "vehicle": AgentType.VEHICLE,
    "bicycle": AgentType.CYCLIST,
    "pedestrian": AgentType.PEDESTRIAN,
    "traffic_cone": AgentType.STATIC,
    "barrier": AgentType.STATIC,
    "czone_sign": AgentType.STATIC,
    "generic_object": AgentType.STATIC,
}
_STATES = {
    "green": LightState.GREEN,
    "yellow": LightState.YELLOW,
    "red": LightState.RED,
    "unknown": LightState.UNKNOWN,
}
_TABLES = {
    "lidar_pc": ("token", "ego_pose_token", "timestamp"),
    "ego_pose": ("token", "x", "y", "qw", "qx", "qy", "qz", "vx", "vy", "angular_rate_z"),
    "lidar_box": ("lidar_pc_token", "track_token", "x", "y", "vx", "vy", "yaw"),
    "track": ("token", "category_token", "width", "length", "height"),
    "category": ("token", "name"),
    "log": ("location", "map_version"),
}


@dataclass(frozen=True)
class _Frames:
    """The sweeps that are taken: tokens, times [µs], and the ego's rows ``[N, 8]`` (x, y, q, v, yaw rate)."""

    tokens: list[bytes]
    stamps: Array
    ego: Array


def sniff(path: Path) -> bool:
    """Whether the file is an SQLite database with nuPlan's tables."""
    try:
        with Path(path).open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return False
        with opened(Path(path)) as connection:
            return all(columns(connection, table) for table in ("lidar_pc", "ego_pose", "lidar_box"))
    except (OSError, FormatError):
        return False


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the windows of a log.

    Raises:
        FormatError: names the table that is missing or damaged.
    """
    path = Path(path)
    with opened(path) as connection:
        for table, wanted in _TABLES.items():
            need_columns(connection, table, wanted, path)
        try:
            yield from _windows(connection, path, options)
        except (TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                f"values are not of the schema's types: {error}", file=path, remedy="fetch the log again"
            ) from error


def _windows(connection: sqlite3.Connection, path: Path, options: ReadOptions) -> Iterator[Scenario]:
    row = connection.execute("SELECT location, map_version FROM log").fetchone()
    if row is None:
        raise FormatError("the table holds no row", file=path, field="log")
    names = (str(row["map_version"] or ""), str(row["location"] or ""))
    found = find_map(options.maps, names)
    city = read_map(found) if found else None
    frames = _frames(connection, path)
    seconds = (frames.stamps - frames.stamps[0]) * 1e-6
    grid = time_grid(seconds, path, "lidar_pc.timestamp")
    for idx, window in enumerate(windows(len(grid.times), grid.dt, options.window)):
        times = grid.times[window]
        first = max(int(np.searchsorted(seconds, times[0], side="right")) - 2, 0)
        last = min(int(np.searchsorted(seconds, times[-1])) + 2, len(seconds))
        if not ((seconds >= times[0] - grid.dt) & (seconds <= times[-1] + grid.dt)).any():
            continue
        part = _Frames(frames.tokens[first:last], frames.stamps[first:last], frames.ego[first:last])
        local = TimeGrid(seconds[first:last] - times[0], times - times[0], grid.dt)
        repairs: list[str] = []
        tracks = _tracks(connection, part, local, repairs)
        road, lights = _surroundings(connection, part, local, tracks, city)
        yield finalize(
            Scenario(
                f"{path.stem}_{idx:04d}",
                "nuplan",
                grid.dt,
                tracks,
                Ego(0, WHEELBASE, REAR_AXLE_TO_CENTRE),
                lights,
                road,
                recording_id=path.stem,
                place=names[1] or names[0],
                dataset="nuplan",
                licence="CC BY-NC-SA 4.0",
                start_time=float(frames.stamps[0] * 1e-6 + times[0]),
                source_file=path.name,
                repairs=tuple(repairs),
                missing=("heights",)
                if city
                else (f"map (no GeoPackage of {names[0] or names[1]})", "heights"),
            )
        )


def _frames(connection: sqlite3.Connection, path: Path) -> _Frames:
    """Every second sweep, or as many as lie about 0.1 s apart."""
    rows = connection.execute(
        "SELECT lp.token, lp.timestamp, ep.x, ep.y, ep.qw, ep.qx, ep.qy, ep.qz, ep.vx, ep.vy,"
        " ep.angular_rate_z FROM lidar_pc AS lp JOIN ego_pose AS ep ON ep.token = lp.ego_pose_token"
        " ORDER BY lp.timestamp"
    ).fetchall()
    if not rows:
        raise FormatError("no sweep has an ego pose", file=path, field="lidar_pc")
    stamps = np.array([row["timestamp"] for row in rows], np.int64)
    # Sweeps of a second lidar carry the same pose again.
    kept = np.flatnonzero(np.append(True, np.diff(stamps) > 1000))
    interval = float(np.median(np.diff(stamps[kept]))) * 1e-6 if len(kept) > 1 else DT
    kept = kept[:: max(round(DT / interval), 1)]
    ego = np.array([[np.nan if value is None else value for value in rows[i][2:]] for i in kept], np.float64)
    return _Frames([rows[i]["token"] for i in kept], stamps[kept], ego)


def _ego(frames: _Frames) -> tuple[Array, Array]:
    """The ego's box centre, cosine and sine of heading, velocity ``[N, 6]``, and where they are known."""
    x, y, qw, qx, qy, qz, vx, vy, yaw_rate = frames.ego.T
    heading = np.arctan2(2 * (qw * qz + qx * qy), 1 - 2 * (qy**2 + qz**2))
    cos, sin = np.cos(heading), np.sin(heading)
    across = vy + yaw_rate * REAR_AXLE_TO_CENTRE
    values = np.stack(
        [
            x + cos * REAR_AXLE_TO_CENTRE,
            y + sin * REAR_AXLE_TO_CENTRE,
            cos,
            sin,
            cos * vx - sin * across,
            sin * vx + cos * across,
        ],
        axis=1,
    )
    return values, np.all(np.isfinite(values[:, :4]), axis=1)


def _tracks(connection: sqlite3.Connection, frames: _Frames, grid: TimeGrid, repairs: list[str]) -> Tracks:
    ids: dict[bytes, int] = {b"": 0}
    kinds, sizes = [AgentType.VEHICLE], [list(EGO_SIZE)]
    cells: list[tuple] = []
    for column, token in enumerate(frames.tokens):
        boxes = connection.execute(
            "SELECT b.track_token, b.x, b.y, b.yaw, b.vx, b.vy, t.length, t.width, t.height, c.name"
            " FROM lidar_box AS b JOIN track AS t ON t.token = b.track_token"
            " JOIN category AS c ON c.token = t.category_token WHERE b.lidar_pc_token = ?",
            (token,),
        )
        for box in boxes:
            if box["track_token"] not in ids:
                ids[box["track_token"]] = len(ids)
                kinds.append(_KINDS.get(box["name"], AgentType.UNKNOWN))
                sizes.append([np.nan if value is None else float(value) for value in box[6:9]])
            pose = [np.nan if value is None else float(value) for value in box[1:6]]
            cells.append((ids[box["track_token"]], column, *pose))
    values, valid = (
        np.zeros((len(ids), len(frames.tokens), 6)),
        np.zeros((len(ids), len(frames.tokens)), bool),
    )
    values[0], valid[0] = _ego(frames)
    if cells:
        table = np.array(cells, np.float64)
        row, column = table[:, 0].astype(int), table[:, 1].astype(int)
        x, y, yaw, vx, vy = table[:, 2:].T
        values[row, column] = np.stack([x, y, np.cos(yaw), np.sin(yaw), vx, vy], axis=1)
        valid[row, column] = True
        note_repeated(len(cells) - np.count_nonzero(valid[1:]), "last", repairs)
        valid[row, column] = np.isfinite([x, y, yaw]).all(0)
        note_unplaced(np.count_nonzero(~np.isfinite([x, y, yaw]).all(0)), repairs)
    unknown = (~np.isfinite(values[..., 4:]).all(-1) & valid).any(1)
    steps, valid = grid.resample(np.nan_to_num(values, posinf=0.0, neginf=0.0), valid)
    steps[unknown, :, 4:] = np.nan
    size = np.array(sizes)
    size[~(np.isfinite(size) & (size > 0))] = np.nan
    tracks = Tracks(
        position=np.concatenate([steps[..., :2], np.zeros((*steps.shape[:2], 1))], axis=2),
        heading=np.arctan2(steps[..., 3], steps[..., 2]),
        velocity=steps[..., 4:],
        size=size,
        kind=np.array(kinds, np.int8),
        valid=valid,
        ids=("ego", *(bytes(token).hex() for token in list(ids)[1:])),
    )
    # The ego stays first, valid or not: finalize says what is wrong with it.
    return select(tracks, np.any(valid, axis=1) | (np.arange(len(valid)) == 0))


def _surroundings(
    connection: sqlite3.Connection, frames: _Frames, grid: TimeGrid, tracks: Tracks, city: NuplanMap | None
) -> tuple[Road, Lights]:
    moving = tracks.position[tracks.valid]
    if city is None or not len(moving):
        return Road(), Lights()
    low, high = moving[:, :2].min(0) - MARGIN, moving[:, :2].max(0) + MARGIN
    road, new_idx = city.around((*low, *high))
    connector_states = _light_states(connection, frames)
    # A state holds from its sweep until the next.
    holding = np.maximum(np.searchsorted(grid.stamps, grid.times + 1e-6, side="right") - 1, 0)
    rows = [
        (int(new_idx[city.connectors[fid]]), states[holding])
        for fid, states in sorted(connector_states.items())
        if fid in city.connectors and new_idx[city.connectors[fid]] >= 0
    ]
    if not rows:
        return road, Lights()
    starts = np.array([road.lanes.centre[lane][0] for lane, _ in rows])
    lights = Lights(
        starts,
        np.full(len(rows), np.nan),
        np.array([lane for lane, _ in rows], np.int32),
        np.array([states for _, states in rows], np.int8),
    )
    return road, lights


def _light_states(connection: sqlite3.Connection, frames: _Frames) -> dict[int, Array]:
    """State ``[N]`` of each lane connector that a light is known for, by its fid."""
    result: dict[int, Array] = {}
    if not {"lidar_pc_token", "lane_connector_id", "status"} <= columns(connection, "traffic_light_status"):
        return result
    for column, token in enumerate(frames.tokens):
        query = "SELECT lane_connector_id, status FROM traffic_light_status WHERE lidar_pc_token = ?"
        for fid, status in connection.execute(query, (token,)):
            states = result.setdefault(int(fid), np.full(len(frames.tokens), LightState.UNKNOWN, np.int8))
            states[column] = _STATES.get(status, ODD_STATE)
    return result
