"""How the other road users move: the protocol, and models that follow the log or go on as they are.

A model is a frozen dataclass of numbers and choices with two methods for one scene, vmapped by the caller:

- ``init(scene, start, key) -> memory``
- ``act(memory, scene, state, ego_future, key) -> (memory, agents)``: road users ``[8, A]`` at step
  ``state.step + 1``. ``ego_future`` is what of the plan in force they may know (DESIGN §5).

`IDM <perlsim.sim.idm>` and learned models implement the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from perlsim.bank import STEP, VX, VY, Scene, X, Y
from perlsim.errors import PerlsimError, unknown_name
from perlsim.sim.types import SimState


class EgoFuture(NamedTuple):
    """What road users may know of the ego: displacement [m, scenario frame] until 0.5 s from now."""

    dx: jax.Array
    dy: jax.Array


class AgentModel(Protocol):
    """See the module.

    Attributes:
        requires_paths: whether banks must be built with ``agent_paths=True``.
        replays_log: whether every road user repeats the log, so that what befalls them without the ego is known
            beforehand.
    """

    @property
    def requires_paths(self) -> bool:
        """See above."""
        ...

    @property
    def replays_log(self) -> bool:
        """See above."""
        ...

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> Any:
        """Memory at the start of an episode."""
        ...

    def act(
        self, memory: Any, scene: Scene, state: SimState, ego_future: EgoFuture, key: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Memory and road users ``[8, A]`` one step on; slot 0 is not looked at."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LogAgents:
    """Every road user repeats the log and does not react."""

    requires_paths: ClassVar[bool] = False
    replays_log: ClassVar[bool] = True

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> tuple[()]:
        """No memory."""
        return ()

    def act(self, memory, scene: Scene, state: SimState, ego_future: EgoFuture, key: jax.Array):
        """The logged road users of the next step."""
        return memory, scene.agents_at(state.step + 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConstantVelocityAgents:
    """Every road user goes on with the velocity and heading it had when the episode began."""

    requires_paths: ClassVar[bool] = False
    replays_log: ClassVar[bool] = False

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> tuple[()]:
        """No memory."""
        return ()

    def act(self, memory, scene: Scene, state: SimState, ego_future: EgoFuture, key: jax.Array):
        """Road users moved on by one step."""
        rows = jnp.arange(state.agents.shape[0])[:, None]
        step = jnp.where(rows == X, state.agents[VX], jnp.where(rows == Y, state.agents[VY], 0.0)) * STEP
        return memory, state.agents + step


@partial(jax.tree_util.register_dataclass, data_fields=["models", "share"], meta_fields=[])
@dataclass(frozen=True)
class MixedAgents:
    """Each episode draws one model for all its road users.

    Attributes:
        models: the models.
        share: ``[len(models)]`` weights of the draw.
    """

    models: tuple[Any, ...]
    share: jax.Array

    @property
    def requires_paths(self) -> bool:
        """Whether any of the models does."""
        return any(model.requires_paths for model in self.models)

    @property
    def replays_log(self) -> bool:
        """Whether all of the models do."""
        return all(model.replays_log for model in self.models)

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> Any:
        """Which model was drawn, and the memories of all."""
        draw, *keys = jax.random.split(key, len(self.models) + 1)
        choice = jax.random.categorical(draw, jnp.log(jnp.asarray(self.share, jnp.float32)))
        memories = tuple(m.init(scene, start, k) for m, k in zip(self.models, keys, strict=True))
        return choice, memories

    def act(self, memory, scene: Scene, state: SimState, ego_future: EgoFuture, key: jax.Array):
        """Road users of the drawn model (under vmap, all models are run)."""
        choice, memories = memory
        keys = jax.random.split(key, len(self.models))
        results = [
            model.act(own, scene, state, ego_future, k)
            for model, own, k in zip(self.models, memories, keys, strict=True)
        ]
        agents = jnp.stack([agents for _, agents in results])[choice]
        return (choice, tuple(own for own, _ in results)), agents


def agents_of(name: str) -> AgentModel:
    """The agent model of a name: ``log``, ``constant_velocity``, ``idm``, or a mixture ``idm:0.7,log:0.3``.

    Raises:
        PerlsimError: for an unknown name or weight.
    """
    from perlsim.sim.idm import IdmAgents

    known = {"log": LogAgents, "constant_velocity": ConstantVelocityAgents, "idm": IdmAgents}
    parts = [part.partition(":") for part in name.split(",")]
    for part, colon, weight in parts:
        if part not in known:
            raise unknown_name("agent model", part, known, "agents")
        if colon and not _is_weight(weight):
            raise PerlsimError(f"weight {weight!r} of {part} is not a positive number", field="agents")
    if len(parts) == 1:
        return known[parts[0][0]]()
    share = jnp.asarray([float(weight or 1.0) for _, _, weight in parts], jnp.float32)
    return MixedAgents(tuple(known[part]() for part, _, _ in parts), share)


def _is_weight(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False
