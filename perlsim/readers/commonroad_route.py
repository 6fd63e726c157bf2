"""Routes to the goal of a planning problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from heapq import heappop, heappush

import numpy as np

from perlsim.geometry.polylines import arc_lengths, headings, interpolate, project, resample, wrap
from perlsim.route import REACH, build_route
from perlsim.scenario import Array, Lanes, Route, Scenario

_CHANGE = 20.0  # m, length of a lane change, and what one costs beside the way itself
_STEP = 2.0  # m between points of the path
_SMOOTH_STEP = 0.5  # m between points of the smoothed path
_MAX_TURN = np.pi / 3  # rad, largest angle between ego and lane


def route_to_goal(scenario: Scenario, goal_ids: Iterable[str], goal_points: Sequence[Array]) -> Route | None:
    """The shortest way over lanes and lane changes from the ego's first pose to a goal.

    Args:
        scenario: finalized; the ego valid at one step at least.
        goal_ids: names of lanes, any of which is the goal.
        goal_points: ``[3]`` m each, scenario frame; the lanes under them are goals.

    Returns:
        A route through the goal and on, None where the ego is on no lane or no way leads to the goal.
    """
    lanes, ego = scenario.road.lanes, scenario.ego.idx
    step = int(np.argmax(scenario.tracks.valid[ego]))
    start = scenario.tracks.position[ego, step].astype(np.float64)
    heading = float(scenario.tracks.heading[ego, step])
    sources = _lanes_under(lanes, start, heading)
    wanted = set(goal_ids)
    goals = {i: None for i, name in enumerate(lanes.ids) if name in wanted}
    goals |= {i: place for place in goal_points for i in _lanes_under(lanes, place, None)}
    path = _shortest(lanes, sources, set(goals)) if sources and goals else None
    if path is None:
        return None
    points = _path_points(lanes, path, start, goals[path[-1]])
    if len(points) < 2:
        return None
    # The route builder matches driven poses to lanes: let it match the way to the goal.
    count = len(points)
    driven = replace(
        scenario.tracks,
        position=points[None],
        heading=headings(points)[None],
        velocity=np.zeros((1, count, 2)),
        size=scenario.tracks.size[[ego]],
        kind=scenario.tracks.kind[[ego]],
        valid=np.ones((1, count), bool),
        ids=(scenario.tracks.ids[ego],),
    )
    return build_route(replace(scenario, tracks=driven, ego=replace(scenario.ego, idx=0)))


def _lanes_under(lanes: Lanes, place: Array, heading: float | None) -> list[int]:
    """Lanes within 3 m of a place that run its way, nearest first, within 1 m of the nearest."""
    found = []
    for lane in range(len(lanes)):
        hit = project(lanes.centre[lane], place[None])
        turn = 0.0 if heading is None else wrap(headings(lanes.centre[lane])[hit.segment[0]] - heading)
        if hit.distance[0] <= REACH and abs(turn) <= _MAX_TURN:
            found.append((float(hit.distance[0]), lane))
    return [lane for distance, lane in sorted(found) if distance <= min(found)[0] + 1.0]


def _shortest(lanes: Lanes, sources: list[int], goals: set[int]) -> list[int] | None:
    """Dijkstra's algorithm over successors and lane changes; lanes cost their length, changes 20 m."""
    queue: list[tuple[float, int, int]] = [(0.0, lane, -1) for lane in sources]
    came: dict[int, int] = {}
    while queue:
        gone, lane, before = heappop(queue)
        if lane in came:
            continue
        came[lane] = before
        if lane in goals:
            path = [lane]
            while came[path[-1]] >= 0:
                path.append(came[path[-1]])
            return path[::-1]
        length = float(arc_lengths(lanes.centre[lane])[-1])
        for following in lanes.successors[lane].tolist():
            heappush(queue, (gone + length, following, lane))
        for beside in (*lanes.left[lane].tolist(), *lanes.right[lane].tolist()):
            heappush(queue, (gone + _CHANGE, beside, lane))
    return None


def _path_points(lanes: Lanes, path: list[int], start: Array, goal: Array | None) -> Array:
    """A drivable line along a path of lanes from the start through the goal to the end of the last lane.

    A lane change takes 20 m, or what is left to the end of the lane or to the goal.
    """
    pieces, place = [start[None]], start
    for here, following in zip(path, [*path[1:], None], strict=True):
        line = lanes.centre[here].astype(np.float64)
        begin = float(project(line, place[None]).arc[0])
        end = float(arc_lengths(line)[-1])
        changes = following is not None and following not in lanes.successors[here]
        if goal is not None and changes and following == path[-1]:
            end = float(project(line, goal[None]).arc[0])
        half = min(0.5 * _CHANGE, 0.5 * max(end - begin, 0.0))
        stop = begin + half if changes else end
        pieces.append(interpolate(line, np.arange(begin + _STEP, stop, _STEP)))
        place = interpolate(line, np.array([stop]))[0]
        if changes and following is not None:
            beside = lanes.centre[following].astype(np.float64)
            place = interpolate(beside, project(beside, place[None]).arc + half)[0]
    return _smoothed(resample(np.concatenate([*pieces, place[None]]), _SMOOTH_STEP))


def _smoothed(points: Array) -> Array:
    """Means over up to 4 m to either side, which shrink towards the ends so that these stay."""
    inner = np.minimum(np.arange(len(points)), np.arange(len(points))[::-1])
    reach = np.minimum(inner, round(4.0 / _SMOOTH_STEP))
    return np.array([points[i - r : i + r + 1].mean(0) for i, r in enumerate(reach.tolist())])
