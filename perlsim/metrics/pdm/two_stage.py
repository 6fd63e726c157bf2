"""NAVSIM v2's score in two stages: what follows from where a plan ends counts too.

The second stage begins 4 s later, at several places around the end of the first. How much each of them counts depends
on how near the policy's own end of the first stage came to it (FACTS §5).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Variance of the weights over distances [m²].
VARIANCE = 0.1


def stage_weights(
    distance: jax.Array, valid: jax.Array | None = None, variance: float = VARIANCE
) -> jax.Array:
    """Weights of second-stage starts, ∝ exp(−d² / (2 · variance)), that sum to 1 over the last axis.

    They are taken relative to the nearest start, which changes nothing but keeps starts that are all far away from
    having no weight at all.

    Args:
        distance: ``[..., M]`` m, between the end of the first stage and each start.
        valid: bool ``[..., M]``, starts that exist; None all. Others get no weight.
        variance: m².
    """
    valid = jnp.ones(distance.shape, bool) if valid is None else valid
    exponent = jnp.where(valid, -(distance**2) / (2 * variance), -jnp.inf)
    nearest = jnp.where(valid.any(-1, keepdims=True), exponent.max(-1, keepdims=True), 0.0)
    weight = jnp.where(valid, jnp.exp(exponent - nearest), 0.0)
    total = weight.sum(-1, keepdims=True)
    return weight / jnp.where(total > 0, total, 1.0)


def two_stage_score(
    first: jax.Array, second: jax.Array, distance: jax.Array, valid: jax.Array | None = None
) -> jax.Array:
    """S1 · Σ w_i S2_i, ``[...]``; NaN without a start, or where a score that counts is NaN.

    Args:
        first: ``[...]``, score of the first stage.
        second: ``[..., M]``, scores of the second from each start.
        distance: ``[..., M]`` m; valid: bool ``[..., M]``. See `stage_weights`.
    """
    valid = jnp.ones(distance.shape, bool) if valid is None else valid
    weight = stage_weights(distance, valid)
    combined = jnp.where(valid, weight * second, 0.0).sum(-1)
    return first * jnp.where(valid.any(-1), combined, jnp.nan)
