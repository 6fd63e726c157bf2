"""What the scripted road users of one route are and do, on the host.

Frame: right-handed, the town's. Lengths along a path are horizontal metres from its first point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perlsim.errors import PerlsimError
from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType

NO_FLOW = -1
# Actors of one flow at most, and m round points that are to be clear.
MOST_IN_FLOW, CLEAR = 12, 15.0
# m/s² that drivers in a flow brake for whoever gets in their way [S].
FLOW_BRAKING = 5.0


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
        heeds: whether it keeps its distance to whoever is on its path, the ego included.
        obeys: whether it stops at lights.
        flow: number of its flow: actors with the same path that enter it again and again; −1 none.
        gap: m, bumper to bumper, that it keeps when it enters.
        emergency: whether the ego has to yield to it when it comes from behind.
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
    heeds: bool = True
    obeys: bool = False
    flow: int = NO_FLOW
    gap: float = 0.0
    emergency: bool = False

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
    """The actors of one route, in the order of their slots.

    Attributes:
        actors: see `Actor`.
        light_shift: s by which the programmes of all lights are ahead.
    """

    actors: tuple[Actor, ...] = ()
    light_shift: float = 0.0

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
    """One script of all actors; flows stay apart, and the first shift of the lights holds."""
    joined: list[Actor] = []
    flows = 0
    for script in scripts:
        for actor in script.actors:
            joined.append(actor if actor.flow == NO_FLOW else replace(actor, flow=actor.flow + flows))
        flows = 1 + max((actor.flow for actor in joined), default=NO_FLOW)
    return Script(tuple(joined), next((script.light_shift for script in scripts if script.light_shift), 0.0))


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
    arc = length - rng.uniform(0.0, 0.5 * least)
    members = []
    for space in spaces.tolist():
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
                flow=number,
                gap=space - size[0],
            )
        )
        arc -= space
    return members
