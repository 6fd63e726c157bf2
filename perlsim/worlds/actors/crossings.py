"""Scenario types in which somebody crosses the ego's way.

Placements and speeds are those of the public scenario classes. There the walker starts so that the ego, at
its speed, has some time more than the walker to the place where both ways meet; here that time is the walk
alone, so that an ego that does not react meets it.
"""

from __future__ import annotations

import numpy as np

from perlsim.vocabulary import AgentType
from perlsim.worlds.actors.ground import Ground
from perlsim.worlds.actors.obstacles import BICYCLE, VAN, WALKER
from perlsim.worlds.actors.script import Actor, Meeting, Trigger, standing
from perlsim.worlds.actors.timing import ahead_of

_PROP = (1.0, 1.4, 2.2)
# m by which a walk goes on beyond the place where it meets the ego's way, as a multiple of the way there.
_ON = 2.3
# Who comes to meet the ego sets off so many times earlier than it would have to, and keeps its speed over the last
# metres, so that it can be foretold [S]: bends and lights before the ego make the ego's arrival hard to foretell.
_EARLIER, _LAST, _ON_LANE = 1.5, 20.0, 2.5


def walks(
    ground: Ground,
    at: float,
    aside: float,
    speed: float,
    *,
    distance: float,
    angle: float = 0.0,
    kind: AgentType = AgentType.PEDESTRIAN,
    meets: bool = False,
) -> Actor:
    """Somebody who crosses the route at ``at`` m from ``aside`` m beside it, ``angle`` rad off square.

    It sets off when the ego has ``distance`` m left, or at its speed as long as the walk takes; where ``meets``, half
    as much earlier, and it walks as fast as it takes to be there with the ego, until it is on the lane.
    """
    size = BICYCLE if kind == AgentType.CYCLIST else WALKER
    slant = np.tan(angle) * abs(aside)
    x, y, z, heading = ground.poses(at, 0.0)[0]
    ahead, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
    middle = np.array([x, y])
    start = middle + left * aside - ahead * slant
    end = middle - left * aside * (_ON - 1.0) + ahead * slant * (_ON - 1.0)
    path = np.column_stack([np.stack([start, end]), [z, z]])
    walk = float(np.hypot(*(middle - start)))
    return Actor(
        kind,
        size,
        path,
        trigger=Trigger(at, distance, (_EARLIER if meets else 1.0) * walk / speed),
        meeting=Meeting(walk, at, until=min(_ON_LANE, walk), keeps=True) if meets else None,
        speeds=(0.0, speed, speed, speed),
        stop=float(np.hypot(*(end - start))) - 0.3,
        acceleration=10.0,
        deceleration=4.0,
        heeds=False,
    )


def dynamic_object(ground: Ground) -> list[Actor]:
    """A walker from behind an object at the roadside."""
    at, sign = ground.trigger + ground.number("distance"), ground.sign()
    edge = ground.edge(at, sign)
    model = str(ground.scenario.parameters.values["blocker_model"])
    size = VAN if "vehicle" in model else _PROP
    blocker = standing(AgentType.STATIC, size, ground.poses(at, edge + sign * 0.3)[0])
    angle = ground.number("crossing_angle")
    crossing = at + size[0] / 2 + 0.7 + np.tan(angle) * abs(edge)
    return [blocker, walks(ground, crossing, edge, 2.0, distance=6.0, angle=angle)]


def parking_pedestrian(ground: Ground) -> list[Actor]:
    """A walker from behind a vehicle that is parked beside the lane."""
    at, sign = ground.trigger + ground.number("distance"), ground.sign()
    aside, _ = ground.beside(at, sign)
    blocker = standing(AgentType.VEHICLE, VAN, ground.poses(at, aside)[0])
    angle = ground.number("crossing_angle")
    crossing = at + VAN[0] / 2 + 0.7 + np.tan(angle) * abs(aside)
    return [blocker, walks(ground, crossing, aside, 2.0, distance=6.0, angle=angle)]


def pedestrians(ground: Ground) -> list[Actor]:
    """Three walkers on the crosswalk behind the junction, each at a pace of its own."""
    _, leaves = ground.junction()
    aside = ground.edge(leaves + 1.0, -1.0)
    # Beside each other and behind each other, 1.3 m/s.
    shifts = ((0.4, 0.5), (1.0, 1.5), (1.6, -0.5))
    return [
        walks(ground, leaves + 1.0 + along, aside - back, 1.3, distance=12.0, meets=True)
        for along, back in shifts
    ]


def turning_bicycle(ground: Ground) -> list[Actor]:
    """A bicycle that crosses the road into which the ego turns."""
    return _behind_turn(ground, AgentType.CYCLIST)


def turning_pedestrian(ground: Ground) -> list[Actor]:
    """A walker who crosses the road into which the ego turns."""
    return _behind_turn(ground, AgentType.PEDESTRIAN)


def _behind_turn(ground: Ground, kind: AgentType) -> list[Actor]:
    _, leaves = ground.junction()
    at = leaves + 3.0
    return [walks(ground, at, ground.edge(at, -1.0), 1.8, distance=6.0, kind=kind)]


def blocked_intersection(ground: Ground) -> list[Actor]:
    """A vehicle that stands 5 m behind the ego's turn, until 10 s after the ego is within 13 m of it."""
    _, leaves = ground.junction()
    at = leaves + 5.0
    path = ground.along(at, 1e4)
    speed = 0.7 * ground.limit(ground.lane(at))
    return [
        Actor(
            AgentType.VEHICLE,
            VAN,
            path,
            trigger=Trigger(at, distance=13.0),
            speeds=(0.0, 0.0, speed, speed),
            until=(10.0, np.inf),
        )
    ]


def takes_priority(ground: Ground) -> list[Actor]:
    """An emergency vehicle through the junction at 60 km/h, from 30 m before it, that stops for nobody."""
    way = ground.other_way()
    path = ground.through(way, 30.0, 10.0)
    own = ground.along(*ground.junction())
    # Where its way comes nearest to the ego's.
    apart = np.hypot(*(path[:, None, :2] - own[None, :, :2]).transpose(2, 0, 1))
    theirs, ours = np.unravel_index(int(apart.argmin()), apart.shape)
    meets = ground.junction()[0] + float(ours)
    speed = 60 / 3.6
    driven = float(np.hypot(*np.diff(path[: int(theirs) + 1, :2], axis=0).T).sum())
    # From standstill it takes v / 2a longer than at full speed.
    lead = driven / speed + speed / (2 * 8.0)
    return [
        Actor(
            AgentType.VEHICLE,
            VAN,
            path,
            trigger=Trigger(ahead_of(ground, meets, _EARLIER * lead)),
            meeting=Meeting(driven, meets, until=_LAST, keeps=True),
            speeds=(0.0, speed, speed, speed),
            acceleration=8.0,
            heeds=False,
        )
    ]
