"""A world model as the other road users of any rollout.

A scene is encoded at the start of an episode, and again every ``reencode_every`` steps of 0.1 s; every 0.5 s each road
user takes a decision that knows the ego's pose and its displacement of the next 0.5 s, and drives by it at 10 Hz.

The times of encoding and deciding are counted in the memory, from the start of the episode. Where a rollout scans over
time and is vmapped from outside, as `perlsim.sim.rollout` is, the count is the same for all episodes and work is done
only when it is due. Where episodes of different ages are stepped together, both are computed in every step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, Scene, X, Y, Z
from perlsim.errors import PerlsimError
from perlsim.sim.agents import EgoFuture
from perlsim.sim.core import SimConfig, init, logged_past
from perlsim.sim.observe import ObservationConfig, nearest_agents, observe
from perlsim.sim.types import SimState
from perlsim.training.export import load_model, same_shapes, save_model
from world_model.data import LOG, body_of
from world_model.kinematics import SUBSTEPS, Controls, Motion, move
from world_model.model import EgoStep, WorldModel, WorldModelConfig

KIND = "world_model"


class _Context(NamedTuple):
    """What an encoding leaves: the decoder's memory ``[K, M]``, slots ``[K]`` and whether they hold anyone, where in
    these each slot of the bank is, int32 ``[A]`` (−1 nowhere), and the ego's half sizes ``[2]``."""

    hidden: jax.Array
    slots: jax.Array
    valid: jax.Array
    place: jax.Array
    ego_size: jax.Array


class WorldModelMemory(NamedTuple):
    """Memory between steps.

    Attributes:
        age: int32, steps since the start of the episode.
        context: of the last encoding.
        controls: in force, ``[A]`` each.
        entered: bool ``[A]``, who has been let in by the log.
        frames: ``[H, 4, A]``, past places as in `SimState.past`, at the observation's stride; H is 0 where nothing is
            encoded again.
    """

    age: jax.Array
    context: _Context
    controls: Controls
    entered: jax.Array
    frames: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params"],
    meta_fields=["config", "reencode_every", "sample_modes"],
)
@dataclass(frozen=True)
class WorldModelAgents:
    """The K road users nearest to the ego are predicted; the others keep their velocity until the next encoding.

    A road user enters when and as the log lets it, and is absent when it is absent in the log.

    Attributes:
        params: of the network.
        config: of the network (static).
        reencode_every: steps of 0.1 s between encodings, a multiple of 10; 0 for one encoding an episode (static).
        sample_modes: whether each road user's mode is drawn by its probabilities; else it is the likeliest (static).
    """

    params: Any
    config: WorldModelConfig
    reencode_every: int = 20
    sample_modes: bool = False
    requires_paths: ClassVar[bool] = False
    replays_log: ClassVar[bool] = False

    @property
    def observed_pieces(self) -> tuple[int, int]:
        """Pieces of the map that banks have to be built with."""
        return self.config.network.observed_pieces

    def validate(self) -> WorldModelAgents:
        """Itself.

        Raises:
            PerlsimError: times of encoding at which no decision is due or no past frame is at hand.
        """
        stride = self._observation.history_stride
        if self.reencode_every < 0 or self.reencode_every % SUBSTEPS or self.reencode_every % stride:
            raise PerlsimError(
                f"{self.reencode_every} steps between encodings are no multiple of {SUBSTEPS} and {stride}",
                field="reencode_every",
            )
        return self

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> WorldModelMemory:
        """Encodes the scene as it is in the log."""
        observation = self._observation
        state_key, mode_key = jax.random.split(key)
        sim = SimConfig(past_steps=observation.past_steps)
        state = init(sim, LOG, scene, start, state_key)
        stride = observation.history_stride
        kept = observation.history if self.reencode_every else 0
        zero = jnp.zeros(scene.bank.num_agents, jnp.float32)
        return WorldModelMemory(
            jnp.int32(0),
            self._encode(observation, scene, state, mode_key),
            Controls(zero, zero, zero),
            state.agents[VALID] > 0,
            logged_past(scene, start - stride * jnp.arange(kept, 0, -1)),
        )

    def act(
        self, memory: WorldModelMemory, scene: Scene, state: SimState, ego_future: EgoFuture, key: jax.Array
    ):
        """Road users of the next step."""
        age, rows = memory.age, state.agents
        context, frames = memory.context, memory.frames
        if self.reencode_every:
            # The frames kept are a stride apart already.
            spaced = replace(self._observation, history_stride=1)
            seen = replace(state, past=frames, past_is_logged=False)
            context = lax.cond(
                (age > 0) & (age % self.reencode_every == 0),
                lambda: self._encode(spaced, scene, seen, key),
                lambda: context,
            )
            now = jnp.stack([rows[X], rows[Y], rows[COS] * rows[VALID], rows[SIN] * rows[VALID]])
            frames = lax.cond(
                age % self._observation.history_stride == 0,
                lambda: jnp.concatenate([frames[1:], now[None]]),
                lambda: frames,
            )
        context, controls = lax.cond(
            age % SUBSTEPS == 0,
            lambda: self._decide(context, scene, state, ego_future),
            lambda: (context, memory.controls),
        )
        logged = scene.agents_at(state.step + 1)
        fresh = ~memory.entered & (logged[VALID] > 0)
        agents = jnp.where(fresh | ~memory.entered, logged, _moved(scene, context, rows, controls, logged))
        memory = WorldModelMemory(age + 1, context, controls, memory.entered | fresh, frames)
        return memory, agents

    @property
    def _observation(self) -> ObservationConfig:
        return self.config.network.observation

    def _encode(self, observation: ObservationConfig, scene: Scene, state: SimState, key) -> _Context:
        """Encodes the scene of a state, and gives everyone a mode."""
        model = WorldModel(self.config)
        slots, valid = nearest_agents(observation, scene, state.agents, state.ego, 0)
        encoded = model.encode(self.params, observe(observation, scene, state))
        if self.sample_modes:
            mode = jax.random.categorical(key, encoded.mode_logits)
        else:
            mode = encoded.mode_logits.argmax(-1)
        hidden = model.remember(self.params, encoded, mode)
        here = (slots == jnp.arange(state.agents.shape[1])[:, None]) & valid
        place = jnp.where(here.any(1), here.argmax(1), -1).astype(jnp.int32)
        return _Context(hidden, slots.astype(jnp.int32), valid, place, encoded.ego)

    def _decide(self, context: _Context, scene: Scene, state: SimState, ego_future: EgoFuture):
        """The decoder's next step."""
        ego = state.ego
        told = EgoStep(ego.x, ego.y, ego.cos, ego.sin, ego_future.dx, ego_future.dy, jnp.float32(1.0))
        motion, body = Motion.of_rows(state.agents[:, context.slots]), body_of(scene, context.slots)
        args = (context.ego_size, context.hidden, motion, body, context.valid, told)
        hidden, controls = WorldModel(self.config).decide(self.params, *args)
        everyone = Controls(*(part[jnp.maximum(context.place, 0)] for part in controls))
        return context._replace(hidden=hidden), everyone


