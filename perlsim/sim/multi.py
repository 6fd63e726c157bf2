"""Multi-agent simulation: every road user of a scene is controlled and observes.

Each is a kinematic bicycle driven by acceleration and curvature. Road users that the log lets in later follow the
log until then; whoever has entered is controlled to the end of the episode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.bank import COS, SIN, STEP, VALID, Scene, X, Y, Z
from perlsim.geometry.numerics import wrap_angle
from perlsim.sim.core import logged_past
from perlsim.sim.everyone import everyone_outcome, pose_of
from perlsim.sim.observe import Observation, ObservationConfig, observe_from, perceived
from perlsim.sim.types import Pose

# Bounds of the controls [m/s², 1/m]: hard braking, and the curvature of CARLA's car at full steering.
ACCELERATION_RANGE = (-8.0, 4.0)
MAX_CURVATURE = 0.27


class MultiAction(NamedTuple):
    """Controls of every road user: acceleration [m/s²] and curvature of the path [1/m, left positive], ``[A]``."""

    acceleration: jax.Array
    curvature: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["agents", "past", "events", "happened", "step"],
    meta_fields=[],
)
@dataclass(frozen=True)
class MultiState:
    """What evolves.

    Attributes:
        agents: ``[8, A]``, rows as in a bank.
        past: ``[P, 4, A]``, as in `SimState`.
        events: int32 ``[A]``, `Event` sets of the last step.
        happened: int32 ``[A]``, of all steps.
        step: int32, index into the log.
    """

    agents: jax.Array
    past: jax.Array
    events: jax.Array
    happened: jax.Array
    step: jax.Array


def init_multi(config: ObservationConfig, scene: Scene, start: jax.Array) -> MultiState:
    """The state at a step of the log."""
    start = jnp.asarray(start, jnp.int32)
    rows = scene.agents_at(start)
    nothing = jnp.zeros(rows.shape[1], jnp.int32)
    past = logged_past(scene, start - jnp.arange(config.past_steps, 0, -1))
    return MultiState(rows, past, nothing, nothing, start)


def step_multi(scene: Scene, state: MultiState, action: MultiAction) -> MultiState:
    """Moves every road user by 0.1 s; the scene's bank must be built with ``outcomes_for="all"``."""
    before = state.agents
    driven = _drive(before, action)
    logged = scene.agents_at(state.step + 1)
    present = before[VALID] > 0
    after = jnp.where(present, driven, logged)
    events, z = everyone_outcome(scene, before, after, scene.lights_at(state.step + 1))
    after = jnp.where(jnp.arange(8)[:, None] == Z, jnp.where(present, z, after[Z]), after)
    past = state.past
    if past.shape[0]:
        now = jnp.stack([before[X], before[Y], before[COS] * present, before[SIN] * present])
        past = jnp.concatenate([past[1:], now[None]])
    return replace(
        state, agents=after, past=past, events=events, happened=state.happened | events, step=state.step + 1
    )


def observe_multi(config: ObservationConfig, scene: Scene, state: MultiState) -> Observation:
    """What every road user sees, with a leading axis of slots ``[A, ...]``; of absent ones it means nothing."""
    slots = jnp.arange(state.agents.shape[1])
    rows, frames = perceived(config, state.agents, state.past)

    def one(slot: jax.Array, pose: Pose) -> Observation:
        return observe_from(config, scene, rows, frames, state.step, pose, slot)

    return jax.vmap(one)(slots, pose_of(state.agents))


def _drive(rows: jax.Array, action: MultiAction) -> jax.Array:
    """Rows ``[8, A]`` after 0.1 s: exact for constant acceleration on an arc; nobody reverses by braking."""
    pose = pose_of(rows)
    acceleration = jnp.clip(action.acceleration, *ACCELERATION_RANGE)
    speed = jnp.maximum(pose.speed + acceleration * STEP, 0.0)
    distance = 0.5 * (jnp.maximum(pose.speed, 0.0) + speed) * STEP
    turn = distance * jnp.clip(action.curvature, -MAX_CURVATURE, MAX_CURVATURE)
    # The chord of an arc: sinc of half the turn times its length, at half the turn (turns are small: series).
    half = 0.5 * turn
    chord = distance * (1.0 - half * half / 6.0)
    cos_half, sin_half = jnp.cos(half), jnp.sin(half)
    x = pose.x + chord * (pose.cos * cos_half - pose.sin * sin_half)
    y = pose.y + chord * (pose.sin * cos_half + pose.cos * sin_half)
    heading = wrap_angle(pose.heading + turn)
    cos, sin = jnp.cos(heading), jnp.sin(heading)
    return jnp.stack([x, y, rows[Z], cos, sin, speed * cos, speed * sin, rows[VALID]])
