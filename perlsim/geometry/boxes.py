"""Oriented boxes: exact separation by separating axes, corners, and boxes against segments.

A box is (x, y, cos, sin, half_length, half_width): centre [m], heading, half sizes [m]. Functions are elementwise:
any of the arguments may be arrays that broadcast. z is gated by the caller.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Box(NamedTuple):
    """Oriented rectangle; fields broadcast against each other."""

    x: jax.Array
    y: jax.Array
    cos: jax.Array
    sin: jax.Array
    half_length: jax.Array
    half_width: jax.Array


def box_gap(first: Box, second: Box) -> jax.Array:
    """Largest gap [m] over the four separating axes.

    Returns:
        Positive: the boxes are apart (a lower bound of their distance). Zero or negative: they overlap, by at least
        that depth along every axis.
    """
    dx, dy = second.x - first.x, second.y - first.y
    cos = jnp.abs(first.cos * second.cos + first.sin * second.sin)
    sin = jnp.abs(first.cos * second.sin - first.sin * second.cos)
    along = jnp.abs(dx * first.cos + dy * first.sin)
    across = jnp.abs(dy * first.cos - dx * first.sin)
    along_second = jnp.abs(dx * second.cos + dy * second.sin)
    across_second = jnp.abs(dy * second.cos - dx * second.sin)
    gap_first = jnp.maximum(
        along - first.half_length - second.half_length * cos - second.half_width * sin,
        across - first.half_width - second.half_length * sin - second.half_width * cos,
    )
    gap_second = jnp.maximum(
        along_second - second.half_length - first.half_length * cos - first.half_width * sin,
        across_second - second.half_width - first.half_length * sin - first.half_width * cos,
    )
    return jnp.maximum(gap_first, gap_second)


def corners(box: Box) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """Front left, rear left, rear right, front right corner, each as (x, y) [m]."""
    lx, ly = box.half_length * box.cos, box.half_length * box.sin
    wx, wy = -box.half_width * box.sin, box.half_width * box.cos
    return (
        (box.x + lx + wx, box.y + ly + wy),
        (box.x - lx + wx, box.y - ly + wy),
        (box.x - lx - wx, box.y - ly - wy),
        (box.x + lx - wx, box.y + ly - wy),
    )


def segment_touches_box(mid_x, mid_y, half_x, half_y, box: Box) -> jax.Array:
    """Whether a segment meets the box (closed sets), by separating axes.

    Args:
        mid_x, mid_y: its middle [m].
        half_x, half_y: from its middle to its end [m].
        box: the box.
    """
    mid_x, mid_y = mid_x - box.x, mid_y - box.y
    mid_along = mid_x * box.cos + mid_y * box.sin
    mid_across = mid_y * box.cos - mid_x * box.sin
    half_along = half_x * box.cos + half_y * box.sin
    half_across = half_y * box.cos - half_x * box.sin
    return (
        (jnp.abs(mid_along) <= box.half_length + jnp.abs(half_along))
        & (jnp.abs(mid_across) <= box.half_width + jnp.abs(half_across))
        & (
            jnp.abs(mid_along * half_across - mid_across * half_along)
            <= box.half_length * jnp.abs(half_across) + box.half_width * jnp.abs(half_along)
        )
    )
