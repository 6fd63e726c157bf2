"""The loss of a world model: the best of its modes is drawn to what happened, and its probability up."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from perlsim.geometry.numerics import safe_norm
from world_model.data import Sample
from world_model.kinematics import Motion
from world_model.model import Encoded, WorldModel, decode

# Weights of the parts [S].
_HEADING, _VELOCITY, _CLASSIFICATION = 1.0, 0.2, 0.3


class Forecast(NamedTuple):
    """Futures of one scene: ``[modes, S, K]`` each, and logits ``[K, modes]``."""

    motion: Motion
    logits: jax.Array


def forecast(model: WorldModel, params: Any, sample: Sample) -> Forecast:
    """All modes of all road users; in each future all are in the same mode."""
    encoded = model.encode(params, sample.seen)
    return Forecast(all_modes(model, params, encoded, sample), encoded.mode_logits)


def all_modes(model: WorldModel, params: Any, encoded: Encoded, sample: Sample) -> Motion:
    """Motion in all modes, ``[modes, S, K]``."""
    count = sample.valid.shape[0]

    def one(mode):
        chosen = jnp.full(count, mode)
        return decode(model, params, encoded, chosen, sample.motion, sample.body, sample.valid, sample.ego)[0]

    return jax.vmap(one)(jnp.arange(model.config.num_modes))


def loss_of(
    model: WorldModel, params: Any, sample: Sample, key: jax.Array, explore: jax.Array | float = 0.0
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of one sample and metrics.

    The best mode of each road user is found without a gradient, then all are decoded together, each in its own
    best mode: as in closed loop, and at a third of the cost.

    Args:
        model, params: the network.
        sample: the sample.
        key: of the exploration.
        explore: share of road users that are given a random mode in place of the best, so that none is left behind.
    """
    encoded = model.encode(params, sample.seen)
    ade = _average_error(all_modes(model, *lax.stop_gradient((params, encoded)), sample), sample)
    best = jnp.argmin(ade, 0)
    explore_key, mode_key = jax.random.split(key)
    explores = jax.random.bernoulli(explore_key, explore, best.shape)
    drawn = jax.random.randint(mode_key, best.shape, 0, model.config.num_modes)
    mode = jnp.where(explores, drawn, best)
    motion, _ = decode(model, params, encoded, mode, sample.motion, sample.body, sample.valid, sample.ego)
    counted = sample.future_valid.any(0)
    share = sample.future_valid / jnp.maximum(sample.future_valid.sum(0), 1)
    future = sample.future
    distance = optax.huber_loss(safe_norm(motion.x - future.x, motion.y - future.y))
    velocity = optax.huber_loss(safe_norm(motion.vx - future.vx, motion.vy - future.vy))
    heading = 1.0 - (motion.cos * future.cos + motion.sin * future.sin)
    regression = ((distance + _VELOCITY * velocity + _HEADING * heading) * share).sum(0)
    classification = optax.softmax_cross_entropy_with_integer_labels(encoded.mode_logits, best)
    weight = counted / jnp.maximum(counted.sum(), 1)
    loss = (weight * (regression + _CLASSIFICATION * classification)).sum()
    metrics = {
        "regression": (weight * regression).sum(),
        "classification": (weight * classification).sum(),
        "min_ade": (weight * ade.min(0)).sum(),
    }
    return loss, metrics


def _average_error(motion: Motion, sample: Sample) -> jax.Array:
    """Mean distance over the known steps, ``[modes, K]`` m; 0 where none is known."""
    distance = safe_norm(motion.x - sample.future.x, motion.y - sample.future.y) * sample.future_valid
    return distance.sum(1) / jnp.maximum(sample.future_valid.sum(0), 1)
