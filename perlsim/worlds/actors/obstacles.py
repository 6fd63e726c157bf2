"""Scenario types whose point stands or rides on the ego's lane or beside it.

Placements, speeds and times are those of the public scenario classes (CARLA's scenario_runner) unless a
comment says otherwise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perlsim.geometry import polylines
from perlsim.vocabulary import AgentType
from perlsim.worlds.actors.ground import BACK, ON, Ground
from perlsim.worlds.actors.script import Actor, Disturbance, Script, Trigger, flow, standing
from perlsim.worlds.actors.timing import arrival

CAR, POLICE, VAN = (4.6, 1.9, 1.6), (5.0, 2.0, 1.6), (5.9, 2.1, 2.6)
LORRY = (7.0, 2.6, 3.2)
CONE, SIGN, DOOR = (0.4, 0.4, 0.8), (0.9, 2.2, 2.0), (0.2, 1.1, 1.2)
BICYCLE, WALKER = (1.8, 0.6, 1.7), (0.5, 0.5, 1.8)
# Share of half the lane's width by which obstacles stand off its middle.
_ACCIDENT_OFF, _PARKED_OFF, _BICYCLE_OFF = 0.6, 0.7, 0.55
_FIRST_CAR, _SECOND_CAR, _SECOND_BICYCLE = 10.0, 6.0, 9.0  # m behind what is before it
_SITE = 9.5  # m from the sign to the last cone
# The oncoming flow reaches so far before and behind the obstacle [m, S], at this share of the limit [S].
_ONCOMING_BEFORE, _ONCOMING_BEHIND, _ONCOMING_SHARE = 60.0, 140.0, 0.7
# m/s² with which it sets off, and brakes at most; m that it leaves, with
# the length of the obstacle, to an ego on its lane, which has to get back [S].
_SETS_OFF, _HARD, _LEAVES = 3.0, 8.0, 22.0
# m before the ego at which nobody comes into being on the oncoming lane [S].
_FAR_AHEAD = 50.0
# Distances between the vehicles on the lane beside [m, S].
_BESIDE_GAPS = (30.0, 70.0)
# m beyond the place of straying vehicles where they come from, and between them.
_STRAY_SOURCE, _STRAY_GAP = 30.0, 40.0
# m from the trigger to patches of debris; their length [m, S] and what they add to steering and throttle.
_DEBRIS, _PATCH, _STEER, _GAS = (14.0, 48.0, 74.0), 10.0, 0.055, 0.03
# m by which parked vehicles stand beside the middle of their lane; share of the limit that traffic past them
# drives [S], and s of the drive at which one of it passes [S].
_PARKED_ASIDE, _FLOW_SHARE, _BEGINS = 0.4, 0.6, 1.5
# s that the emergency vehicle keeps [S].
_PRESSES = 0.3
# s that vehicles drive before they brake hard [S].
_DRIVE = 4.0


def oncoming(ground: Ground, at: float, gaps: tuple[float, float], length: float) -> list[Actor]:
    """The flow on the oncoming lane past an obstacle of a length [m] at ``at`` m of the route.

    Those of the public classes set off from rest at their source, one when the one before is a gap away: that one
    has gained v² / 2a on it by the time it is as fast. And they brake as hard as they can for who comes towards them.
    """
    aside, _ = ground.beside(at, 1.0)
    path = ground.along(at + _ONCOMING_BEHIND, at - _ONCOMING_BEFORE, aside)
    speed = _ONCOMING_SHARE * ground.limit(ground.lane(at))
    gained = speed * speed / (2.0 * _SETS_OFF)
    members = flow(path, speed, (gaps[0] + gained, gaps[1] + gained), ground.rng)
    return [replace(member, braking=_HARD, room=_LEAVES + length, unseen=_FAR_AHEAD) for member in members]


def traffic(ground: Ground, at: float, length: float, *, two_ways: bool) -> list[Actor]:
    """Whom the ego has to wait for to pass an obstacle: the oncoming flow, or slowed traffic beside it."""
    if two_ways:
        frequency = ground.scenario.parameters.values["frequency"]
        gaps = ground.interval("frequency") if isinstance(frequency, tuple) else (frequency, frequency)
        return oncoming(ground, at, gaps, length)  # pyright: ignore[reportArgumentType]
    aside, _ = ground.beside(at, 1.0)
    speed = min(ground.number("speed"), ground.limit(ground.lane(at)))
    return flow(ground.along(at - 110.0, at + 100.0, aside), speed, _BESIDE_GAPS, ground.rng)


def _is_two_ways(ground: Ground) -> bool:
    return ground.scenario.kind.endswith("TwoWays")


def accident(ground: Ground) -> list[Actor]:
    """A police car and two crashed cars."""
    at = ground.trigger + ground.number("distance")
    aside = ground.outermost(at, ground.sign())
    aside += ground.sign() * _ACCIDENT_OFF * ground.width(ground.lane(at)) / 2
    arcs = at + np.array([0.0, _FIRST_CAR, _FIRST_CAR + _SECOND_CAR])
    cars = zip((POLICE, CAR, CAR), ground.poses(arcs, aside), strict=True)
    blocked = [standing(AgentType.VEHICLE, size, pose) for size, pose in cars]
    return blocked + traffic(ground, at, _FIRST_CAR + _SECOND_CAR + CAR[0], two_ways=_is_two_ways(ground))


def parked(ground: Ground) -> list[Actor]:
    """A broken-down vehicle."""
    at = ground.trigger + ground.number("distance")
    aside = ground.outermost(at, ground.sign())
    aside += ground.sign() * _PARKED_OFF * ground.width(ground.lane(at)) / 2
    blocked = [standing(AgentType.VEHICLE, CAR, ground.poses(at, aside)[0])]
    return blocked + traffic(ground, at, CAR[0], two_ways=_is_two_ways(ground))


def construction(ground: Ground) -> list[Actor]:
    """A sign and cones round a site."""
    at = ground.trigger + ground.number("distance")
    middle = ground.outermost(at, ground.sign())
    side = 0.85 * ground.width(ground.lane(at)) / 2
    places = [(at, middle, SIGN)]
    # Cones every 2 m along both sides and one before and behind the site.
    places += [(at + 2.0 * (1 + k), middle + way * side, CONE) for k in range(4) for way in (-1.0, 1.0)]
    places += [(at + _SITE, middle, CONE)]
    blocked = [standing(AgentType.STATIC, size, ground.poses(arc, aside)[0]) for arc, aside, size in places]
    return blocked + traffic(ground, at, _SITE, two_ways=_is_two_ways(ground))


def hazard(ground: Ground) -> list[Actor]:
    """Two slow bicycles at the edge of the lane."""
    at = ground.trigger + ground.number("distance")
    aside = -_BICYCLE_OFF * ground.width(ground.lane(at)) / 2
    speed, distance = ground.number("bicycle_speed"), ground.number("bicycle_drive_distance")
    riders = []
    for begin in (at, at + _SECOND_BICYCLE):
        path = ground.along(begin, begin + distance + 5.0, aside)
        trigger = Trigger(ground.trigger)
        riders.append(
            Actor(
                AgentType.CYCLIST,
                BICYCLE,
                path,
                trigger=trigger,
                speeds=(0.0, speed, speed, speed),
                heeds=False,
            )
        )
    return riders + traffic(ground, at, _SECOND_BICYCLE + BICYCLE[0], two_ways=_is_two_ways(ground))


def opens_door(ground: Ground) -> list[Actor]:
    """A parked vehicle whose door opens; 3.0 s or 10 m before the ego is there."""
    at = ground.trigger + ground.number("distance")
    sign = ground.sign()
    lane_edge = ground.width(ground.lane(at)) / 2
    # Parked along the edge of the lane, its door then reaches 0.9 m into it.
    car_side = lane_edge + 0.2
    vehicle = standing(AgentType.VEHICLE, CAR, ground.poses(at, sign * (car_side + CAR[1] / 2))[0])
    door = standing(AgentType.STATIC, DOOR, ground.poses(at + 0.6, sign * (car_side - 0.05 - DOOR[1] / 2))[0])
    opening = Trigger(at, distance=10.0, lead=3.0)
    door = Actor(door.kind, door.size, door.path, present=False, trigger=opening, heeds=False)
    return [vehicle, door, *oncoming(ground, at, ground.interval("frequency"), CAR[0])]


def hard_brake(ground: Ground) -> list[Actor]:
    """Two vehicles that set off with the ego, brake as hard as they can and stand for 10 s."""
    speed = 0.72 * ground.limit(ground.lane(ground.trigger))
    path = ground.along(0.0, 1e4)
    # The ego starts before the trigger and is about there when they brake [S].
    return [
        Actor(
            AgentType.VEHICLE,
            CAR,
            path,
            arc=ahead,
            trigger=Trigger(0.5),
            speeds=(0.0, speed, 0.0, speed),
            until=(_DRIVE, _DRIVE + 10.0),
        )
        for ahead in (15.0, 27.0)
    ]


def static_cut_in(ground: Ground) -> list[Actor]:
    """One vehicle of a standing lane pulls out before the ego; 2.7 s or 15 m before it is there."""
    at = ground.trigger + ground.number("distance")
    aside, _ = ground.beside(at, ground.sign())
    arcs = at + 11.0 * np.arange(-2, 4)
    queue = [standing(AgentType.VEHICLE, CAR, pose) for pose in ground.poses(arcs[arcs != at], aside)]
    return [*queue, pulls_out(ground, at, aside, length=14.0, lead=2.7, distance=15.0)]


def parking_cut_in(ground: Ground) -> list[Actor]:
    """A parked vehicle pulls out from behind another; 2.35 s or 10 m before the ego is there."""
    aside, _ = ground.beside(ground.trigger + 28.0, ground.sign())
    blocker = standing(AgentType.VEHICLE, VAN, ground.poses(ground.trigger + 28.0, aside)[0])
    at = ground.trigger + 35.0
    return [blocker, pulls_out(ground, at, aside, length=10.0, lead=2.35, distance=10.0)]


def pulls_out(
    ground: Ground, at: float, aside: float, *, length: float, lead: float, distance: float
) -> Actor:
    """A vehicle that stands ``aside`` m off the route and pulls into it within ``length`` m."""

    def shift(arcs: np.ndarray) -> np.ndarray:
        share = np.clip((arcs - at) / length, 0.0, 1.0)
        return aside * (1.0 - share * share * (3.0 - 2.0 * share))

    path = ground.along(at - 1.0, at + 120.0, shift)
    speed = 0.7 * ground.limit(ground.lane(at))
    # Slow at first: it has to turn out of its gap [S].
    return Actor(
        AgentType.VEHICLE,
        CAR,
        path,
        arc=1.0,
        trigger=Trigger(at, distance, lead),
        speeds=(0.0, 5.0, speed, speed),
        until=(4.0, np.inf),
        acceleration=2.5,
        heeds=False,
    )


def invading_turn(ground: Ground) -> list[Actor]:
    """Oncoming vehicles, 40 m apart, that stray over the middle of the road as far as the trigger."""
    far = ground.trigger + ground.number("distance") + _STRAY_SOURCE
    # Of a vehicle with 0.7 m to its side, the side would pass the middle by the offset.
    shift = ground.number("offset") + ground.width(ground.lane(ground.trigger)) / 2 - 0.7
    aside, _ = ground.beside(ground.trigger, 1.0)
    path = ground.along(far, ground.trigger, aside - shift)
    speed = _ONCOMING_SHARE * ground.limit(ground.lane(ground.trigger))
    middle = ground.trigger + 0.5 * ground.number("distance")
    meets = float(polylines.arc_lengths(path)[-1]) - (middle - ground.trigger), arrival(ground, middle)
    # Wide ones: beside a car there is room in most lanes. They keep to their line whoever comes [S].
    stray = flow(path, speed, (_STRAY_GAP, _STRAY_GAP), ground.rng, meets=meets)
    return [
        replace(actor, kind=AgentType.TRUCK, size=LORRY, heeds=False, unseen=_FAR_AHEAD) for actor in stray
    ]


def control_loss(ground: Ground) -> Script:
    """Three patches of debris, too flat to collide with, which put the ego's steering and throttle off."""
    signs = ground.rng.choice([-1.0, 1.0], (3, 2))
    return Script(
        disturbances=tuple(
            Disturbance(
                ground.trigger + at - _PATCH / 2, ground.trigger + at + _PATCH / 2, steer * _STEER, gas * _GAS
            )
            for at, (steer, gas) in zip(_DEBRIS, signs, strict=True)
        )
    )


