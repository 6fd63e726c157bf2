"""Route files of the CARLA Leaderboard and of Bench2Drive (XML).

Frame: as read, CARLA's left-handed one is turned into the right-handed one of the OpenDRIVE towns (y flipped).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from perlsim.errors import FormatError
from perlsim.scenario import Array, Lanes
from perlsim.worlds.opendrive.xml import child, children, number

SPACING = 1.0  # m between the places at which a route is compared with the lanes
NEAR = 3.0  # m, farthest from a lane's centre, in plan and in height, to be on it
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


def first_junction(points: Array, lanes: Lanes) -> float | None:
    """Where along a route its first junction begins.

    Args:
        points: ``[n, 3]`` m, the route's waypoints.
        lanes: the town's lanes, in the same frame.

    Returns:
        m from the route's start, to `SPACING`; None where no part of the route lies on a lane of a junction.
    """
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1))])
    at = np.arange(0.0, along[-1] + 1e-9, SPACING)
    dense = np.stack([np.interp(at, along, points[:, axis]) for axis in range(3)], axis=-1)
    heading = _headings(dense)
    # Segments of lanes near the route, each with its height, its direction and whether it is in a junction.
    start, end, lane_idx = _segments(lanes)
    low, high = dense[:, :2].min(0) - NEAR, dense[:, :2].max(0) + NEAR
    near = (np.maximum(start, end)[:, :2] >= low).all(1) & (np.minimum(start, end)[:, :2] <= high).all(1)
    start, end, lane_idx = start[near], end[near], lane_idx[near]
    lines = shapely.linestrings(np.stack([start[:, :2], end[:, :2]], axis=1))
    places = shapely.points(dense[:, :2])
    place, segment = shapely.STRtree(lines).query(places, predicate="dwithin", distance=NEAR)
    direction = np.arctan2(*(end - start)[segment, 1::-1].T)
    turn = np.abs((heading[place] - direction + np.pi) % (2 * np.pi) - np.pi)
    height = np.abs(dense[place, 2] - (start + end)[segment, 2] / 2)
    fits = (turn < SAME_WAY) & (height < NEAR)
    place, segment = place[fits], segment[fits]
    gap = shapely.distance(places[place], lines[segment])
    order = np.lexsort((gap, place))
    on, first = np.unique(place[order], return_index=True)
    in_junction = lanes.in_junction[lane_idx[segment[order[first]]]]
    return float(at[on[in_junction][0]]) if in_junction.any() else None


def _segments(lanes: Lanes) -> tuple[Array, Array, Array]:
    """Start and end ``[S, 3]`` m of all segments of the centre lines, and int ``[S]`` the lane of each."""
    points, offsets = lanes.centre.values, lanes.centre.offsets
    lane_of_point = np.repeat(np.arange(len(lanes)), np.diff(offsets))
    inner = lane_of_point[1:] == lane_of_point[:-1]
    return points[:-1][inner], points[1:][inner], lane_of_point[:-1][inner]


def _headings(points: Array) -> Array:
    """Direction of travel ``[n]`` rad at points along a line."""
    if len(points) < 2:
        return np.zeros(len(points))
    steps = np.gradient(points[:, :2], axis=0)
    return np.arctan2(steps[:, 1], steps[:, 0])


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
