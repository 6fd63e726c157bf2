"""Rollouts of all road users of a scene under an agent model, the ego as logged.

In the challenge the ego is simulated too; an `AgentModel` does not drive it, so here it repeats the log and is not
scored. A model that draws nothing gives equal rollouts; equal ones are measured once and weighed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from perlsim.bank import VALID, Scene
from perlsim.metrics.realism.features import LEAD_IN
from perlsim.sim.agents import EgoFuture
from perlsim.sim.core import SimConfig, init, logged_pose
from perlsim.sim.types import Pose

# Where an ego is that the log does not know [m]: too far for anyone to react to.
_NOWHERE = 1e5
# EgoFuture looks this many steps ahead.
_FUTURE_STEPS = 5


def rollout_of(agents: Any, horizon: int, scene: Scene, start: jax.Array, key: jax.Array) -> jax.Array:
    """One rollout, ``[LEAD_IN + horizon, 8, A]``: steps ``start − 1`` and ``start`` of the log, then the simulated.

    Args:
        agents: agent model.
        horizon: steps of 0.1 s.
        scene: the scene.
        start: int32, step of the log.
        key: random key of the rollout.
    """
    state = replace(init(SimConfig(), agents, scene, start, key), ego=_ego_at(scene, start))

    def move(state, _):
        ego = _ego_at(scene, state.step)
        ahead = _ego_at(scene, state.step + _FUTURE_STEPS)
        future = EgoFuture(ahead.x - ego.x, ahead.y - ego.y)
        key = jax.random.fold_in(state.key, state.step)
        memory, rows = agents.act(state.memory, scene, state, future, key)
        following = state.step + 1
        state = replace(
            state,
            ego=_ego_at(scene, following),
            agents=rows,
            memory=memory,
            step=following,
        )
        own = scene.agents_at(following)[:, :1]
        return state, jnp.where(jnp.arange(rows.shape[1]) == 0, own, rows)

    _, simulated = lax.scan(move, state, None, length=horizon)
    before = jnp.stack([scene.agents_at(start + step) for step in range(1 - LEAD_IN, 1)])
    return _comparable(scene, start, jnp.concatenate([before, simulated]))


def logged_of(horizon: int, scene: Scene, start: jax.Array) -> jax.Array:
    """The log in the layout of `rollout_of`."""
    steps = start + jnp.arange(1 - LEAD_IN, horizon + 1)
    return _comparable(scene, start, jax.vmap(scene.agents_at)(steps))


def _comparable(scene: Scene, start: jax.Array, tracks: jax.Array) -> jax.Array:
    """Tracks ``[LEAD_IN + H, 8, A]`` without what the log and a simulation cannot both have.

    These are road users that enter after the start, whom the challenge too leaves out of the scene, and steps after the
    log's end, where a log of nearly 9 s lacks the last.
    """
    steps = start + jnp.arange(tracks.shape[0]) + 1 - LEAD_IN
    present = (tracks[LEAD_IN - 1, VALID] > 0) & (steps < scene.bank.num_steps[scene.idx])[:, None]
    return tracks.at[:, VALID].set(jnp.where(present, tracks[:, VALID], 0.0))


def distinct(rollouts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the rollouts ``[R, ...]`` differ from all before them, and how many equal each of these."""
    first_of: dict[bytes, int] = {}
    counts: dict[int, int] = {}
    for number, rollout in enumerate(rollouts):
        first = first_of.setdefault(rollout.tobytes(), number)
        counts[first] = counts.get(first, 0) + 1
    return np.array(list(counts)), np.array(list(counts.values()), np.float64)


def _ego_at(scene: Scene, step: jax.Array) -> Pose:
    """The logged ego, far away where the log does not know it."""
    pose = logged_pose(scene, step)
    known = scene.agents_at(step)[VALID, 0] > 0
    away = pose._replace(x=jnp.float32(_NOWHERE), y=jnp.float32(_NOWHERE), speed=jnp.float32(0.0))
    return jax.tree.map(lambda here, there: jnp.where(known, here, there), pose, away)
