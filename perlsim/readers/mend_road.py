"""Mends the map and the lights of a raw scenario, in the scenario frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perlsim.geometry import polylines
from perlsim.readers.mend_tracks import Notes, unique_ids
from perlsim.scenario import Array, Lanes, Lights, Markings, Ragged, Road, Route, StopSigns
from perlsim.vocabulary import LaneType, LightState, MarkingType

DEFAULT_WIDTH = 3.5  # m, lanes of unknown width [S]; bicycle lanes 1.5 m
_BICYCLE_WIDTH = 1.5
_WIDTHS = (0.3, 30.0)  # m, plausible lane widths
_FAR = 1e5  # m from the origin; beyond it float32 resolves less than 8 mm, and no scene is that large
_NEAR_LANE = 20.0  # m, how far a light without a lane may lie from the lane that gives its direction


@dataclass(frozen=True)
class Mended:
    """A mended map: the road, and where each lane of the raw map went (−1: dropped)."""

    road: Road
    lane_map: Array


def mend_road(raw: Road, origin: Array, notes: Notes) -> Mended:
    """The map in the scenario frame (float32), without what carries no information.

    Args:
        raw: in the world frame, float64.
        origin: float64 ``[3]``, subtracted before rounding to float32.
        notes: gets what was mended.
    """
    lanes, lane_map = _lanes(raw.lanes, origin, notes)
    line, kept, _ = clean_rows(raw.markings.line, origin, "markings", notes)
    kinds = np.asarray(raw.markings.kind)[kept]
    known = np.isin(kinds, [int(kind) for kind in MarkingType])
    edges, _, _ = clean_rows(raw.edges, origin, "road edges", notes)
    signs = raw.stop_signs
    position, heading, lane_idx, _ = _anchors(
        (signs.position, signs.heading, signs.lane_idx), origin, lanes, lane_map, "stop signs", notes
    )
    road = Road(
        lanes=lanes,
        markings=Markings(line, np.where(known, kinds, MarkingType.UNKNOWN).astype(np.int8)),
        edges=edges,
        crosswalks=_crosswalks(raw.crosswalks, origin, notes),
        stop_signs=StopSigns(position, heading, lane_idx),
    )
    return Mended(road, lane_map)


def mend_lights(raw: Lights, origin: Array, mended: Mended, num_steps: int, notes: Notes) -> Lights:
    """Lights in the scenario frame; rows without a usable position or direction are dropped."""
    rows = len(raw.position)
    state = np.asarray(raw.state).reshape(rows, -1) if rows else np.zeros((0, num_steps), np.int8)
    known = np.isin(state, [int(kind) for kind in LightState])
    notes.add("light states were unknown: kept as UNKNOWN", np.count_nonzero(~known))
    state = np.where(known, state, LightState.UNKNOWN).astype(np.int8)
    position, heading, lane_idx, kept = _anchors(
        (raw.position, raw.heading, raw.lane_idx), origin, mended.road.lanes, mended.lane_map, "lights", notes
    )
    return Lights(position, heading, lane_idx, state[kept])


def to_frame(points: Array, origin: Array) -> Array:
    """World coordinates to the scenario frame, ``[..., 3]`` float32: subtracted in float64, then rounded."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (np.asarray(points, np.float64) - origin).astype(np.float32)


