"""Imperfect perception: observations with jitter, misses and false positives.

A planner trained on perfect vectors does not transfer to a car whose detector errs. Latency, the fourth
imperfection, is `perlsim.sim.observe.ObservationConfig.latency`, since the state has to remember more for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from perlsim.bank import Scene
from perlsim.geometry.numerics import rotate
from perlsim.sim.observe import Observation, ObservationConfig, observe
from perlsim.sim.types import SimState
from perlsim.vocabulary import AgentType

# Tells the noise of an episode from what else its key is folded with: steps, which are never so large.
_STREAM = 1 << 30
# Ghosts look like cars of usual size [m], at such distances from the observer [m], up to this speed [m/s].
GHOST_LENGTH, GHOST_WIDTH = 4.5, 1.9
GHOST_NEAREST, GHOST_FARTHEST = 5.0, 50.0
GHOST_TOP_SPEED = 10.0
# Most ghosts of a step.
_MOST_GHOSTS = 8


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PerceptionNoise:
    """How a detector errs; every number is a pytree leaf, so that it can be swept, and 0 switches it off.

    Each frame of each road user errs independently: errors are those of a detector, not of a tracker.

    Attributes:
        position: standard deviation of x and of y [m].
        heading: standard deviation of the heading [rad].
        velocity: standard deviation of vx and of vy [m/s].
        misses: probability that a road user is not seen in a step; also of each frame of its past.
        ghosts: expected number of false positives in a step (Poisson; at most 8 and the free slots). A ghost
            is a car without past, 5 to 50 m away, each place as likely as another.
    """

    position: jax.Array | float = 0.0
    heading: jax.Array | float = 0.0
    velocity: jax.Array | float = 0.0
    misses: jax.Array | float = 0.0
    ghosts: jax.Array | float = 0.0


def perceive(
    config: ObservationConfig, noise: PerceptionNoise | None, scene: Scene, state: SimState
) -> Observation:
    """What the ego of a state sees with its errors; exactly `observe` where ``noise`` is None.

    The errors depend on the episode's key and the step alone: not on the batch, nor on how often one looks.
    """
    seen = observe(config, scene, state)
    if noise is None:
        return seen
    key = jax.random.fold_in(jax.random.fold_in(state.key, _STREAM), state.step)
    return perturbed(noise, seen, key)


def perturbed(noise: PerceptionNoise, seen: Observation, key: jax.Array) -> Observation:
    """An observation with errors in its road users; what is left is again ordered nearest first."""
    now_key, past_key, miss_key, ghost_key = jax.random.split(key, 4)
    count, frames = seen.past_valid.shape
    agents = _jittered(noise, seen.agents, now_key)
    past = _jittered(noise, seen.past, past_key)
    kept = jax.random.uniform(miss_key, (count, 1 + frames)) >= noise.misses
    valid = seen.agents_valid & kept[:, 0]
    past_valid = seen.past_valid & valid[:, None] & kept[:, 1:]
    ghosts, appear = _ghosts(noise, ~valid, ghost_key)
    agents = jnp.where(appear[:, None], ghosts, agents)
    valid |= appear
    distance = agents[:, 0] ** 2 + agents[:, 1] ** 2
    # Sorted again: an order that no longer fits, or a gap in it, would give away what went wrong.
    order = jnp.argsort(jnp.where(valid, distance, jnp.inf))
    valid, past_valid = valid[order], past_valid[order]
    return seen._replace(
        agents=jnp.where(valid[:, None], agents[order], 0.0),
        agents_valid=valid,
        past=jnp.where(past_valid[..., None], past[order], 0.0),
        past_valid=past_valid,
    )


def _jittered(noise: PerceptionNoise, rows: jax.Array, key: jax.Array) -> jax.Array:
    """Rows ``[..., F]`` that begin with x, y, cos, sin and, where F > 4, vx, vy."""
    moving = rows.shape[-1] > 4
    error = jax.random.normal(key, (5 if moving else 3, *rows.shape[:-1]))
    turn = noise.heading * error[2]
    cos, sin = rotate(rows[..., 2], rows[..., 3], jnp.cos(turn), jnp.sin(turn))
    columns = [rows[..., 0] + noise.position * error[0], rows[..., 1] + noise.position * error[1], cos, sin]
    if moving:
        columns += [rows[..., 4] + noise.velocity * error[3], rows[..., 5] + noise.velocity * error[4]]
    return jnp.concatenate([jnp.stack(columns, -1), rows[..., len(columns) :]], -1)


def _ghosts(noise: PerceptionNoise, free: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A ghost for each slot ``[K, 9]``, and in which free slots one appears ``[K]``."""
    count_key, place_key = jax.random.split(key)
    terms = [jnp.exp(-jnp.asarray(noise.ghosts, jnp.float32))]
    for number in range(1, _MOST_GHOSTS):
        terms.append(terms[-1] * noise.ghosts / number)
    # A Poisson number: how many of the distribution's steps lie below one uniform draw.
    wanted = (jax.random.uniform(count_key) >= jnp.cumsum(jnp.stack(terms))).sum()
    appear = free & (jnp.cumsum(free) <= wanted)
    radius, bearing, heading, speed = jax.random.uniform(place_key, (4, *free.shape))
    radius = jnp.sqrt(GHOST_NEAREST**2 + radius * (GHOST_FARTHEST**2 - GHOST_NEAREST**2))
    bearing, heading, speed = 2 * jnp.pi * bearing, 2 * jnp.pi * heading, GHOST_TOP_SPEED * speed
    cos, sin = jnp.cos(heading), jnp.sin(heading)
    size = [
        jnp.full(free.shape, value, jnp.float32) for value in (GHOST_LENGTH, GHOST_WIDTH, AgentType.VEHICLE)
    ]
    place = [radius * jnp.cos(bearing), radius * jnp.sin(bearing)]
    return jnp.stack([*place, cos, sin, speed * cos, speed * sin, *size], -1), appear
