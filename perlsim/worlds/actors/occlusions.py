"""The four types of DOS: somebody whom others hide comes into the ego's way.

Placements and speeds are those of the public scenario classes of DOS, but for the time that is left: there it is a
little longer than the way of whoever comes, so that many of them pass before an ego that does not react.
"""

from __future__ import annotations

import numpy as np

from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType
from perlsim.worlds.actors.crossings import walks
from perlsim.worlds.actors.ground import Ground
from perlsim.worlds.actors.obstacles import CAR
from perlsim.worlds.actors.script import Actor, Meeting, Trigger, standing
from perlsim.worlds.actors.timing import meeting
from perlsim.worlds.routes.parameters import Pose

LORRY = (5.2, 2.6, 2.5)
# DOS_01: m from the trigger to two parked lorries and to where a pedestrian crosses at 3.0 m/s.
_PARKED, _CROSSES, _WALK = (15.75, 23.0), 19.25, 3.0
# DOS_02: m to two lorries at 5.5 m/s and how far they drive, m to where pedestrians cross at 3.6 m/s.
_AHEAD, _DRIVEN, _BRAKES_FOR, _RUN, _LORRY_SPEED = (15.0, 24.0), (14.3, 13.0), (42.5, 43.3), 3.6, 5.5
# DOS_03: the lorry that waits creeps to 6 m before its goal; a car from 15 m behind it passes, at 7 m/s in the end.
_CREEP, _CREEPS_TO, _BEHIND, _PASSES, _PASSES_FROM = 2.0, 6.0, 15.0, 7.0, 12.0
# DOS_04: lorries from 12 m ahead, 7.5 m apart, as far as 6 m before the junction, at 5 m/s; they stop 7 m before the
# way of who runs the light, and that one goes on at 2 m/s once it is 6 m from the ego's way.
_QUEUE, _SPACE, _BEFORE, _QUEUE_SPEED, _STOPS, _RUNS, _RUNS_FROM = 12.0, 7.5, 6.0, 5.0, 7.0, 2.0, 6.0
# m/s at most, and m, of whoever comes to meet the ego [S].
_PACE, _LONG = 14.0, 120.0


def parked_lorries(ground: Ground) -> list[Actor]:
    """DOS_01: a pedestrian between two parked lorries."""
    at = ground.trigger
    aside, _ = ground.beside(at, -1.0)
    lorries = [standing(AgentType.TRUCK, LORRY, ground.poses(at + arc, aside)[0]) for arc in _PARKED]
    crossing = at + _CROSSES
    return [*lorries, walks(ground, crossing, ground.edge(crossing, -1.0), _WALK, distance=6.0)]


def braking_lorries(ground: Ground) -> list[Actor]:
    """DOS_02: lorries on the lane beside that brake for pedestrians before them."""
    at = ground.trigger
    aside, _ = ground.beside(at, -1.0)
    lorries = [
        Actor(
            AgentType.TRUCK,
            LORRY,
            ground.along(at + arc, at + arc + 60.0, aside),
            trigger=Trigger(at),
            speeds=(0.0, _LORRY_SPEED, _LORRY_SPEED, _LORRY_SPEED),
            stop=driven,
            acceleration=5.0,
            deceleration=5.0,
        )
        for arc, driven in zip(_AHEAD, _DRIVEN, strict=True)
    ]
    edge = aside - 0.75 * ground.width(ground.lane(at))
    return [*lorries, *(walks(ground, at + arc, edge, _RUN, distance=8.0) for arc in _BRAKES_FOR)]


def waiting_lorry(ground: Ground) -> list[Actor]:
    """DOS_03: a lorry that waits to turn left opposite, and a car that passes it."""
    front, goal = _pose(ground, "front"), _pose(ground, "left")
    place = ground.place_of(front)
    turns = ground.between(_point(front), _point(goal))
    lorry = Actor(
        AgentType.TRUCK,
        LORRY,
        turns,
        trigger=Trigger(ground.trigger),
        speeds=(0.0, _CREEP, _CREEP, _CREEP),
        stop=max(float(polylines.arc_lengths(turns)[-1]) - _CREEPS_TO, 0.5),
    )
    sites = ground.places.sites
    beside = int(sites.right[place.lane])
    if not sites.same_way(place.lane, beside):
        raise ground.impossible("no lane leads past the vehicle that waits")
    arc = sites.graph.arc_beside(place.lane, place.arc, beside)
    chain = sites.behind(beside, _BEHIND + 5.0)
    before = float(sum(sites.graph.length[chain[:-1]]))
    begins = max(before + arc - _BEHIND, 0.0)
    line = np.concatenate(
        [sites.line(chain)[:-1], ground.onward(beside, sites.graph.length[beside] - 0.5, _LONG)[1:]]
    )
    path = _from(line[polylines.without_repeats(line, 0.05)], begins)
    return [lorry, _meets(ground, path, _PASSES, _PASSES_FROM)]


def red_light_runner(ground: Ground) -> list[Actor]:
    """DOS_04: lorries on the lane beside at the light, which stop for a car that runs a red light from the left."""
    runs = ground.place_of(_pose(ground, "left"))
    path = ground.onward(runs.lane, runs.arc, _LONG)
    runner = _meets(ground, path, _RUNS, _RUNS_FROM)
    aside, _ = ground.beside(ground.trigger, 1.0)
    enters, _ = ground.junction()
    beside = ground.along(ground.trigger, enters + 30.0, aside)
    # Where the lorries' lane meets the runner's way.
    apart = np.hypot(*(beside[:, None, :2] - path[None, :, :2]).transpose(2, 0, 1)).min(1)
    crosses = ground.trigger + float(polylines.arc_lengths(beside)[int(apart.argmin())])
    arcs = np.arange(ground.trigger + _QUEUE, enters - _BEFORE, _SPACE)
    stops = crosses - _STOPS - _SPACE * np.arange(len(arcs))[::-1]
    lorries = [
        Actor(
            AgentType.TRUCK,
            LORRY,
            ground.along(arc, enters + 30.0, aside),
            trigger=Trigger(ground.trigger),
            speeds=(0.0, _QUEUE_SPEED, _QUEUE_SPEED, _QUEUE_SPEED),
            stop=max(stop - arc, 0.5),
        )
        for arc, stop in zip(arcs.tolist(), stops.tolist(), strict=True)
    ]
    return [*lorries, runner]


def _meets(ground: Ground, path: Array, speed: float, until: float) -> Actor:
    """A car that comes to the ego's way when the ego does."""
    met = meeting(ground, path)
    if met is None:
        raise ground.impossible("the way of who is hidden does not meet the ego's")
    return Actor(
        AgentType.VEHICLE,
        CAR,
        path,
        trigger=Trigger(ground.trigger),
        speeds=(0.0, speed, speed, speed),
        acceleration=6.0,
        meeting=Meeting(*met, until, _PACE),
        heeds=False,
    )


def _pose(ground: Ground, name: str) -> Pose:
    """The first pose of a parameter."""
    poses = ground.scenario.parameters.values.get(name)
    if not poses:
        raise ground.impossible(f"the file gives no pose {name}")
    return poses[0]  # pyright: ignore


def _point(pose: Pose) -> tuple[float, float, float]:
    return pose[0], pose[1], pose[2]


def _from(line: Array, arc: float) -> Array:
    """A line from ``arc`` m on."""
    end = float(polylines.arc_lengths(line)[-1])
    return polylines.interpolate(line, np.append(np.arange(arc, end - 0.5, 1.0), end))