def parking_exit(ground: Ground) -> Script:
    """The ego begins between two parked vehicles; a flow passes on its route's lane."""
    sign, at = ground.sign(), ground.trigger
    aside, _ = ground.beside(at, sign)
    ahead, behind = ground.number("front_vehicle_distance"), ground.number("behind_vehicle_distance")
    parked = [
        standing(AgentType.VEHICLE, CAR, ground.poses(arc, aside + sign * _PARKED_ASIDE)[0])
        for arc in (at + ahead, at - behind)
    ]
    path = ground.along(at - BACK, at + ON)
    speed, gap = _FLOW_SHARE * ground.limit(ground.lane(at)), ground.number("flow_distance")
    # One of them is beside the ego when it begins.
    beside = float(polylines.project(path, ground.poses(at)[:, :3]).arc[0])
    passing = flow(path, speed, (gap, gap), ground.rng, meets=(beside, _BEGINS))
    x, y, z, heading = ground.poses(at, aside)[0].tolist()
    return Script((*parked, *passing), start=(x, y, z, heading))


def emergency(ground: Ground) -> list[Actor]:
    """An emergency vehicle comes from behind, 25 km/h faster than the limit, and presses on whoever is before it."""
    begin = ground.trigger - ground.number("distance")
    path = ground.along(begin, 1e4)
    speed = ground.limit(ground.lane(ground.trigger)) + 25 / 3.6
    return [
        Actor(
            AgentType.VEHICLE,
            VAN,
            path,
            present=False,
            trigger=Trigger(ground.trigger),
            speeds=(0.0, speed, speed, speed),
            acceleration=8.0,
            deceleration=8.0,
            headway=_PRESSES,
            emergency=True,
        )
    ]
