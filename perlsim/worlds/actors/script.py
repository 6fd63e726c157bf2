"""What the scripted road users of one route are and do, on the host.

Frame: right-handed, the town's. Lengths along a path are horizontal metres from its first point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perlsim.agent_paths import curve_speed, slowed_ahead
from perlsim.bank import AGENT_PATH_SPACING
from perlsim.errors import PerlsimError
from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType

NO_FLOW = -1
# Actors of one flow at most, and m round points that are to be clear.
MOST_IN_FLOW, CLEAR = 12, 15.0
# m/s² that drivers in a flow brake for whoever gets in their way: they have the right of way, and those of the
# public classes do not brake at all before they have been hit [S].
FLOW_BRAKING = 3.0
# m that they leave to who stands in their way: who turns before them needs it [S].
FLOW_ROOM = 8.0


@dataclass(frozen=True)
class Trigger:
    """When an actor begins: once all of these hold. The default holds at once.

    Attributes:
        arc: m of the ego's route, a place on it.
        distance: m before that place at which the ego sets it off.
        lead: s that the ego, at its present speed, would need to that place; whichever is farther counts.
        time: s since the drive began, at least.
    """

    arc: float = -np.inf
    distance: float = 0.0
    lead: float = 0.0
    time: float = 0.0


NEVER = Trigger(time=np.inf)


@dataclass(frozen=True)
class Meeting:
    """Where an actor is to be at the moment at which the ego comes to a place: it drives as fast as that takes.

    Attributes:
        arc: m along the actor's path.
        ego: m along the ego's route.
        until: m before ``arc`` from which the actor drives on, whatever the ego does.
        keeps: whether it then keeps the speed that it has until it is past ``arc``; else it takes its own.
        pace: m/s, the most until then; its own speed without.
    """

    arc: float
    ego: float
    until: float = 0.0
    pace: float = 0.0
    keeps: bool = False


@dataclass(frozen=True)
class Stretch:
    """A stretch of a path, m from its first point."""

    begin: float
    end: float


@dataclass(frozen=True)
class Disturbance:
    """A stretch of the ego's route on which its controls are off.

    Attributes:
        begin, end: m along the route.
        steer: added to the ego's steering, left positive.
        throttle: added to its throttle.
    """

    begin: float
    end: float
    steer: float
    throttle: float


@dataclass(frozen=True)
class Actor:
    """One scripted road user.

    Attributes:
        kind: `AgentType`.
        size: length, width, height, m.
        path: ``[n, 3]`` m, at least two points; it leaves the world at its end.
        arc: m along the path at which it begins; negative in a flow: waits until the flow has room.
        present: whether it is there before its trigger.
        trigger: when it begins.
        speeds: m/s that it wants before its trigger, after it, and after each time of ``until``; 0 brakes as
            hard as it can.
        until: s after the trigger, rising.
        stop: m along the path at which it comes to rest for good.
        acceleration, deceleration, braking: m/s², the greatest, the comfortable and the hardest.
        headway: s that it keeps to who drives ahead.
        room: m that it keeps to who stands in its way or comes towards it; as to others without.
        margin: m beside it that it wants free; negative passes who reaches that far into its way.
        heeds: whether it keeps its distance to whoever is on its path, the ego included.
        obeys: whether it stops at lights.
        flow: number of its flow: actors with the same path that enter it again and again; −1 none.
        gap: m, bumper to bumper, that it keeps when it enters.
        unseen: m round its source within which the ego must not be when it enters.
        emergency: whether the ego has to yield to it when it comes from behind.
        meeting: where it is to be when the ego comes to a place; None drives at its own speed.
        yields: stretches of its path in which it crosses or joins the ways of others; it enters one in a gap only.
    """

    kind: AgentType
    size: tuple[float, float, float]
    path: Array
    arc: float = 0.0
    present: bool = True
    trigger: Trigger = NEVER
    speeds: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    until: tuple[float, float] = (np.inf, np.inf)
    stop: float = np.inf
    acceleration: float = 2.0
    deceleration: float = 3.0
    braking: float = 8.0
    headway: float = 1.0
    room: float = 0.0
    margin: float = 0.2
    heeds: bool = True
    obeys: bool = False
    flow: int = NO_FLOW
    gap: float = 0.0
    unseen: float = 15.0
    emergency: bool = False
    meeting: Meeting | None = None
    yields: tuple[Stretch, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether it is there when the drive begins."""
        return self.present and self.arc >= 0

    @property
    def pose(self) -> tuple[float, float, float, float]:
        """Where it begins: x, y, z m, heading rad."""
        arcs = polylines.arc_lengths(self.path)
        arc = float(np.clip(self.arc, 0.0, arcs[-1]))
        segment = int(np.clip(np.searchsorted(arcs, arc, side="right") - 1, 0, len(arcs) - 2))
        x, y, z = polylines.interpolate(self.path, np.array([arc]))[0].tolist()
        return x, y, z, float(polylines.headings(self.path)[segment])


