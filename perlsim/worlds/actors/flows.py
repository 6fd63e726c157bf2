"""Scenario types in which the ego joins or crosses a flow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType, LaneType
from perlsim.worlds.actors.ground import Ground
from perlsim.worlds.actors.obstacles import BICYCLE, CAR
from perlsim.worlds.actors.script import Actor, Meeting, Trigger, flow
from perlsim.worlds.actors.timing import ahead_of, timed
from perlsim.worlds.routes.parameters import Point

# m behind the junction at which a vehicle from a slip road cuts in.
# m by which the ego is past the junction then: routes end 25 m farther on, and it is to be met before [S].
_CUT_IN, _CLOSER = 10.0, 2.0
# Share of time that it has more than it needs [S], and m/s² with which it sets off.
_SPARE, _QUICK = 1.6, 8.0
# m of lane along which bicycles ride, at most and at least.
_RIDE, _SHORTEST_RIDE = 120.0, 20.0
# m that placed flows drive beyond the place at which the public classes take them away [S].
_BEYOND = 40.0
# m by which a nose may reach into the way of a flow: they would steer round it, and else an ego that waits with its
# nose out would stop the flow for which it waits [S].
_NOSE = 0.35
# Share of the limit at which unnamed traffic drives, and the distances in it [m, S].
_SHARE, _GAPS = 0.6, (30.0, 60.0)


def junction_flow(ground: Ground) -> list[Actor]:
    """A flow through the junction: its source lies 4 s of its speed before it, its sink 2.5 s behind it."""
    speed = ground.number("flow_speed")
    path = ground.through(ground.other_way(), 4.0 * speed, 2.5 * speed)
    return _flow(ground, path)


def placed_flow(ground: Ground) -> list[Actor]:
    """A flow between two places that the file names, and a little on: nobody shall vanish before the ego."""
    start, end = ground.point("start_actor_flow"), ground.point("end_actor_flow")
    return _flow(ground, ground.between(start, end, _BEYOND))


def both_ways(ground: Ground) -> list[Actor]:
    """A flow between two places that the file names, and one the other way where oncoming lanes lie beside them."""
    there = placed_flow(ground)
    start = _oncoming_at(ground, ground.point("end_actor_flow"))
    end = _oncoming_at(ground, ground.point("start_actor_flow"))
    if start is None or end is None:
        return there
    return there + _flow(ground, ground.between(start, end, _BEYOND), number=1)


def _oncoming_at(ground: Ground, point: Point) -> Point | None:
    """The place on the oncoming lane beside a point; None where there is none."""
    sites = ground.places.sites
    for place in sites.graph.places(np.array(point), 5.0):
        other = int(sites.left[place.lane])
        if sites.oncoming(place.lane, other):
            hit = polylines.project(sites.graph.lines[other], np.array([point]))
            x, y, z = polylines.interpolate(sites.graph.lines[other], hit.arc)[0].tolist()
            return x, y, z
    return None


def _flow(ground: Ground, path: Array, number: int = 0) -> list[Actor]:
    gaps = ground.interval("source_dist_interval")
    speed, meets = ground.number("flow_speed"), timed(ground, path)
    members = flow(path, speed, gaps, ground.rng, clear=[ground.start], number=number, meets=meets)
    return [replace(member, margin=-_NOSE) for member in members]


def bicycle_flow(ground: Ground) -> list[Actor]:
    """Bicycles along the bicycle lane, across the ego's turn."""
    path = _bicycle_lane(ground, np.array(ground.point("start_actor_flow")))
    gaps = ground.interval("source_dist_interval")
    return flow(
        path,
        ground.number("flow_speed"),
        gaps,
        ground.rng,
        kind=AgentType.CYCLIST,
        size=BICYCLE,
        meets=timed(ground, path),
    )


def _bicycle_lane(ground: Ground, start: Array) -> Array:
    """The line along the bicycle lane nearest to a point and its straightest successors."""
    sites = ground.places.sites
    lanes, lines = sites.lanes, sites.graph.lines
    kinds = np.flatnonzero(lanes.kind == LaneType.BICYCLE).tolist()
    near = [lane for lane in kinds if np.abs(lines[lane][:, :2] - start[:2]).max(1).min() < 20.0]
    hits = [(polylines.project(lines[lane], start[None]), lane) for lane in near]
    if not hits:
        raise ground.impossible("no bicycle lane leads from its start")
    hit, lane = min(hits, key=lambda pair: float(pair[0].distance[0]))
    line = ground.onward(lane, float(hit.arc[0]), _RIDE)
    if polylines.arc_lengths(line)[-1] < _SHORTEST_RIDE:
        raise ground.impossible("the bicycle lane is too short")
    return line


def highway_cut_in(ground: Ground) -> list[Actor]:
    """A vehicle from a slip road, which cuts in before the ego where both roads join.

    It comes to a place 10 m behind the junction as the ego comes out of that; 80 % of the limit is then its pace.
    """
    _, leaves = ground.junction()
    goal = ground.poses(leaves + _CUT_IN)[0, :3]
    path = ground.between(ground.point("other_actor_location"), (goal[0], goal[1], goal[2]))
    arc = float(polylines.arc_lengths(path)[-1])
    path = np.concatenate([path, ground.along(leaves + _CUT_IN + 1.0, leaves + 150.0)])
    limit = ground.limit(ground.lane(ground.trigger))
    # From standstill, and with time to spare for an ego that comes sooner.
    takes = _SPARE * arc / limit + limit / (2.0 * _QUICK)
    return [
        Actor(
            AgentType.VEHICLE,
            CAR,
            path,
            trigger=Trigger(ahead_of(ground, leaves, takes)),
            speeds=(0.0, limit, 0.8 * limit, 0.8 * limit),
            until=(takes, np.inf),
            acceleration=_QUICK,
            meeting=Meeting(arc, leaves + _CLOSER),
        )
    ]


def joined_traffic(ground: Ground) -> list[Actor]:
    """Traffic on another road into the junction, which meets the ego's way; it obeys the lights."""
    path = ground.through(ground.other_way(), 60.0, 60.0)
    speed = _SHARE * ground.limit(ground.lane(ground.trigger))
    members = flow(path, speed, _GAPS, ground.rng, clear=[ground.start], meets=timed(ground, path))
    return [replace(member, obeys=True) for member in members]


def lanes_traffic(ground: Ground) -> list[Actor]:
    """Traffic on each lane into which the route changes."""
    sites, first = ground.places.sites, int(ground.route.dense.lane_idx[0])
    lanes = [lane for lane in dict.fromkeys(ground.route.dense.lane_idx.tolist()) if lane != first]
    members: list[Actor] = []
    for number, lane in enumerate(lanes):
        line = sites.line([*sites.behind(lane, 80.0), *sites.ahead(lane, 80.0)[1:]])
        speed = _SHARE * ground.limit(lane)
        meets = timed(ground, line)
        members += flow(line, speed, _GAPS, ground.rng, clear=[ground.start], number=number, meets=meets)
    return members
