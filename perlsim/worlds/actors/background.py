"""Plain traffic round a route: vehicles on lanes that obey lights and yield at junctions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType
from perlsim.worlds.actors.ground import DEFAULT_LIMIT
from perlsim.worlds.actors.obstacles import CAR
from perlsim.worlds.actors.script import CLEAR, Actor, Script, Stretch, Trigger
from perlsim.worlds.routes.load import Route
from perlsim.worlds.routes.placement import Places
from perlsim.worlds.routes.sites import Sites

# m round the route from which traffic comes, m that each drives before it enters again, most vehicles, m between them
# at least and when they enter, and their share of the limit [S].
REACH, DRIVEN, MOST, APART, _ENTERS, _SHARE = 80.0, 250.0, 12, 15.0, 10.0, 0.7
# Junctions on a path at which a vehicle yields.
_YIELDS = 2


def background_traffic(
    route: Route, places: Places, *, seed: int = 0, density: float = 10.0, most: int = MOST
) -> Script:
    """Vehicles that drive on lanes round a route, each along a way of its own that it enters again at its end.

    They keep their distance to everyone by the IDM, stop at red lights, and enter junctions when nobody is in
    their way there or comes to it; the ego has the right of way over all of them.

    Args:
        route: along whose lanes nobody begins near the ego.
        places: of its town.
        seed: of places and ways.
        density: vehicles on a kilometre of lane.
        most: vehicles at most.
    """
    rng, sites = np.random.default_rng(seed), places.sites
    lanes = _lanes_near(sites, route.dense.points)
    length = sites.graph.length[lanes]
    count = min(int(rng.poisson(density * length.sum() / 1000.0)), most) if len(lanes) else 0
    actors: list[Actor] = []
    taken = [route.dense.points[0]]
    for _ in range(4 * count):
        if len(actors) == count:
            break
        lane = int(rng.choice(lanes, p=length / length.sum()))
        way = _way(sites, lane, float(rng.uniform(0.0, sites.graph.length[lane])), rng)
        if way is None or any(np.hypot(*(way.begin - at)[:2]) < max(CLEAR, APART) for at in taken):
            continue
        taken.append(way.begin)
        actors.append(_vehicle(sites, way, lane, len(actors)))
    return Script(tuple(actors))


@dataclass(frozen=True)
class _Way:
    """A line ``[n, 3]`` m to drive, m along it at which a vehicle begins, where that is, and the junctions on it."""

    line: Array
    arc: float
    begin: Array
    junctions: tuple[Stretch, ...]


def _lanes_near(sites: Sites, points: Array) -> Array:
    """Open lanes within reach of a route."""
    low, high = points.min(0)[:2] - REACH, points.max(0)[:2] + REACH
    found = []
    for lane in np.flatnonzero(sites.is_open).tolist():
        line = sites.graph.lines[lane]
        if (line[:, :2].min(0) > high).any() or (line[:, :2].max(0) < low).any():
            continue
        apart = np.hypot(*(line[:, None, :2] - points[None, ::5, :2]).transpose(2, 0, 1))
        height = np.abs(line[:, None, 2] - points[None, ::5, 2])
        if (apart + 10.0 * height).min() < REACH:
            found.append(lane)
    return np.array(found, int)


def _way(sites: Sites, lane: int, arc: float, rng: np.random.Generator) -> _Way | None:
    """A way from ``arc`` m of a lane on, with turns drawn at random; None where the road ends soon."""
    chain, left = [lane], DRIVEN - (sites.graph.length[lane] - arc)
    while left > 0.0:
        ways = [other for other in sites.graph.successors[chain[-1]] if other not in chain]
        if not ways:
            break
        chain.append(ways[int(rng.integers(len(ways)))])
        left -= sites.graph.length[chain[-1]]
    ends = np.concatenate([[0.0], np.cumsum(sites.graph.length[chain])])
    if ends[-1] - arc < DRIVEN / 4:
        return None
    inside = np.append(sites.lanes.in_junction[chain], False).astype(int)
    enters = np.flatnonzero(np.diff(inside, prepend=0) == 1)
    leaves = np.flatnonzero(np.diff(inside, prepend=0) == -1)
    junctions = tuple(
        Stretch(float(ends[a]), float(ends[b])) for a, b in zip(enters, leaves, strict=True) if ends[a] > arc
    )
    line = sites.line(chain)
    begin = polylines.interpolate(line, np.array([arc]))[0]
    return _Way(line, arc, begin, junctions[:_YIELDS])


def _vehicle(sites: Sites, way: _Way, lane: int, number: int) -> Actor:
    limit = float(sites.lanes.speed_limit[lane])
    speed = _SHARE * (limit if limit > 0 else DEFAULT_LIMIT)
    return Actor(
        AgentType.VEHICLE,
        CAR,
        way.line,
        arc=way.arc,
        trigger=Trigger(),
        speeds=(speed, speed, speed, speed),
        obeys=True,
        flow=number,
        gap=_ENTERS,
        yields=way.junctions,
    )
