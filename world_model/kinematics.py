"""How predicted road users move: driven by bounded controls, so that nothing infeasible can be predicted.

Vehicles and cyclists are unicycles: acceleration along the heading and curvature. Pedestrians accelerate in any
direction and turn freely. Static things stay. The controls hold for a step of the world model; in between, motion
is integrated every 0.1 s, which is the interpolation to the simulator's rate.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import COS, SIN, STEP, VX, VY, X, Y
from perlsim.geometry.numerics import rotate, safe_norm, safe_sqrt
from perlsim.vocabulary import AgentType
from world_model.features import Places

# Steps of 0.1 s in one of the world model (PerlAD: 2 Hz), and its own steps (3 s).
SUBSTEPS, NUM_STEPS = 5, 6
# Bounds: acceleration of everyone [m/s², of both axes together], curvature [1/m, CARLA's car at full steering], and
# what pedestrians do: acceleration [m/s²] and rate of turn [rad/s] [S].
MAX_ACCELERATION, MAX_CURVATURE = 8.0, 0.27
_WALKING_ACCELERATION, _TURN_RATE = 4.0, 2.0
NUM_CONTROLS = 3


class Motion(NamedTuple):
    """Poses and velocities in any one frame, ``[K]`` or another shape: m, m/s."""

    x: jax.Array
    y: jax.Array
    cos: jax.Array
    sin: jax.Array
    vx: jax.Array
    vy: jax.Array

    @classmethod
    def of_rows(cls, rows: jax.Array) -> Motion:
        """From rows ``[8, K]`` of a bank."""
        return cls(rows[X], rows[Y], rows[COS], rows[SIN], rows[VX], rows[VY])

    @property
    def places(self) -> Places:
        """The poses."""
        return Places(self.x, self.y, self.cos, self.sin)

    def at(self, *index) -> Motion:
        """Each field indexed."""
        return Motion(*(field[index] for field in self))


class Body(NamedTuple):
    """What does not change: half length, half width [m] and `AgentType` as a number, ``[K]``."""

    half_length: jax.Array
    half_width: jax.Array
    kind: jax.Array

    def at(self, *index) -> Body:
        """Each field indexed."""
        return Body(*(field[index] for field in self))

    @property
    def walks(self) -> jax.Array:
        """Whether it moves in any direction: pedestrians, and what is not known."""
        return (self.kind == AgentType.PEDESTRIAN) | (self.kind == AgentType.UNKNOWN)

    @property
    def stays(self) -> jax.Array:
        """Whether it never moves."""
        return self.kind == AgentType.STATIC


class Controls(NamedTuple):
    """What moves a road user during a step, ``[K]``: acceleration ahead and to the left [m/s²]; for those that
    drive curvature [1/m], for those that walk rate of turn [rad/s]."""

    ahead: jax.Array
    left: jax.Array
    turn: jax.Array


def bounded(raw: jax.Array, body: Body) -> Controls:
    """Controls within their bounds from any three numbers each, ``[K, NUM_CONTROLS]``."""
    limit = jnp.where(body.walks, _WALKING_ACCELERATION, MAX_ACCELERATION)
    # Smooth map of the plane onto a disc.
    size = safe_norm(raw[:, 0], raw[:, 1])
    inside = limit * lax.rsqrt(1.0 + size**2 * jnp.where(body.walks, 1.0, 0.0) + raw[:, 0] ** 2 * ~body.walks)
    turn = jnp.tanh(raw[:, 2] * jnp.where(body.walks, 1.0, 0.2))
    turn *= jnp.where(body.walks, _TURN_RATE, MAX_CURVATURE)
    moves = ~body.stays
    return Controls(
        jnp.where(moves, raw[:, 0] * inside, 0.0),
        jnp.where(moves & body.walks, raw[:, 1] * inside, 0.0),
        jnp.where(moves, turn, 0.0),
    )


def move(motion: Motion, controls: Controls, body: Body) -> Motion:
    """0.1 s on."""
    # Driving: what braking leaves of the acceleration bounds the turn.
    ahead_velocity = motion.vx * motion.cos + motion.vy * motion.sin
    side = safe_sqrt(MAX_ACCELERATION**2 - controls.ahead**2)
    speed = jnp.maximum(ahead_velocity, 0.0)
    turn_rate = jnp.clip(
        controls.turn * speed, -side / jnp.maximum(speed, 1.0), side / jnp.maximum(speed, 1.0)
    )
    faster = speed + controls.ahead * STEP
    # Nobody drives backwards; the gradient passes, so that a stop can be unlearned.
    faster = faster + lax.stop_gradient(jnp.maximum(faster, 0.0) - faster)
    angle = jnp.where(body.walks, controls.turn, turn_rate) * STEP
    cos, sin = rotate(motion.cos, motion.sin, jnp.cos(angle), jnp.sin(angle))
    # Walking: the acceleration is given in the frame of the heading.
    push_x, push_y = rotate(controls.ahead, controls.left, motion.cos, motion.sin)
    vx = jnp.where(body.walks, motion.vx + push_x * STEP, faster * cos)
    vy = jnp.where(body.walks, motion.vy + push_y * STEP, faster * sin)
    vx, vy = jnp.where(body.stays, 0.0, vx), jnp.where(body.stays, 0.0, vy)
    # Where one slides sideways at the start, as boxes of logs do, the turn to the heading is at once.
    first_x = jnp.where(body.walks, motion.vx, speed * motion.cos)
    first_y = jnp.where(body.walks, motion.vy, speed * motion.sin)
    moves = ~body.stays
    return Motion(
        motion.x + jnp.where(moves, 0.5 * (first_x + vx) * STEP, 0.0),
        motion.y + jnp.where(moves, 0.5 * (first_y + vy) * STEP, 0.0),
        cos,
        sin,
        vx,
        vy,
    )


def move_on(motion: Motion, controls: Controls, body: Body) -> Motion:
    """One step of the world model, 0.5 s, on."""
    return lax.fori_loop(0, SUBSTEPS, lambda _, now: move(now, controls, body), motion)
