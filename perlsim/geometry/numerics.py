"""Angles, frames and square roots that are safe to differentiate: the only place for them.

All functions are elementwise over any shape and work on jax arrays. Rotations are written out, never matmuls,
because TF32 products on GPUs round 250 m by 5 cm.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def wrap_angle(angle: jax.Array) -> jax.Array:
    """``angle`` [rad] wrapped to [−π, π)."""
    return jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi


def safe_sqrt(value: jax.Array) -> jax.Array:
    """Square root with gradient 0, not infinity, at 0."""
    positive = value > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, value, 1.0)), 0.0)


def safe_norm(x: jax.Array, y: jax.Array) -> jax.Array:
    """Length of (x, y), with gradient 0 at the origin."""
    return safe_sqrt(x * x + y * y)


def safe_arctan2(y: jax.Array, x: jax.Array) -> jax.Array:
    """Angle of (x, y) [rad], 0 with gradient 0 at the origin."""
    zero = (x == 0) & (y == 0)
    return jnp.where(zero, 0.0, jnp.arctan2(y, jnp.where(zero, 1.0, x)))


def rotate(x: jax.Array, y: jax.Array, cos: jax.Array, sin: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(x, y) turned counter-clockwise by the angle of (cos, sin): coordinates *target from source*."""
    return x * cos - y * sin, x * sin + y * cos


def to_frame(x, y, frame_x, frame_y, cos, sin) -> tuple[jax.Array, jax.Array]:
    """Coordinates of the point (x, y) in the frame at (frame_x, frame_y) with axes turned by (cos, sin)."""
    dx, dy = x - frame_x, y - frame_y
    return dx * cos + dy * sin, dy * cos - dx * sin
