"""How far predicted futures end up from the logged one: ADE, FDE, their best of K, and misses.

Pure functions of any leading shape. A future that is logged only in part counts with the part that is: the average
goes over its known steps, the final error is that of its last known step. Where no step is known the result is NaN,
which `jnp.nanmean` leaves out.

The definitions are those of the Waymo and Argoverse forecasting challenges; these ask for the final error at one fixed
step and drop road users that are not logged there.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.geometry.numerics import safe_norm

# Final error [m] above which a forecast missed (Argoverse, nuScenes).
MISS_DISTANCE = 2.0


class Displacement(NamedTuple):
    """Errors of K forecasts of one future, each of the leading shape; NaN where the future is unknown.

    Attributes:
        ade: m, average error over the known steps, mean over the forecasts.
        fde: m, error at the last known step, mean over the forecasts.
        min_ade: m, least average error of the K (minADE_k).
        min_fde: m, least final error of the K (minFDE_k).
        missed: 1 where every final error exceeds `MISS_DISTANCE`, else 0; its mean is the miss rate.
    """

    ade: jax.Array
    fde: jax.Array
    min_ade: jax.Array
    min_fde: jax.Array
    missed: jax.Array


def displacement(
    predicted: jax.Array, logged: jax.Array, valid: jax.Array, miss_distance: float = MISS_DISTANCE
) -> Displacement:
    """Errors of K forecasts against the logged future.

    Args:
        predicted: ``[..., K, H, 2]`` m.
        logged: ``[..., H, 2]`` m; where invalid its values are not looked at.
        valid: bool ``[..., H]``.
        miss_distance: m.
    """
    expanded = (logged[..., None, :, :], valid[..., None, :])
    ade, fde = average_error(predicted, *expanded), final_error(predicted, *expanded)
    nearest = fde.min(-1)
    missed = jnp.where(jnp.isnan(nearest), jnp.nan, nearest > miss_distance)
    return Displacement(ade.mean(-1), fde.mean(-1), ade.min(-1), nearest, missed)


def average_error(predicted: jax.Array, logged: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean distance [m] over the valid steps (ADE), of the leading shape; NaN where there is none.

    Args:
        predicted, logged: ``[..., H, 2]`` m; they broadcast.
        valid: bool ``[..., H]``.
    """
    total = _distances(predicted, logged, valid).sum(-1)
    count = jnp.broadcast_to(valid.sum(-1), total.shape)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def final_error(predicted: jax.Array, logged: jax.Array, valid: jax.Array) -> jax.Array:
    """Distance [m] at the last valid step (FDE); arguments and shape as of `average_error`."""
    distance = _distances(predicted, logged, valid)
    steps = jnp.arange(valid.shape[-1])
    last = jnp.where(valid, steps, -1).max(-1)
    at_last = jnp.where(steps == last[..., None], distance, 0.0).sum(-1)
    return jnp.where(last >= 0, at_last, jnp.nan)


def _distances(predicted: jax.Array, logged: jax.Array, valid: jax.Array) -> jax.Array:
    """Distances [m] at each step, 0 where it is invalid; what is not valid may hold anything, NaN too."""
    apart = jnp.where(valid[..., None], predicted - logged, 0.0)
    return safe_norm(apart[..., 0], apart[..., 1])