def clean_rows(raw: Ragged, origin: Array, things: str, notes: Notes) -> tuple[Ragged, Array, Array]:
    """Polylines in the scenario frame without unusable and repeated points, and without rows of one point.

    Returns:
        The rows, the indices of the rows kept, and the mask of the points kept.
    """
    local = to_frame(raw.values, origin).reshape(-1, 3)
    row_of = np.repeat(np.arange(len(raw)), np.diff(raw.offsets))
    usable = np.isfinite(local).all(1) & (np.abs(np.nan_to_num(local)) < _FAR).all(1)
    notes.add(f"points of {things} were not finite or over 100 km away: dropped", np.count_nonzero(~usable))
    keep = np.flatnonzero(usable)
    same_row = row_of[keep][1:] == row_of[keep][:-1]
    fresh = polylines.without_repeats(local[keep])
    fresh[1:] |= ~same_row
    keep = keep[fresh]
    counts = np.bincount(row_of[keep], minlength=len(raw))
    long_enough = counts >= 2
    notes.add(f"{things} had no length: dropped", np.count_nonzero(~long_enough))
    point_mask = np.zeros(len(local), bool)
    point_mask[keep] = True
    point_mask &= long_enough[row_of]
    offsets = np.append(0, np.cumsum(counts[long_enough]))
    return Ragged(local[point_mask], offsets.astype(np.int64)), np.flatnonzero(long_enough), point_mask


def _lanes(raw: Lanes, origin: Array, notes: Notes) -> tuple[Lanes, Array]:
    centre, kept, point_mask = clean_rows(raw.centre, origin, "lanes", notes)
    lane_map = np.full(len(raw), -1, np.int64)
    lane_map[kept] = np.arange(len(kept))
    kind = np.asarray(raw.kind)[kept]
    kind = np.where(np.isin(kind, [int(k) for k in LaneType]), kind, LaneType.UNKNOWN).astype(np.int8)
    speed = np.asarray(raw.speed_limit, np.float64)[kept]
    odd = np.isfinite(speed) & ((speed <= 0) | (speed > 100))
    notes.add("lanes had an impossible speed limit: unknown", np.count_nonzero(odd))
    width = _widths(np.asarray(raw.width, np.float64)[point_mask], centre, kind, notes)
    graph = {name: _remapped(getattr(raw, name), kept, lane_map) for name in ("successors", "left", "right")}
    return Lanes(
        centre=centre,
        width=width,
        kind=kind,
        speed_limit=np.where(odd | ~np.isfinite(speed), np.nan, speed).astype(np.float32),
        in_junction=np.asarray(raw.in_junction, bool)[kept],
        ids=unique_ids(tuple(str(raw.ids[i]) for i in kept), "lanes", notes),
        **graph,
    ), lane_map


def _remapped(graph: Ragged, kept: Array, lane_map: Array) -> Ragged:
    """Rows of the kept lanes in new numbers, without dropped lanes, repeats and the lane itself."""
    rows = []
    for lane in kept.tolist():
        targets = [int(t) for t in graph[lane] if 0 <= t < len(lane_map) and t != lane]
        rows.append(np.array(list(dict.fromkeys(lane_map[t] for t in targets if lane_map[t] >= 0)), np.int32))
    return Ragged.from_rows(rows, dtype=np.int32)


def _widths(raw: Array, centre: Ragged, kind: Array, notes: Notes) -> Array:
    """Widths with gaps filled along the lane, else by the kind's default."""
    known = np.isfinite(raw) & (raw > _WIDTHS[0]) & (raw < _WIDTHS[1])
    width = raw.copy()
    partly = 0
    for row in range(len(centre)):
        part = slice(*centre.offsets[row : row + 2])
        good = np.flatnonzero(known[part])
        if len(good) == part.stop - part.start:
            continue
        if len(good):
            arcs = polylines.arc_lengths(centre[row])
            width[part] = np.interp(arcs, arcs[good], raw[part][good])
        else:
            partly += 1
            width[part] = _BICYCLE_WIDTH if kind[row] == LaneType.BICYCLE else DEFAULT_WIDTH
    if known.any():
        notes.add("lanes had no width: filled with a default", partly)
    return width.astype(np.float32)


def _crosswalks(raw: Ragged, origin: Array, notes: Notes) -> Ragged:
    rows, _, _ = clean_rows(raw, origin, "crosswalks", notes)
    polygons = []
    for polygon in rows.rows():
        if np.linalg.norm(polygon[0, :2] - polygon[-1, :2]) < 1e-3:
            polygon = polygon[:-1]
        if len(polygon) >= 3:
            polygons.append(polygon)
    notes.add("crosswalks had fewer than three points: dropped", len(rows) - len(polygons))
    return Ragged.from_rows(polygons, width=3, dtype=np.float32)


