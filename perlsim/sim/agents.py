"""How the other road users move: the protocol, and models that follow the log or go on as they are.

A model is a frozen dataclass of numbers and choices with two methods for one scene, vmapped by the caller:

- ``init(scene, start, key) -> memory``
- ``act(memory, scene, state, ego_future, key) -> (memory, agents)``: road users ``[8, A]`` at step
  ``state.step + 1``. ``ego_future`` is what of the plan in force they may know (DESIGN §5).

`IDM <perlsim.sim.idm>` and learned models implement the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from perlsim.bank import STEP, VX, VY, Scene, X, Y
from perlsim.errors import PerlsimError, unknown_name
from perlsim.sim.types import SimState

# Before the folder of a learned model in names of agent models.
_LEARNED = "world_model="


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


def agents_of(name: str, load: Callable[[Path], AgentModel] | None = None) -> AgentModel:
    """The agent model of a name: ``log``, ``constant_velocity``, ``idm``, ``world_model=FOLDER``, or a mixture
    ``idm:0.7,log:0.3``.

    Args:
        name: of it.
        load: reads a learned model from its folder.

    Raises:
        PerlsimError: for an unknown name or weight.
    """
    from perlsim.sim.idm import IdmAgents

    known: dict[str, Callable[[], Any]] = {
        "log": LogAgents,
        "constant_velocity": ConstantVelocityAgents,
        "idm": IdmAgents,
    }
    models, shares = [], []
    for part in name.split(","):
        kind, colon, weight = part.rpartition(":") if _is_weight(part.rpartition(":")[2]) else (part, "", "")
        learned = kind.removeprefix(_LEARNED) if kind.startswith(_LEARNED) else None
        if learned and load is not None:
            models.append(load(Path(learned)))
        elif kind in known:
            models.append(known[kind]())
        elif kind.partition(":")[0] in known:
            raise PerlsimError(
                f"weight {kind.partition(':')[2]!r} of {kind.partition(':')[0]} is not a positive number",
                field="agents",
            )
        else:
            raise unknown_name("agent model", kind, [*known, f"{_LEARNED}FOLDER"], "agents")
        shares.append(float(weight) if colon else 1.0)
    return models[0] if len(models) == 1 else MixedAgents(tuple(models), jnp.asarray(shares, jnp.float32))


def _is_weight(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False
