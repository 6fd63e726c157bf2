"""Displacement errors in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.metrics.displacement import average_error, displacement, final_error

H = 10
STRAIGHT = np.stack([np.arange(1.0, H + 1), np.zeros(H)], 1)
ALL = np.ones(H, bool)
ASIDE = np.array([0.0, 1.0])


def test_a_future_one_metre_aside_errs_by_one_metre():
    aside = STRAIGHT + ASIDE
    assert average_error(aside, STRAIGHT, ALL) == 1.0
    assert final_error(aside, STRAIGHT, ALL) == 1.0


def test_a_future_driven_too_fast_errs_by_the_mean_and_the_end_of_its_lead():
    fast = STRAIGHT * 1.5
    np.testing.assert_allclose(average_error(fast, STRAIGHT, ALL), 0.5 * (H + 1) / 2)
    np.testing.assert_allclose(final_error(fast, STRAIGHT, ALL), 0.5 * H)


def test_only_known_steps_count_and_the_last_of_them_is_the_end():
    valid = np.zeros(H, bool)
    valid[[1, 3]] = True
    unknown = np.where(valid[:, None], STRAIGHT, np.nan)
    fast = STRAIGHT * 1.5
    np.testing.assert_allclose(average_error(fast, unknown, valid), 0.5 * (2 + 4) / 2)
    np.testing.assert_allclose(final_error(fast, unknown, valid), 0.5 * 4)


def test_an_unknown_future_gives_nan_everywhere():
    errors = displacement(STRAIGHT[None], STRAIGHT, ~ALL)
    assert all(np.isnan(value) for value in errors)


def test_the_best_of_k_is_taken_for_each_error_on_its_own():
    early = STRAIGHT + np.where(np.arange(H)[:, None] < H - 1, (0.0, 3.0), (0.0, 0.5))
    even = STRAIGHT + ASIDE
    errors = displacement(np.stack([early, even]), STRAIGHT, ALL)
    np.testing.assert_allclose(errors.min_ade, 1.0)
    np.testing.assert_allclose(errors.min_fde, 0.5)
    np.testing.assert_allclose(errors.ade, (1.0 + (3.0 * (H - 1) + 0.5) / H) / 2)
    np.testing.assert_allclose(errors.fde, 0.75)
    assert errors.missed == 0


def test_a_forecast_is_missed_beyond_two_metres_only():
    for aside, missed in ((1.99, 0.0), (2.01, 1.0)):
        assert displacement((STRAIGHT + aside * ASIDE)[None], STRAIGHT, ALL).missed == missed


def test_batches_under_jit_and_vmap_equal_single_futures():
    random = np.random.default_rng(0)
    predicted, logged = random.normal(size=(4, 3, H, 2)), random.normal(size=(4, H, 2))
    valid = random.random((4, H)) < 0.5
    valid[0] = False
    jitted = jax.jit(displacement)
    batch = jitted(predicted, logged, valid)
    mapped = jax.jit(jax.vmap(displacement))(predicted, logged, valid)
    for i in range(4):
        single = jitted(jnp.asarray(predicted[i]), jnp.asarray(logged[i]), jnp.asarray(valid[i]))
        for many, also, one in zip(batch, mapped, single, strict=True):
            np.testing.assert_allclose(many[i], one, rtol=1e-5)
            np.testing.assert_allclose(also[i], one, rtol=1e-5)


def test_the_gradient_at_a_perfect_forecast_and_at_unknown_steps_is_finite():
    valid = np.arange(H) % 2 == 0
    logged = jnp.where(valid[:, None], STRAIGHT, jnp.nan)
    gradient = jax.grad(lambda p: average_error(p, logged, valid))(jnp.asarray(STRAIGHT))
    assert np.isfinite(gradient).all()