def _anchors(
    raw: tuple[Array, Array, Array], origin: Array, lanes: Lanes, lane_map: Array, things: str, notes: Notes
) -> tuple[Array, Array, Array, Array]:
    """Positions, headings and lanes of lights or stop signs, and the indices of the rows kept."""
    position = to_frame(np.asarray(raw[0]).reshape(-1, 3), origin)
    heading = np.array(raw[1], np.float64)
    lane_idx = np.asarray(raw[2], np.int64)
    named = (lane_idx >= 0) & (lane_idx < len(lane_map))
    lane_idx = np.where(named, lane_map[np.where(named, lane_idx, 0)] if len(lane_map) else -1, -1)
    usable = np.isfinite(position).all(1) & (np.abs(np.nan_to_num(position)) < _FAR).all(1)
    heading = np.where(np.abs(heading) < 1e4, heading, np.nan)
    for row in np.flatnonzero(usable & ~np.isfinite(heading)):
        heading[row] = _lane_direction(lanes, int(lane_idx[row]), position[row])
    notes.add(f"{things} had no usable position: dropped", np.count_nonzero(~usable))
    lost = usable & ~np.isfinite(heading)
    notes.add(f"{things} had no direction and no lane near: dropped", np.count_nonzero(lost))
    kept = np.flatnonzero(usable & np.isfinite(heading))
    return position[kept], wrapped32(heading[kept]), lane_idx[kept].astype(np.int32), kept


def _lane_direction(lanes: Lanes, lane: int, position: Array) -> float:
    """Direction of a lane at a point; of the nearest lane where none is named, NaN where none is near."""
    if lane < 0:
        if not len(lanes):
            return np.nan
        distance = np.linalg.norm(lanes.centre.values - position, axis=1)
        nearest = int(np.argmin(distance))
        if distance[nearest] > _NEAR_LANE:
            return np.nan
        lane = int(np.searchsorted(lanes.centre.offsets, nearest, side="right")) - 1
    line = lanes.centre[lane]
    segment = polylines.project(line, position[None]).segment[0]
    return float(polylines.headings(line)[segment])


def wrapped32(heading: Array) -> Array:
    """Headings [rad] as float32 in [−π, π): rounding may not turn one just below π into π."""
    wrapped = polylines.wrap(heading).astype(np.float32)
    return np.where(wrapped >= np.float32(np.pi), -np.float32(np.pi), wrapped)


def gaps(road: Road, raw: Road, lights: Lights) -> set[str]:
    """Names of what the map does not give."""
    lanes, width = raw.lanes, np.asarray(raw.lanes.width)
    lacking = {
        "lights": not len(lights.position),
        "lanes": not len(road.lanes),
        "lane_graph": not len(road.lanes.successors.values),
        "speed_limits": not np.isfinite(road.lanes.speed_limit).any(),
        "lane_width": bool(len(lanes)) and not np.isfinite(width).any(),
        "markings": not len(road.markings.line),
        "road_edges": not len(road.edges),
    }
    return {name for name, absent in lacking.items() if absent}


def shifted_route(route: Route, origin: Array, lane_map: Array) -> Route:
    """A reader's own route in the scenario frame."""
    points = to_frame(route.points, origin)
    lane_idx = np.asarray(route.lane_idx, np.int64)
    named = (lane_idx >= 0) & (lane_idx < len(lane_map))
    moved = lane_map[np.where(named, lane_idx, 0)] if len(lane_map) else np.full(len(lane_idx), -1)
    usable = np.isfinite(points).all(1)
    return replace(route, points=points[usable], lane_idx=np.where(named, moved, -1)[usable].astype(np.int32))
