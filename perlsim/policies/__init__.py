"""Ego policies, by name.

A policy is a frozen dataclass with two methods for one scene, vmapped by the caller:

- ``init(scene, start, key) -> carry``
- ``act(carry, observation, key) -> (carry, Plan)``

A policy may also have ``propose(scene, state, key) -> [PROPOSED_STEPS, 3]``, its whole trajectory for NAVSIM's
protocol of one plan: x, y [m] and heading [rad] of the rear axle in its present frame, every 0.1 s from 0.1 s on.
For the others `proposal_of` makes one of their plan.

`privileged` policies get the `Scene` and `SimState` themselves, as a `PrivilegedView`, in place of an observation;
tables mark them. Plans are made in the ego frame (`Plan.ahead`); the simulator anchors them.

A learned policy says what it has to be shown, and is shown that: ``observation``, an
`perlsim.sim.observe.ObservationConfig`, and ``observed_pieces``, the lane and boundary pieces of banks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import jax

from perlsim.bank import Scene
from perlsim.errors import PerlsimError, unknown_name
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


def policy_of(name: str, load: Callable[[Path], Policy] | None = None) -> Policy:
    """The policy of a name: a rule-based one, or a learned one by its folder.

    Args:
        name: of a rule, or path of a folder.
        load: reads a learned policy from its folder.

    Raises:
        PerlsimError: for an unknown name.
    """
    from perlsim.policies.expert import Expert
    from perlsim.policies.idm_route import IdmRoute
    from perlsim.policies.pdm_closed import PdmClosed
    from perlsim.policies.simple import ConstantVelocity, LogReplay

    known = {
        "log_replay": LogReplay,
        "constant_velocity": ConstantVelocity,
        "idm_route": IdmRoute,
        "pdm_closed": PdmClosed,
        "expert": Expert,
    }
    if name in known:
        return known[name]()
    if load is not None and ("/" in name or Path(name).is_dir()):
        return load(Path(name))
    raise unknown_name("policy", name, known)


def observed_pieces(*models: Any) -> tuple[int, int] | None:
    """Lane and boundary pieces that banks have to be built with for policies and agent models; None for none.

    Args:
        models: policies and agent models.

    Raises:
        PerlsimError: where two networks see different numbers of pieces.
    """
    wanted = {model.observed_pieces for model in models if hasattr(model, "observed_pieces")}
    if len(wanted) > 1:
        sizes = " and ".join(f"{lanes} lane and {others} boundary pieces" for lanes, others in sorted(wanted))
        raise PerlsimError(
            f"these networks cannot share a bank: they see {sizes}",
            remedy="take networks of one size, or one after the other",
        )
    return next(iter(wanted), None)
