"""Dense routes: the lanes under a route's waypoints, as points a metre apart with what to do at each.

Frame: right-handed, the town's.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from perlsim.errors import FormatError
from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.worlds.routes.definitions import RouteDefinition
from perlsim.worlds.routes.graph import Place, Stretch, TownGraph
from perlsim.worlds.routes.parameters import Pose

SPACING = 1.0  # m
REACH = 2.0  # m, farthest from a lane's centre that a waypoint may lie
TRIGGER_DISTANCE = 2.0  # m, in plan and in height, at which the public code counts a trigger as on the route
TRIGGER_ANGLE = np.deg2rad(10.0)
STOP_SHORT = 2.0  # m: CARLA's planner stops at the first metre mark closer than this to the last waypoint
STRAIGHT = np.deg2rad(35.0)  # a junction that turns less is crossed straight on (CARLA's planner)
_OFF_COST = 10.0  # m of detour that a waypoint a metre off its lane is worth
_CANDIDATES = 6


class RoadOption(IntEnum):
    """What the route does at a point; CARLA's numbers."""

    LEFT = 1
    RIGHT = 2
    STRAIGHT = 3
    LANEFOLLOW = 4
    CHANGELANELEFT = 5
    CHANGELANERIGHT = 6


@dataclass(frozen=True)
class DenseRoute:
    """A route to drive.

    Attributes:
        points: ``[R, 3]`` m, 1 m apart in plan, the last interval shorter.
        heading: ``[R]`` rad, direction of travel.
        lane_idx: int32 ``[R]``, lane of the town; the one that is left during a lane change.
        option: int8 ``[R]``, `RoadOption`.
        along: ``[R]`` m of road (height included) from the start.
        deviation: ``[n]`` m, how far each waypoint lies from its lane's centre.
    """

    points: Array
    heading: Array
    lane_idx: Array
    option: Array
    along: Array
    deviation: Array

    @property
    def length(self) -> float:
        """Length, m."""
        return float(self.along[-1])

    def position_of(self, trigger: Pose) -> float:
        """Where along the route a trigger lies, m; NaN where it does not lie on it (over 2 m or 10° off)."""
        away = np.abs(self.points - np.array(trigger[:3]))
        turn = np.abs(polylines.wrap(self.heading - trigger[3]))
        near = (np.hypot(away[:, 0], away[:, 1]) < TRIGGER_DISTANCE) & (away[:, 2] < TRIGGER_DISTANCE)
        fits = np.flatnonzero(near & (turn < TRIGGER_ANGLE))
        if not len(fits):
            return float("nan")
        return float(self.along[fits[np.argmin(np.hypot(away[fits, 0], away[fits, 1]))]])


def densify(route: RouteDefinition, town: TownGraph) -> DenseRoute:
    """Leads a route along the lanes of its town.

    Raises:
        FormatError: a waypoint lies on no lane, or no way leads from one to the next; ``field`` names both.
    """
    places, way = _way(route, town)
    pieces = [_line(stretch, town) for stretch in way]
    owner = np.repeat(np.arange(len(way)), [len(piece) for piece in pieces])
    points = np.concatenate(pieces)
    # Of points that coincide the last counts: the way goes on from there on its lane.
    kept = polylines.without_repeats(points[::-1])[::-1]
    points, owner = points[kept], owner[kept]
    if len(points) < 2:
        raise FormatError("expected a route longer than a point", field=f"route {route.route}")
    arcs = polylines.arc_lengths(points)
    spaced = np.append(np.arange(0.0, arcs[-1] - 1e-6, SPACING), arcs[-1])
    dense = polylines.interpolate(points, spaced)
    segment = np.clip(np.searchsorted(arcs, spaced, side="right") - 1, 0, len(arcs) - 1)
    stretch, following = owner[segment], owner[np.minimum(segment + 1, len(owner) - 1)]
    # A lane change is the straight line from the stretch that it leaves to the next.
    change = np.where(stretch == following, 0, np.array([part.change for part in way])[stretch])
    named = np.select([change > 0, change < 0], [RoadOption.CHANGELANELEFT, RoadOption.CHANGELANERIGHT])
    return DenseRoute(
        dense,
        polylines.headings(dense),
        np.array([part.lane for part in way], np.int32)[stretch],
        np.where(change == 0, _options(way, town)[stretch], named).astype(np.int8),
        np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))]),
        np.array([place.distance for place in places]),
    )


