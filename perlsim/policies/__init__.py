"""Ego policies, by name.

A policy is a frozen dataclass with two methods for one scene, vmapped by the caller:

- ``init(scene, start, key) -> carry``
- ``act(carry, observation, key) -> (carry, Plan)``

A policy may also have ``propose(scene, state, key) -> [PROPOSED_STEPS, 3]``, its whole trajectory for NAVSIM's
protocol of one plan: x, y [m] and heading [rad] of the rear axle in its present frame, every 0.1 s from 0.1 s on.
For the others `proposal_of` makes one of their plan.

`privileged` policies get the `Scene` and `SimState` themselves, as a `PrivilegedView`, in place of an observation;
tables mark them. Plans are made in the ego frame (`Plan.ahead`); the simulator anchors them.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import jax

from perlsim.bank import Scene
from perlsim.errors import unknown_name
from perlsim.sim.types import Plan, SimState


class PrivilegedView(NamedTuple):
    """All there is to know, for policies that declare it."""

    scene: Scene
    state: SimState


class Policy(Protocol):
    """See the module.

    Attributes:
        privileged: whether it sees everything.
        replays_log: whether the ego's log has to go on after the start of an episode.
    """

    privileged: ClassVar[bool]
    replays_log: ClassVar[bool]

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> Any:
        """Memory at the start of an episode."""
        ...

    def act(self, carry: Any, observation: Any, key: jax.Array) -> tuple[Any, Plan]:
        """Memory and a plan."""
        ...


def policy_of(name: str) -> Policy:
    """The rule-based policy of a name.

    Raises:
        PerlsimError: for an unknown name.
    """
    from perlsim.policies.idm_route import IdmRoute
    from perlsim.policies.pdm_closed import PdmClosed
    from perlsim.policies.simple import ConstantVelocity, LogReplay

    known = {
        "log_replay": LogReplay,
        "constant_velocity": ConstantVelocity,
        "idm_route": IdmRoute,
        "pdm_closed": PdmClosed,
    }
    if name not in known:
        raise unknown_name("policy", name, known)
    return known[name]()
