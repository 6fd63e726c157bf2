"""The filters, the tracker and its fits against scipy, closed forms and plain matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pdm_reference import fit_profiles
from scipy.signal import savgol_filter

from perlsim.metrics.pdm.savgol import savgol_matrix
from perlsim.metrics.pdm.tracking import _curvature_fit, _speed_fit, drive_candidates, history_of
from perlsim.metrics.pdm.types import PdmConfig
from perlsim.sim.types import Pose


@pytest.mark.parametrize("count", [12, 41, 56])
@pytest.mark.parametrize(
    ("window", "order", "derivative"), [(8, 2, 0), (15, 2, 1), (5, 2, 1), (5, 3, 2), (5, 2, 2)]
)
def test_the_filter_matrix_is_scipys(count, window, order, derivative):
    signal = np.random.default_rng(count).normal(size=(count, 3))
    window = min(window, count)
    expected = savgol_filter(signal, window, order, deriv=derivative, delta=0.1, axis=0)
    # scipy scales by the spacing only where it differentiates.
    ours = savgol_matrix(count, window, order, derivative, 0.1 if derivative else 1.0) @ signal
    np.testing.assert_allclose(ours, expected, atol=2e-3 if derivative == 2 else 1e-4)


def start(speed, count=1):
    zero = jnp.float32(0.0)
    ego = Pose(jnp.float32(1.35), zero, zero, zero, zero + 1, zero, zero + speed)
    return ego, history_of(ego, jnp.zeros((0, 4)), 1.35)


def tracked(speed, plans):
    ego, history = start(speed)
    drive = jax.jit(lambda p: drive_candidates(PdmConfig(), ego, history, jnp.float32(2.7), 1.35, p))
    return drive(jnp.asarray(plans, jnp.float32))


def arcs(speed, curvature):
    s = speed * 0.1 * np.arange(1, 41)
    if curvature == 0:
        return np.stack([s, 0 * s, 0 * s], 1)
    turn = curvature * s
    return np.stack([np.sin(turn) / curvature, (1 - np.cos(turn)) / curvature, turn], 1)


def test_profiles_are_those_of_the_least_squares_problem():
    random = np.random.default_rng(0)
    for speed, noise in ((10.0, 0.02), (1.0, 0.005), (0.0, 0.0), (0.05, 1e-3)):
        plan = np.concatenate([np.zeros((1, 3)), arcs(speed, 0.05)])
        plan[1:] += random.normal(0, noise, (40, 3))
        speeds, curvatures = fit_profiles(plan)
        step = np.diff(plan, axis=0)
        along = step[:, 0] * np.cos(plan[:-1, 2]) + step[:, 1] * np.sin(plan[:-1, 2])
        ours = _speed_fit(40) @ along
        np.testing.assert_allclose(ours, speeds, atol=1e-3)
        bend = _curvature_fit(jnp.float32(speeds)[:, None], jnp.float32(step[:, 2])[:, None])[:, 0]
        np.testing.assert_allclose(bend, curvatures, atol=2e-3 + 1e-3 * np.abs(curvatures).max())


def test_a_straight_line_at_constant_speed_is_driven_as_it_is():
    driven = tracked(8.0, arcs(8.0, 0.0)[None])
    np.testing.assert_allclose(driven.rear_x[1:, 0], arcs(8.0, 0.0)[:, 0], atol=1e-3)
    np.testing.assert_allclose(driven.y[:, 0], 0, atol=1e-5)
    np.testing.assert_allclose(driven.speed[:, 0], 8.0, atol=1e-4)


def test_an_arc_is_followed_within_a_metre_and_mirrors_with_its_sign():
    plans = np.stack([arcs(6.0, 0.04), arcs(6.0, -0.04)])
    driven = tracked(6.0, plans)
    error = np.hypot(driven.rear_x[1:, 0] - plans[0, :, 0], driven.rear_y[1:, 0] - plans[0, :, 1])
    assert 0.01 < error.max() < 1.0
    np.testing.assert_allclose(driven.rear_y[:, 0], -driven.rear_y[:, 1], atol=1e-4)


def test_a_demand_for_rest_stops_the_car_by_the_stopping_rule():
    driven = tracked(0.15, np.zeros((1, 40, 3)))
    assert abs(float(driven.speed[-1, 0])) < 0.03 and float(driven.rear_x[-1, 0]) < 0.5
    standing = tracked(0.0, np.zeros((1, 40, 3)))
    assert float(jnp.abs(standing.speed).max()) == 0 and np.isfinite(np.asarray(standing.heading)).all()


def test_speed_approaches_the_target_with_the_lag_of_the_engine():
    driven = tracked(0.0, arcs(3.0, 0.0)[None])
    # First step: 10/11 of the missing speed [1/s], a third of which the low-pass lets through.
    target = float((_speed_fit(40) @ np.full(40, 0.3))[10])
    assert float(driven.acceleration[1, 0]) == pytest.approx(10 / 11 * target / 3, rel=1e-3)
