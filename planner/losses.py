"""Losses of one scene, and generalised advantages: pure functions, vmapped by the caller."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

# Where the Huber loss of waypoints turns from squares to absolute values [m].
_HUBER = 1.0


def path_loss(
    waypoints: jax.Array, logits: jax.Array, anchors: jax.Array, target: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Regression and classification of paths by the mode whose anchor is nearest to the target (FACTS §1).

    Args:
        waypoints: ``[K, W, 2]`` m.
        logits: ``[K]``.
        anchors: ``[K, W, 2]`` m.
        target: ``[W, 2]`` m.

    Returns:
        Huber loss of that mode's waypoints [m], and cross-entropy of the mode.
    """
    nearest = jnp.argmin(((anchors - target) ** 2).sum((-1, -2)))
    error = jnp.abs(waypoints[nearest] - target)
    huber = jnp.where(error < _HUBER, 0.5 * error**2 / _HUBER, error - 0.5 * _HUBER)
    return huber.sum(-1).mean(), -jax.nn.log_softmax(logits)[nearest]


def soft_label(speeds: jax.Array, speed: jax.Array) -> jax.Array:
    """Weights ``[V]`` of the two target speeds around a speed, whose mean it is; those at the ends beyond them.

    Args:
        speeds: ``[V]`` m/s, rising.
        speed: m/s.
    """
    speed = jnp.clip(speed, speeds[0], speeds[-1])
    above = jnp.clip(jnp.searchsorted(speeds, speed, side="right"), 1, len(speeds) - 1)
    share = (speed - speeds[above - 1]) / (speeds[above] - speeds[above - 1])
    number = jnp.arange(len(speeds))
    return jnp.where(number == above, share, 0.0) + jnp.where(number == above - 1, 1.0 - share, 0.0)


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropy of logits ``[V]`` with a soft label ``[V]``."""
    return -jnp.dot(label, jax.nn.log_softmax(logits))


def entropy(logits: jax.Array) -> jax.Array:
    """Entropy of categoricals with logits ``[..., V]``."""
    log_p = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_p) * log_p).sum(-1)


def group_standardised(rewards: jax.Array, least: float) -> jax.Array:
    """Advantages ``[N]``: rewards less their mean, over their standard deviation where it exceeds ``least``."""
    spread = jnp.maximum(rewards.std(), least)
    return (rewards - rewards.mean()) / spread


def reinforce_loss(logits: jax.Array, actions: jax.Array, rewards: jax.Array, least: float) -> jax.Array:
    """PerlAD's loss: REINFORCE with group-standardised advantages, no ratio and no critic.

    Args:
        logits: ``[V]``.
        actions: int32 ``[N]``, drawn from them.
        rewards: ``[N]``.
        least: least standard deviation that is divided by.
    """
    advantages = lax.stop_gradient(group_standardised(rewards, least))
    return -(advantages * jax.nn.log_softmax(logits)[actions]).mean()


def exact_loss(
    logits: jax.Array, rewards: jax.Array, path_weights: jax.Array, least: float
) -> tuple[jax.Array, jax.Array]:
    """Loss whose gradient is the policy gradient's exact expectation over all paths and target speeds.

    Advantages are rewards less their expectation under the policy, in standard deviations over all candidates of the
    path alike, as RIFT standardises (FACTS §7). Not over the policy's own choices: as a policy settles that deviation
    shrinks, and trifles of settled scenes outweigh collisions of others (measured: half of the reward to be had).

    Args:
        logits: ``[K, V]``.
        rewards: ``[K, V]``, of every candidate.
        path_weights: ``[K]``, probabilities of the paths; not differentiated.
        least: least standard deviation that is divided by.

    Returns:
        The loss, and the expected reward of each path ``[K]`` before standardisation.
    """
    policy = jax.nn.softmax(logits)
    mean = lax.stop_gradient((policy * rewards).sum(-1))
    spread = jnp.maximum(rewards.std(-1), least)
    advantages = (rewards - mean[:, None]) / spread[:, None]
    return -(lax.stop_gradient(path_weights) * (policy * advantages).sum(-1)).sum(), mean


def gae(
    rewards: jax.Array, values: jax.Array, discounts: jax.Array, mix: float
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantages (Schulman et al. 2016, eq. 16) and the returns that values are fitted to.

    Args:
        rewards: ``[T]``.
        values: ``[T + 1]``, the last that of the state after the last reward.
        discounts: ``[T]``: γ, or 0 where the episode ended with the reward.
        mix: λ.

    Returns:
        Advantages ``[T]``, returns ``[T]``.
    """
    errors = rewards + discounts * values[1:] - values[:-1]

    def back(advantage, inputs):
        error, discount = inputs
        advantage = error + discount * mix * advantage
        return advantage, advantage

    _, advantages = lax.scan(back, jnp.zeros_like(rewards[0]), (errors, discounts), reverse=True)
    return advantages, advantages + values[:-1]