def _way(route: RouteDefinition, town: TownGraph) -> tuple[list[Place], list[Stretch]]:
    """The places of the waypoints on lanes and the cheapest way through them, as CARLA's planner ends it."""
    columns = [town.places(point, REACH)[:_CANDIDATES] for point in route.waypoints]
    for idx, column in enumerate(columns):
        if not column:
            x, y, z = route.waypoints[idx]
            raise FormatError(
                f"waypoint {idx} at ({x:.1f}, {y:.1f}, {z:.1f}) m lies on no lane of {route.town}",
                field=f"route {route.route}",
                remedy="check the town and the sign of y",
            )
    # CARLA drives from one metre mark of a lane to the next.
    columns[0] = [replace(place, arc=_nearest_mark(town, place)) for place in columns[0]]
    cost = [_OFF_COST * place.distance for place in columns[0]]
    trace: list[list[tuple[int, list[Stretch]]]] = []
    for idx, (before, column) in enumerate(itertools.pairwise(columns)):
        total, back = [], []
        for goal in column:
            best, chosen = np.inf, (0, [])
            for i, start in enumerate(before):
                # A dearer start cannot win; most waypoints have several lanes only in junctions.
                way = town.way(start, goal) if cost[i] < best else None
                reached = np.inf if way is None else cost[i] + _metres(way)
                if way is not None and reached < best:
                    best, chosen = reached, (i, way)
            total.append(best + _OFF_COST * goal.distance)
            back.append(chosen)
        if not np.isfinite(total).any():
            raise FormatError(
                f"no way leads from waypoint {idx} to waypoint {idx + 1}",
                field=f"route {route.route}",
                remedy="check the direction of the route, and the town",
            )
        cost, trace = total, [*trace, back]
    state = int(np.argmin(cost))
    places, ways = [columns[-1][state]], []
    for column, back in zip(reversed(columns[:-1]), reversed(trace), strict=True):
        state, way = back[state]
        places.append(column[state])
        ways.append(way)
    places.reverse()
    return places, _shortened(_merged(ways[::-1]), places, route.waypoints[-1], town)


def _nearest_mark(town: TownGraph, place: Place) -> float:
    marks = town.marks(place.lane)
    return float(marks[np.argmin(np.abs(marks - place.arc))])


def _metres(way: list[Stretch]) -> float:
    return sum(stretch.end - stretch.begin for stretch in way)


def _merged(ways: list[list[Stretch]]) -> list[Stretch]:
    """Ways strung together, the parts of one lane in one."""
    merged: list[Stretch] = []
    for part in itertools.chain.from_iterable(ways):
        if merged and merged[-1].lane == part.lane and not merged[-1].change:
            part = replace(part, begin=merged[-1].begin, end=max(part.end, merged[-1].end))
            merged.pop()
        merged.append(part)
    return merged


def _shortened(way: list[Stretch], places: list[Place], goal: Array, town: TownGraph) -> list[Stretch]:
    """The way, ended where CARLA's planner ends it: at the first metre mark near the last waypoint."""
    last = way[-1]
    first = last.begin if last.lane != places[-2].lane else max(last.begin, _nearest_mark(town, places[-2]))
    marks = town.marks(last.lane)
    marks = marks[(marks >= first - 1e-6) & (marks <= max(last.end, first) + 1e-6)]
    away = np.linalg.norm(polylines.interpolate(town.lines[last.lane], marks) - goal, axis=1)
    near = np.flatnonzero(away < STOP_SHORT)
    end = float(marks[near[0]]) if len(near) else last.end
    return [*way[:-1], replace(last, end=max(end, last.begin))]


def _line(stretch: Stretch, town: TownGraph) -> Array:
    """The centre line along a stretch, ``[n, 3]``."""
    line = town.lines[stretch.lane]
    arcs = polylines.arc_lengths(line)
    inner = arcs[(arcs > stretch.begin) & (arcs < stretch.end)]
    return polylines.interpolate(line, np.concatenate([[stretch.begin], inner, [stretch.end]]))


def _options(way: list[Stretch], town: TownGraph) -> Array:
    """`RoadOption` along each stretch, lane changes left out."""
    options = np.full(len(way), RoadOption.LANEFOLLOW, np.int8)
    in_junction = np.array([town.lanes.in_junction[stretch.lane] for stretch in way])
    idx = 0
    while idx < len(way):
        if in_junction[idx]:
            last = idx
            while last + 1 < len(way) and in_junction[last + 1]:
                last += 1
            options[idx : last + 1] = turn_of(
                town, way[idx - 1].lane if idx else None, way[idx].lane, way[last].lane
            )
            idx = last
        idx += 1
    return options


def turn_of(town: TownGraph, before: int | None, first: int, last: int) -> RoadOption:
    """What a way through a junction does: by the direction in which it leaves against that of the way in.

    Less than 35° is straight. Else it is left or right of the chords of the other lanes that begin where it
    does, and failing both left or right of straight on.
    """
    entry = town.lines[first if before is None else before]
    inward = entry[1] - entry[0] if before is None else entry[-1] - entry[-2]
    angle = _angle(inward, town.lines[last][-1] - town.lines[last][-2])
    if abs(angle) < STRAIGHT:
        return RoadOption.STRAIGHT
    others = town.successors[before] if before is not None else []
    sines = [np.sin(_angle(inward, town.lines[o][-1] - town.lines[o][0])) for o in others if o != first]
    if np.sin(angle) > max(sines, default=0.0):
        return RoadOption.LEFT
    if np.sin(angle) < min(sines, default=0.0):
        return RoadOption.RIGHT
    return RoadOption.LEFT if angle > 0 else RoadOption.RIGHT


def _angle(one: Array, two: Array) -> float:
    """Angle [rad] from one direction to another in plan, counter-clockwise."""
    return float(np.arctan2(one[0] * two[1] - one[1] * two[0], one[:2] @ two[:2]))