@dataclass(frozen=True)
class Script:
    """What the scenarios of one route bring.

    Attributes:
        actors: see `Actor`, in the order of their slots.
        light_shift: s by which the programmes of all lights are ahead.
        light_hold: s of the drive after which all lights stay as they are.
        start: x, y, z m, heading rad at which the ego begins; None where the route does.
        disturbances: stretches on which the ego's controls are off.
    """

    actors: tuple[Actor, ...] = ()
    light_shift: float = 0.0
    light_hold: float = np.inf
    start: tuple[float, float, float, float] | None = None
    disturbances: tuple[Disturbance, ...] = ()

    def __len__(self) -> int:
        return len(self.actors)

    @property
    def kind(self) -> Array:
        """int8 ``[N]``, `AgentType`."""
        return np.array([actor.kind for actor in self.actors], np.int8)

    @property
    def size(self) -> Array:
        """``[N, 3]`` m: length, width, height."""
        return np.array([actor.size for actor in self.actors], float).reshape(-1, 3)

    @property
    def pose(self) -> Array:
        """``[N, 4]``: x, y, z m, heading rad at the start."""
        return np.array([actor.pose for actor in self.actors], float).reshape(-1, 4)

    @property
    def is_there(self) -> Array:
        """bool ``[N]``, whether each is there when the drive begins."""
        return np.array([actor.is_there for actor in self.actors], bool)


def join_scripts(scripts: Sequence[Script]) -> Script:
    """One script of all; flows stay apart, and of lights and starts the first script that has any decides."""
    joined: list[Actor] = []
    flows = 0
    for script in scripts:
        for actor in script.actors:
            joined.append(actor if actor.flow == NO_FLOW else replace(actor, flow=actor.flow + flows))
        flows = 1 + max((actor.flow for actor in joined), default=NO_FLOW)
    lit = next((one for one in scripts if one.light_shift or one.light_hold < np.inf), Script())
    return Script(
        tuple(joined),
        lit.light_shift,
        lit.light_hold,
        next((one.start for one in scripts if one.start is not None), None),
        tuple(stretch for one in scripts for stretch in one.disturbances),
    )


def standing(kind: AgentType, size: tuple[float, float, float], pose: Array) -> Actor:
    """An actor that never moves, at a pose (x, y, z m, heading rad)."""
    ahead = np.array([np.cos(pose[3]), np.sin(pose[3]), 0.0])
    return Actor(kind, size, np.stack([pose[:3], pose[:3] + ahead]), heeds=False)


def flow(
    path: Array,
    speed: float,
    gaps: tuple[float, float],
    rng: np.random.Generator,
    *,
    clear: Sequence[Array] = (),
    kind: AgentType = AgentType.VEHICLE,
    size: tuple[float, float, float] = (4.6, 1.9, 1.6),
    number: int = 0,
    meets: tuple[float, float] | None = None,
) -> list[Actor]:
    """Actors that keep coming along a path, spread over it when the drive begins.

    Args:
        path: ``[n, 3]`` m from the source to where they leave.
        speed: m/s.
        gaps: m, least and greatest distance between their centres.
        rng: draws the distances.
        clear: points ``[3]`` round which nobody begins, within 15 m.
        kind, size: of each.
        number: of the flow.
        meets: m along the path, and s of the drive at which one of them is to be there; None leaves that to ``rng``.

    Raises:
        PerlsimError: for a flow that does not move or keeps no distance.
    """
    least = max(gaps[0], size[0] + 2.0)
    if not speed > 0 or gaps[1] < gaps[0]:
        raise PerlsimError(
            f"a flow with {speed:g} m/s and gaps from {gaps[0]:g} to {gaps[1]:g} m", field="flow"
        )
    length = polylines.arc_lengths(path)[-1]
    count = min(int(np.ceil(length / least)) + 1, MOST_IN_FLOW)
    spaces = rng.uniform(least, max(gaps[1], least), count)
    # The distances come again and again: the greatest is one of them, so that none waits for it in vain.
    spaces[int(rng.integers(count))] = max(gaps[1], least)
    arc, ahead = length - rng.uniform(0.0, 0.5 * least), 0
    if meets is not None:
        # Of those ahead of who is to be there, the first that is still on the path.
        begin = _begins_at(path, speed, *meets)
        numbers = np.arange(1, max(int((length - begin) / least), 0) + 2)
        arcs = begin + np.concatenate([[0.0], np.cumsum(spaces[numbers % count])])
        ahead = int((arcs[1:] < length).sum())
        arc = float(arcs[ahead])
    # The distance before each, from the first to the last, and then again.
    spaces = spaces[(ahead + 1 - np.arange(count)) % count]
    members = []
    for space, behind in zip(spaces.tolist(), np.roll(spaces, -1).tolist(), strict=True):
        at = polylines.interpolate(path, np.array([max(arc, 0.0)]))[0]
        is_clear = all(np.hypot(*(at - point)[:2]) > CLEAR for point in clear)
        begin = arc if arc >= 0 and is_clear else -1.0
        members.append(
            Actor(
                kind,
                size,
                path,
                arc=begin,
                trigger=Trigger(),
                speeds=(speed, speed, speed, speed),
                braking=FLOW_BRAKING,
                room=FLOW_ROOM,
                flow=number,
                gap=space - size[0],
            )
        )
        arc -= behind
    return members


def _begins_at(path: Array, speed: float, arc: float, time: float) -> float:
    """Where on a path [m] somebody begins who is at ``arc`` m after ``time`` s; negative before its first point."""
    stations = np.arange(0.0, max(arc, 1.0) + AGENT_PATH_SPACING, AGENT_PATH_SPACING)
    points = polylines.interpolate(path, stations)
    heading = np.unwrap(polylines.headings(points))
    paces = np.minimum(slowed_ahead(curve_speed(heading)), speed)
    times = np.concatenate([[0.0], np.cumsum(AGENT_PATH_SPACING / paces[:-1])])
    left = float(np.interp(arc, stations, times)) - time
    return float(np.interp(left, times, stations)) if left >= 0 else left * speed
