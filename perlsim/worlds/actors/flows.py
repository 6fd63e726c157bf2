"""Scenario types in which the ego joins or crosses a flow."""

from __future__ import annotations

import numpy as np

from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType, LaneType
from perlsim.worlds.actors.ground import Ground
from perlsim.worlds.actors.obstacles import BICYCLE, CAR
from perlsim.worlds.actors.script import Actor, Trigger, flow

# m of lane along which bicycles ride.
_RIDE = 120.0
# m that placed flows drive beyond the place at which the public classes take them away [S].
_BEYOND = 40.0
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


def _flow(ground: Ground, path: Array) -> list[Actor]:
    gaps = ground.interval("source_dist_interval")
    return flow(path, ground.number("flow_speed"), gaps, ground.rng, clear=[ground.start])


def bicycle_flow(ground: Ground) -> list[Actor]:
    """Bicycles along the bicycle lane, across the ego's turn."""
    path = _bicycle_lane(ground, np.array(ground.point("start_actor_flow")))
    gaps = ground.interval("source_dist_interval")
    return flow(path, ground.number("flow_speed"), gaps, ground.rng, kind=AgentType.CYCLIST, size=BICYCLE)


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
    line, seen = lines[lane], {lane}
    begin = float(hit.arc[0])
    while polylines.arc_lengths(line)[-1] < begin + _RIDE:
        ways = [int(other) for other in lanes.successors[lane] if int(other) not in seen]
        if not ways:
            break
        heading = polylines.headings(line)[-1]
        lane = min(ways, key=lambda way: abs(polylines.wrap(polylines.headings(lines[way])[-1] - heading)))
        seen.add(lane)
        line = np.concatenate([line, lines[lane]])
    line = line[polylines.without_repeats(line, 0.05)]
    end = min(begin + _RIDE, polylines.arc_lengths(line)[-1])
    if end - begin < 20.0:
        raise ground.impossible("the bicycle lane is too short")
    return polylines.interpolate(line, np.append(np.arange(begin, end - 0.5, 1.0), end))


def highway_cut_in(ground: Ground) -> list[Actor]:
    """A vehicle from a slip road, which cuts in 10 m before the ego where both roads join."""
    _, leaves = ground.junction()
    goal = ground.poses(leaves + 10.0)[0, :3]
    path = ground.between(ground.point("other_actor_location"), (goal[0], goal[1], goal[2]))
    arcs = polylines.arc_lengths(path)
    on = ground.along(leaves + 11.0, leaves + 150.0)
    path = np.concatenate([path, on])
    # As fast as lets it be there a little before an ego at the limit; it keeps 80 % of the limit.
    speed = 0.8 * ground.limit(ground.lane(ground.trigger))
    trigger = Trigger(leaves + 10.0, lead=(arcs[-1] + 12.0) / speed)
    return [
        Actor(
            AgentType.VEHICLE,
            CAR,
            path,
            trigger=trigger,
            speeds=(0.0, speed, speed, speed),
            acceleration=8.0,
            heeds=False,
        )
    ]


def joined_traffic(ground: Ground) -> list[Actor]:
    """Traffic on another road into the junction, which meets the ego's way."""
    path = ground.through(ground.other_way(), 60.0, 60.0)
    return flow(
        path, _SHARE * ground.limit(ground.lane(ground.trigger)), _GAPS, ground.rng, clear=[ground.start]
    )


def lanes_traffic(ground: Ground) -> list[Actor]:
    """Traffic on each lane into which the route changes."""
    sites, first = ground.places.sites, int(ground.route.dense.lane_idx[0])
    lanes = [lane for lane in dict.fromkeys(ground.route.dense.lane_idx.tolist()) if lane != first]
    members: list[Actor] = []
    for number, lane in enumerate(lanes):
        line = sites.line([*sites.behind(lane, 80.0), *sites.ahead(lane, 80.0)[1:]])
        speed = _SHARE * ground.limit(lane)
        members += flow(line, speed, _GAPS, ground.rng, clear=[ground.start], number=number)
    return members
