"""One scene as a few compact texts for the page: whole numbers, differences, deflate, base64.

Lengths are in cm, headings in mrad, speeds in 0.1 m/s. A sequence is its first value and then differences, which
deflate well; headings are unwrapped, so that a player may interpolate them. The page's ``data.js`` is the inverse.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely

from perlsim.scenario import Array, Lights, Ragged, Road, Scenario, StopSigns
from perlsim.vocabulary import LaneType

LENGTH, HEADING, SPEED = 0.01, 0.001, 0.1  # m, rad and m/s to one unit
PLAN_STEP = 0.1  # s between the speeds of a plan
LARGEST_GAP = 400.0  # m², between lanes, to be taken for road
# How far a simplified line of the map may be from the original [m]: invisible, and a fifth of the points.
LINE_TOLERANCE = 0.05
DEFAULT_LANE_WIDTH, DEFAULT_BICYCLE_WIDTH = 3.5, 1.8  # m, where the map does not tell; Waymo's maps do not


def encode(content: Mapping[str, Any]) -> str:
    """Plain data as base64 of deflated JSON: letters, digits, ``+``, ``/`` and ``=`` only."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def decode(text: str) -> dict[str, Any]:
    """Inverse of `encode`."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


def pack_road(scenario: Scenario) -> dict[str, Any]:
    """The map, with where traffic stops for lights and signs.

    Returns:
        Lines as ``[x, y, dx, dy, …]`` in cm; ``lights`` and ``stops`` are rows of x, y [cm], heading [mrad] and
        width of the lane [cm].
    """
    road: Road = scenario.road
    return {
        "lanes": _lines(road.lanes.centre),
        "laneWidth": _whole(lane_widths(road), LENGTH).tolist(),
        "laneKind": road.lanes.kind.tolist(),
        "markings": _lines(road.markings.line),
        "markingKind": road.markings.kind.tolist(),
        "edges": _lines(road.edges),
        "gaps": [_line(gap) for gap in gaps_between_lanes(road)],
        "crosswalks": _lines(road.crosswalks),
        "lights": _stop_lines(scenario.lights, road),
        "stops": _stop_lines(road.stop_signs, road),
    }


def pack_play(scenario: Scenario, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What moves: road users, states of lights, the route, and what a run recorded beside.

    Args:
        scenario: the log, or the scene as it was simulated.
        extra: a line of a run's ``rollouts/NAME.jsonl``; empty for a log.
    """
    tracks = scenario.tracks
    speed = np.hypot(tracks.velocity[..., 0], tracks.velocity[..., 1])
    return {
        "dt": float(scenario.dt),
        "steps": tracks.num_steps,
        "ego": scenario.ego.idx,
        "ids": [str(name) for name in tracks.ids],
        "kinds": tracks.kind.tolist(),
        "sizes": _whole(tracks.size[:, :2], LENGTH).tolist(),
        "tracks": [
            _track(tracks.position[i], tracks.heading[i], tracks.valid[i], speed[i])
            for i in range(tracks.num_agents)
        ],
        "lights": [_runs(row) for row in scenario.lights.state],
        "route": _line(_simplified([scenario.route.points[:, :2]])[0]),
        "events": [_event(event) for event in extra.get("events") or ()],
        "plans": [_plan(plan) for plan in extra.get("plans") or ()],
        "log": _log_ego(extra.get("log_ego") or ()),
    }


def _whole(values: Any, unit: float) -> Array:
    return np.rint(np.asarray(values, np.float64) / unit).astype(np.int64)


def _differences(values: Array) -> list[int]:
    return np.diff(values, prepend=0).tolist()


def _line(points: Array) -> list[int]:
    """``[n, 2+]`` m as x, y, dx, dy, … in cm."""
    whole = _whole(points[:, :2], LENGTH)
    return np.diff(whole, axis=0, prepend=np.zeros_like(whole[:1])).ravel().tolist()


def _lines(rows: Ragged) -> list[list[int]]:
    return [_line(row) for row in _simplified([row[:, :2] for row in rows.rows()])]


def _simplified(lines: Sequence[Array]) -> list[Array]:
    """Lines ``[n, 2]`` m with points left out that lie within `LINE_TOLERANCE` of the rest."""
    kept = []
    for line in lines:
        if len(line) > 2:
            thinner = shapely.simplify(shapely.linestrings(line), LINE_TOLERANCE, preserve_topology=False)
            line = shapely.get_coordinates(thinner)
        kept.append(line)
    return kept


