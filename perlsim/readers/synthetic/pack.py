"""Packs what was driven as scenarios: tracks, map, lights and the ego's route, in the scenario frame."""

from __future__ import annotations

import numpy as np

from perlsim.geometry.polylines import arc_lengths, wrap
from perlsim.readers.synthetic.crowd import REAR_OVERHANG, Crowd
from perlsim.readers.synthetic.curves import SPACING, smooth_step
from perlsim.readers.synthetic.lights import light_states
from perlsim.readers.synthetic.maps import Corridor, TownMap
from perlsim.readers.synthetic.poses import Poses
from perlsim.readers.synthetic.relations import Batch
from perlsim.readers.synthetic.traffic import Motion
from perlsim.scenario import (
    Array,
    Ego,
    Lanes,
    Lights,
    Markings,
    Ragged,
    Road,
    Route,
    Scenario,
    StopSigns,
    Tracks,
)
from perlsim.vocabulary import AgentType

ROUTE_AHEAD = 200.0
"""m that the route goes on beyond the ego's last pose, where the map does."""


def pack(
    batch: Batch, motion: Motion, poses: Poses, scene: int, ego: int, recording: str, number: int, dt: float
) -> Scenario:
    """The scenario, moved so that the ego's first position is the origin.

    Args:
        batch, motion, poses: what was driven.
        scene: which scenario of the batch.
        ego: index of the ego among its road users.
        recording: name of the map instance.
        number: of the scenario within its family.
        dt: s.
    """
    town = batch.towns[scene]
    rows = slice(batch.first[scene], batch.first[scene + 1])
    valid = np.ascontiguousarray(motion.active[:, rows].T)
    origin = np.array([poses.x[rows][ego, 0], poses.y[rows][ego, 0], 0.0])
    length = float(batch.crowd.length[rows][ego])
    wheelbase = (1.0 - 2.0 * REAR_OVERHANG) * length
    return Scenario(
        scenario_id=f"{recording}-{number}",
        source="synthetic",
        dt=dt,
        tracks=_tracks(batch.crowd, poses, rows, valid, origin),
        ego=Ego(ego, wheelbase, 0.5 * wheelbase),
        lights=_lights(town, batch.clock[scene] + dt * np.arange(valid.shape[1]), origin),
        road=_moved(town.road, origin),
        route=ego_route(batch, motion, scene, ego, origin),
        origin=origin,
        recording_id=recording,
        place=town.family,
        dataset="synthetic",
        licence="Apache-2.0",
        missing=() if town.program else ("lights",),
    ).validate()


def _tracks(crowd: Crowd, poses: Poses, rows: slice, valid: Array, origin: Array) -> Tracks:
    shown = valid.astype(np.float32)
    position = np.zeros((*valid.shape, 3), np.float32)
    position[..., 0] = (poses.x[rows] - origin[0]) * shown
    position[..., 1] = (poses.y[rows] - origin[1]) * shown
    kind = crowd.kind[rows].astype(np.int8)
    names = [AgentType(k).name.lower() for k in kind.tolist()]
    return Tracks(
        position=position,
        heading=_wrapped32(poses.heading[rows]) * shown,
        velocity=np.stack([poses.vx[rows] * shown, poses.vy[rows] * shown], -1).astype(np.float32),
        size=np.stack([crowd.length[rows], crowd.width[rows], crowd.height[rows]], -1).astype(np.float32),
        kind=kind,
        valid=valid,
        ids=tuple(f"{name}_{k}" for k, name in enumerate(names)),
    )


def _wrapped32(angle: Array) -> Array:
    """Float32 angles in [−π, π): rounding may have reached π itself."""
    rounded = wrap(angle).astype(np.float32)
    return np.where(rounded >= np.float32(np.pi), np.float32(-np.pi), rounded)


def _shift(rows: Ragged, origin: Array) -> Ragged:
    return Ragged((rows.values - origin).astype(np.float32), rows.offsets)


def _moved(road: Road, origin: Array) -> Road:
    lanes, stops = road.lanes, road.stop_signs
    return Road(
        lanes=Lanes(
            _shift(lanes.centre, origin),
            lanes.width.astype(np.float32),
            lanes.kind,
            lanes.speed_limit.astype(np.float32),
            lanes.in_junction,
            lanes.successors,
            lanes.left,
            lanes.right,
            lanes.ids,
        ),
        markings=Markings(_shift(road.markings.line, origin), road.markings.kind),
        edges=_shift(road.edges, origin),
        crosswalks=_shift(road.crosswalks, origin),
        stop_signs=StopSigns(
            (stops.position - origin).astype(np.float32), _wrapped32(stops.heading), stops.lane_idx
        ),
    )


