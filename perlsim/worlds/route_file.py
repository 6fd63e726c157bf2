"""Route files of the CARLA Leaderboard and of Bench2Drive (XML).

Frame: as read, CARLA's left-handed one is turned into the right-handed one of the OpenDRIVE towns (y flipped).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from perlsim.errors import FormatError
from perlsim.geometry import polylines
from perlsim.route import LaneGraph
from perlsim.scenario import Array, Road
from perlsim.worlds.opendrive.crop import box_around, crop
from perlsim.worlds.opendrive.xml import child, children, number

NEAR = 3.0  # m, farthest from a lane's centre, in plan and in height, to be on it
MARGIN = 50.0  # m of lanes kept around a route
SAME_WAY = np.deg2rad(60.0)  # most that lane and route may differ in direction


@dataclass(frozen=True)
class RouteFileEntry:
    """One route.

    Attributes:
        route: its id.
        town: name of its town.
        scenario: type of its first scenario; empty where it has none.
        points: ``[n, 3]`` m, its waypoints, right-handed.
    """

    route: str
    town: str
    scenario: str
    points: Array

    @property
    def length(self) -> float:
        """Length of the line through the waypoints, m."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=-1).sum())


def read_routes(path: Path) -> list[RouteFileEntry]:
    """Reads the routes of a file, in its order.

    Raises:
        FormatError: not XML with the root ``routes``, no routes, a route without id or waypoints, an id twice.
    """
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        root = etree.fromstring(path.read_bytes(), parser)
    except (OSError, etree.XMLSyntaxError, ValueError) as error:
        raise FormatError(f"not readable as XML: {error}", file=path) from error
    if etree.QName(root).localname != "routes":
        raise FormatError(f"expected the root routes, found {root.tag}", file=path)
    try:
        routes = [_route(element) for element in children(root, "route")]
    except FormatError as error:
        raise FormatError(error.message, file=path, field=error.field, remedy=error.remedy) from error
    if not routes:
        raise FormatError("no routes", file=path)
    seen = set()
    for route in routes:
        if route.route in seen:
            raise FormatError("two routes of the same id", file=path, field=f"route {route.route}")
        seen.add(route.route)
    return routes


def first_junction(points: Array, road: Road) -> float | None:
    """Where along a route its first junction begins.

    Bench2Drive's routes have no waypoints inside the turn that their scenario is about: from one waypoint to
    the next the route follows the lanes.

    Args:
        points: ``[n, 3]`` m, the route's waypoints, less than about 100 m apart, lanes not changed between.
        road: the town, in the same frame.

    Returns:
        m from the route's start; None where no part of the route lies on a lane of a junction.
    """
    lanes = crop(road, box_around(points, MARGIN))[0].lanes
    if not len(lanes):
        return None
    graph = LaneGraph(lanes)
    on, arc = _lanes_of(points, graph)
    start = 0.0
    for at, lane in enumerate(on):
        if lane >= 0 and lanes.in_junction[lane]:
            return start
        if at + 1 == len(on):
            break
        if lane >= 0 and on[at + 1] != lane:
            lead = graph.length(lane) - float(arc[at])
            for passed in _way(graph, lane, on[at + 1]):
                if lanes.in_junction[passed]:
                    return start + lead
                lead += graph.length(passed)
        start += float(np.linalg.norm(points[at + 1] - points[at]))
    return None


def _way(graph: LaneGraph, lane: int, goal: int) -> tuple[int, ...]:
    """The lanes after ``lane`` up to ``goal``, by the shortest way; empty where none is within about 100 m."""
    ahead = graph.ahead(lane)
    if goal in ahead:
        return (*ahead[goal][1], goal)
    ways = [
        (
            gone + graph.length(midway) + graph.ahead(midway)[goal][0],
            (*passed, midway, *graph.ahead(midway)[goal][1], goal),
        )
        for midway, (gone, passed) in ahead.items()
        if goal in graph.ahead(midway)
    ]
    return min(ways)[1] if ways else ()


def _lanes_of(points: Array, graph: LaneGraph) -> tuple[list[int], Array]:
    """The lane under each waypoint, −1 none, and ``[n]`` m: how far along that lane."""
    ahead = polylines.headings(points)
    # Before a gap, the way to the next waypoint is not that of the lane; behind it, the way from the last is not.
    ways = np.stack([ahead, np.append(ahead[:1], ahead[:-1])])
    lane, arc = np.full(len(points), -1), np.zeros(len(points))
    nearest = np.full(len(points), NEAR)
    for idx, line in enumerate(graph.lines):
        hit = polylines.project(line, points)
        turn = np.abs(polylines.wrap(polylines.headings(line)[hit.segment] - ways)).min(0)
        height = np.abs(polylines.interpolate(line, hit.arc)[:, 2] - points[:, 2])
        better = (hit.distance < nearest) & (turn < SAME_WAY) & (height < NEAR)
        lane[better], arc[better], nearest[better] = idx, hit.arc[better], hit.distance[better]
    return lane.tolist(), arc


def _route(element) -> RouteFileEntry:
    route = element.get("id")
    if not route:
        raise FormatError("expected an id", field="route")
    waypoints = children(child(element, "waypoints"), "position")
    points = np.array([[number(at, name) for name in "xyz"] for at in waypoints], float).reshape(-1, 3)
    if len(points) < 2:
        raise FormatError(f"expected at least two waypoints, found {len(points)}", field=f"route {route}")
    scenario = (
        child(child(element, "scenarios"), "scenario") if child(element, "scenarios") is not None else None
    )
    kind = scenario.get("type", "") if scenario is not None else ""
    return RouteFileEntry(route, element.get("town", ""), kind, points * [1.0, -1.0, 1.0])