def lane_widths(road: Road, lane_idx: Array | None = None) -> Array:
    """Mean full width of each lane ``[P]`` m, or of the chosen ones, where −1 stands for no lane."""
    widths = []
    offsets = road.lanes.centre.offsets
    for start, end, kind in zip(offsets[:-1], offsets[1:], road.lanes.kind, strict=True):
        known = road.lanes.width[start:end]
        known = known[np.isfinite(known) & (known > 0)]
        default = DEFAULT_BICYCLE_WIDTH if kind == LaneType.BICYCLE else DEFAULT_LANE_WIDTH
        widths.append(known.mean() if len(known) else default)
    # The last one, which index −1 takes, is that of no lane.
    return np.asarray(widths) if lane_idx is None else np.append(widths, DEFAULT_LANE_WIDTH)[lane_idx]


def gaps_between_lanes(road: Road) -> list[Array]:
    """Outlines ``[n, 2]`` m of what crossing lanes leave open between them in junctions.

    Only where borders are open lines, as Waymo's are: rings tell the road's surface themselves. Places that a
    border touches are islands, and no gaps.
    """
    edges = [row[:, :2] for row in road.edges.rows()]
    if not len(road.lanes) or all(np.allclose(edge[0], edge[-1], atol=0.05) for edge in edges):
        return []
    lines = shapely.linestrings(road.lanes.centre.values[:, :2], indices=_row_of(road.lanes.centre))
    strips = shapely.buffer(shapely.simplify(lines, 0.2), lane_widths(road) / 2, quad_segs=2)
    parts = shapely.get_parts(shapely.union_all(strips))
    holes = [shapely.Polygon(ring) for part in parts for ring in part.interiors]
    holes = [hole for hole in holes if hole.area < LARGEST_GAP]
    borders = shapely.STRtree([shapely.LineString(edge) for edge in edges])
    islands = set(borders.query(holes, predicate="intersects")[0].tolist()) if holes else set()
    # A little larger, so that no seam shows.
    filled = [hole.buffer(0.3, join_style="mitre") for i, hole in enumerate(holes) if i not in islands]
    return _simplified([shapely.get_coordinates(shapely.get_exterior_ring(hole)) for hole in filled])


def _row_of(rows: Ragged) -> Array:
    return np.repeat(np.arange(len(rows)), np.diff(rows.offsets))


def _stop_lines(group: Lights | StopSigns, road: Road) -> list[list[int]]:
    columns = (
        _whole(group.position[:, :2], LENGTH),
        _whole(group.heading, HEADING)[:, None],
        _whole(lane_widths(road, group.lane_idx), LENGTH)[:, None],
    )
    return np.concatenate(columns, 1).tolist()


def _spans(valid: Array) -> list[int]:
    """First step and number of steps of each stretch of valid steps."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], valid.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    return np.stack([starts, ends - starts], 1).ravel().tolist()


def _track(position: Array, heading: Array, valid: Array, speed: Array | None = None) -> dict[str, Any]:
    """One road user at its valid steps, one after another: ``span`` tells which steps these are."""
    xy = _whole(position[valid, :2], LENGTH)
    turned = _whole(np.unwrap(np.asarray(heading[valid], np.float64)), HEADING)
    track = {
        "span": _spans(valid),
        "x": _differences(xy[:, 0]),
        "y": _differences(xy[:, 1]),
        "h": _differences(turned),
    }
    if speed is not None:
        track["v"] = _differences(_whole(speed[valid], SPEED))
    return track


def _runs(states: Array) -> list[int]:
    """A sequence as value, count, value, count, …"""
    starts = np.flatnonzero(np.diff(states, prepend=states[:1] - 1))
    counts = np.diff(np.append(starts, len(states)))
    return np.stack([states[starts], counts], 1).ravel().tolist()


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    agent = event.get("agent")
    return {
        "t": float(event["t"]),
        "kind": str(event["kind"]),
        "agent": None if agent is None else str(agent),
    }


def _plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    path = np.asarray(plan["path"], np.float64).reshape(-1, 2)
    path = path[np.isfinite(path).all(1)]
    speed = np.nan_to_num(np.asarray(plan.get("speed") or [], np.float64))
    if len(path) > 1:
        # A plan goes on straight beyond its path, as far as its speeds lead.
        pieces = np.linalg.norm(np.diff(path, axis=0), axis=1)
        beyond = speed.sum() * PLAN_STEP - pieces.sum()
        if beyond > 0 and pieces[-1] > 0:
            path = np.vstack([path, path[-1] + (path[-1] - path[-2]) / pieces[-1] * beyond])
    return {"t": float(plan["t"]), "path": _line(path), "speed": _whole(speed, SPEED).tolist()}


def _log_ego(poses: Sequence[Sequence[float] | None]) -> dict[str, Any] | None:
    valid = np.array([pose is not None for pose in poses], bool)
    if not valid.any():
        return None
    rows = np.array([pose if pose is not None else (0.0, 0.0, 0.0) for pose in poses], np.float64)
    return _track(rows[:, :2], rows[:, 2], valid)