def _moved(scene: Scene, context: _Context, rows, controls: Controls, logged) -> jax.Array:
    """Road users ``[8, A]`` 0.1 s on: by their controls, or on with their velocity where they have none."""
    body = body_of(scene, jnp.arange(rows.shape[1]))
    driven = move(Motion.of_rows(rows), controls, body)
    straight = Motion.of_rows(rows)
    straight = straight._replace(x=rows[X] + rows[VX] * STEP, y=rows[Y] + rows[VY] * STEP)
    x, y, cos, sin, vx, vy = jax.tree.map(partial(jnp.where, context.place >= 0), driven, straight)
    z = jnp.where(logged[VALID] > 0, logged[Z], rows[Z])
    return jnp.stack([x, y, z, cos, sin, vx, vy, logged[VALID]])


def save_agents(folder: Path | str, config: WorldModelConfig, params: Any) -> None:
    """Writes a world model, for `load_agents`."""
    save_model(folder, KIND, config.as_dict(), params)


def load_agents(folder: Path | str, reencode_every: int = 20, sample_modes: bool = False) -> WorldModelAgents:
    """The road users of a world model that `save_agents` wrote.

    Raises:
        PerlsimError: no world model, or one of a newer version.
        FormatError: damaged files.
    """
    content, params = load_model(folder, KIND)
    config = WorldModelConfig.from_dict(content)
    same_shapes(params, jax.eval_shape(WorldModel(config).init, jax.random.key(0)), folder)
    params = jax.tree.map(jnp.asarray, params)
    return WorldModelAgents(params, config, reencode_every, sample_modes).validate()