def _lights(town: TownMap, times: Array, origin: Array) -> Lights:
    """One row a controlled lane, at the point where its paths hold."""
    if town.program is None:
        none = np.zeros((0, 3), np.float32)
        return Lights(none, none[:, 0], town.light_lane, np.zeros((0, len(times)), np.int8))
    by_lane = {path.lanes[0]: path for path in town.paths if not path.pedestrian}
    position, heading = np.zeros((len(town.light_lane), 3)), np.zeros(len(town.light_lane))
    for row, lane in enumerate(town.light_lane.tolist()):
        end = town.road.lanes.centre[lane]
        step = end[-1] - end[-2]
        step = step / np.hypot(step[0], step[1])
        path = by_lane[lane]
        position[row] = end[-1] - (path.entry - path.hold) * step
        heading[row] = np.arctan2(step[1], step[0])
    return Lights(
        (position - origin).astype(np.float32),
        _wrapped32(heading),
        town.light_lane,
        light_states(town.program, town.light_group, times),
    )


def ego_route(batch: Batch, motion: Motion, scene: int, ego: int, origin: Array) -> Route:
    """The ego's way from behind its first pose to `ROUTE_AHEAD` past its last, or the map's end."""
    row = batch.first[scene] + ego
    town, table = batch.towns[scene], batch.table
    begin, end = batch.base[row], batch.last[row]
    driven = motion.rear[:, row]
    last = min(driven[-1] + ROUTE_AHEAD, (end - begin) * SPACING)
    along = np.arange(max(driven[0] - 10.0, 0.0), last, 2.0)
    at = begin + (along / SPACING).astype(int)
    part, after = along / SPACING - (at - begin), np.minimum(at + 1, end)
    x, y, heading = ((1 - part) * c[at] + part * c[after] for c in (table.x, table.y, table.heading))
    path_idx = int(batch.crowd.path[row])
    path, corridor = town.paths[path_idx], town.corridors.get(path_idx)
    if corridor is None:
        lanes = np.array(path.lanes, np.int32)
        ends = np.cumsum([arc_lengths(town.road.lanes.centre[lane])[-1] for lane in path.lanes])
        lane_idx = lanes[np.minimum(np.searchsorted(ends, along, "right"), len(lanes) - 1)]
    else:
        side = _sides(batch, corridor, row, along, driven, motion.side[:, row])
        x, y = x - side * np.sin(heading), y + side * np.cos(heading)
        lane_idx = _lanes_under(corridor, along, side)
    points = np.stack([x, y, np.zeros_like(x)], -1) - origin
    return Route(points.astype(np.float32), lane_idx)


def _sides(batch: Batch, corridor: Corridor, row: int, along: Array, driven: Array, side: Array) -> Array:
    """Lateral offset of the route: as driven, then the change under way, then out of an ending lane."""
    crowd = batch.crowd
    d0, d1 = crowd.d0[row], crowd.d1[row]
    ahead = d0 + (d1 - d0) * smooth_step((along - crowd.swing_start[row]) / crowd.swing_length[row])[0]
    if crowd.lane[row] == corridor.ending:
        leave = max(driven[-1] + 5.0, corridor.end - 80.0)
        ahead = ahead + corridor.width * smooth_step((along - leave) / 60.0)[0]
    return np.where(along <= driven[-1], np.interp(along, driven, side), ahead)


def _lanes_under(corridor: Corridor, along: Array, side: Array) -> Array:
    """Index of the lane at each place `along` and beside the reference."""
    lane = np.zeros(len(along), int)
    if corridor.count > 1:
        lane = np.clip(np.rint(-side / corridor.width - 0.5).astype(int), 0, corridor.count - 1)
    section = np.searchsorted(corridor.sections, along, "right") - 1
    found = corridor.lanes[section, lane]
    # Just past the end of a lane the one to its left is meant.
    return np.where(found >= 0, found, corridor.lanes[section, np.maximum(lane - 1, 0)]).astype(np.int32)
