"""Losses and advantages against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planner.curricula import Curricula, path_weight
from planner.losses import (
    exact_loss,
    gae,
    group_standardised,
    path_loss,
    reinforce_loss,
    soft_label,
)

REWARDS = jnp.array([[1.0, -2.0, 4.0], [0.0, 3.0, -1.0]])
LOGITS = jnp.array([[0.3, -0.2, 0.1], [-0.5, 0.4, 0.0]])


def test_advantages_of_a_group_are_rewards_in_standard_deviations_from_their_mean():
    # Mean 4, variance (9 + 1 + 1 + 9) / 4 = 5.
    got = group_standardised(jnp.array([1.0, 3.0, 5.0, 7.0]), 0.1)
    np.testing.assert_allclose(got, np.array([-3.0, -1.0, 1.0, 3.0]) / np.sqrt(5.0), rtol=1e-6)


def test_rewards_that_hardly_differ_are_not_blown_up():
    got = group_standardised(jnp.array([1.0, 1.002]), 0.1)
    np.testing.assert_allclose(got, [-0.01, 0.01], rtol=1e-3)


def test_reinforce_gradient_is_the_mean_of_advantages_times_scores():
    logits, actions, rewards = LOGITS[0], jnp.array([0, 2]), jnp.array([1.0, 3.0])
    gradient = jax.grad(reinforce_loss)(logits, actions, rewards, 0.1)
    score = np.eye(3) - np.asarray(jax.nn.softmax(logits))
    np.testing.assert_allclose(gradient, -(-1.0 * score[0] + 1.0 * score[2]) / 2, atol=1e-6)


def test_exact_gradient_is_what_sampled_gradients_average_to():
    weights = jnp.array([0.25, 0.75])
    gradient = jax.grad(lambda logits: exact_loss(logits, REWARDS, weights, 0.1)[0])(LOGITS)
    mean = (jax.nn.softmax(LOGITS) * REWARDS).sum(1, keepdims=True)
    advantages = (REWARDS - mean) / REWARDS.std(1, keepdims=True)

    def sampled(key):
        path_key, speed_key = jax.random.split(key)
        path = jax.random.categorical(path_key, jnp.log(weights))
        speed = jax.random.categorical(speed_key, LOGITS[path])
        return jax.grad(lambda logits: -advantages[path, speed] * jax.nn.log_softmax(logits[path])[speed])(
            LOGITS
        )

    average = jax.vmap(sampled)(jax.random.split(jax.random.key(0), 40_000)).mean(0)
    np.testing.assert_allclose(average, gradient, atol=0.02)
    assert np.abs(gradient).max() > 0.1


def test_paths_that_are_never_taken_do_not_train_their_speeds():
    gradient = jax.grad(lambda logits: exact_loss(logits, REWARDS, jnp.array([0.0, 1.0]), 1.0)[0])(LOGITS)
    np.testing.assert_array_equal(gradient[0], 0.0)


def test_climbing_the_exact_gradient_finds_the_best_arm_of_a_bandit():
    rewards, logits = jnp.array([[0.0, 1.0, 0.5, -3.0]]), jnp.zeros((1, 4))
    step = jax.jit(jax.grad(lambda logits: exact_loss(logits, rewards, jnp.ones(1), 0.3)[0]))
    for _ in range(60):
        logits = logits - 0.5 * step(logits)
    assert jax.nn.softmax(logits)[0, 1] > 0.9


def test_drawing_from_a_bandit_finds_its_best_arm():
    rewards = jnp.array([0.0, 1.0, 0.5, -3.0])

    @jax.jit
    def step(logits, key):
        actions = jax.random.categorical(key, logits, shape=(32, 4))
        loss = jax.grad(
            lambda logits: jax.vmap(lambda a: reinforce_loss(logits, a, rewards[a], 0.1))(actions).mean()
        )
        return logits - 0.5 * loss(logits)

    logits = jnp.zeros(4)
    for key in jax.random.split(jax.random.key(1), 60):
        logits = step(logits, key)
    assert jax.nn.softmax(logits)[1] > 0.9


def test_generalised_advantages_equal_a_table_made_by_hand():
    # γ = 0.5, λ = 0.5; the episode ends with the second reward. Errors: 1 + 0.5 · 4 − 2 = 1, 2 − 4 = −2,
    # 3 + 0.5 · 6 − 5 = 1. Advantages from the end: 1; −2 (ended); 1 + 0.25 · −2 = 0.5.
    advantages, returns = gae(
        jnp.array([1.0, 2.0, 3.0]), jnp.array([2.0, 4.0, 5.0, 6.0]), jnp.array([0.5, 0.0, 0.5]), 0.5
    )
    np.testing.assert_allclose(advantages, [0.5, -2.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(returns, [2.5, 2.0, 6.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("speed", "label"),
    [(2.5, [0.0, 0.75, 0.25]), (0.0, [1.0, 0.0, 0.0]), (9.0, [0.0, 0.0, 1.0]), (-1.0, [1.0, 0.0, 0.0])],
)
def test_a_speed_between_two_bins_is_shared_out_so_that_it_is_their_mean(speed, label):
    np.testing.assert_allclose(soft_label(jnp.array([0.0, 2.0, 4.0]), jnp.float32(speed)), label, atol=1e-6)


def test_only_the_mode_of_the_nearest_anchor_learns_the_waypoints():
    anchors = jnp.array([[[1.0, -1.0], [2.0, -3.0]], [[1.0, 1.0], [2.0, 3.0]]])
    target = jnp.array([[1.0, 0.8], [2.0, 2.5]])

    def loss(waypoints):
        return path_loss(waypoints, jnp.zeros(2), anchors, target)[0]

    # Huber of 0.2 and 0.5 m: 0.02 and 0.125, over two waypoints.
    assert float(loss(anchors)) == pytest.approx((0.02 + 0.125) / 2, rel=1e-5)
    gradient = jax.grad(loss)(anchors)
    assert np.abs(gradient[0]).max() == 0 and np.abs(gradient[1]).max() > 0
    assert float(path_loss(anchors, jnp.zeros(2), anchors, target)[1]) == pytest.approx(np.log(2.0), rel=1e-5)


def test_curricula_change_after_two_thirds():
    curricula = Curricula(align=True, react=True)
    assert [bool(curricula.aligned(jnp.int32(u), 300)) for u in (0, 199, 200, 299)] == [
        False,
        False,
        True,
        True,
    ]
    shares = [float(curricula.reactive(jnp.int32(u), 301)) for u in (0, 200, 250, 300)]
    np.testing.assert_allclose(shares, [0.0, 0.0, 0.331, 2 / 3], atol=1e-3)
    off = Curricula(align=False, react=False)
    assert not bool(off.aligned(jnp.int32(299), 300)) and float(off.reactive(jnp.int32(299), 300)) == 0


def test_paths_that_earn_little_count_little():
    got = [float(path_weight(jnp.float32(reward), 5.0, 0.1)) for reward in (3.0, 0.0, -2.5, -30.0)]
    np.testing.assert_allclose(got, [1.0, 1.0, 0.5, 0.1], rtol=1e-6)
