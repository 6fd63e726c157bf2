"""The score in two stages, by hand."""

import math

import numpy as np
import pytest

from perlsim.metrics.pdm.two_stage import stage_weights, two_stage_score


def test_weights_fall_with_the_squared_distance_over_twice_the_variance():
    weights = np.asarray(stage_weights(np.array([0.0, 0.2, 0.5], np.float32)))
    raw = [1.0, math.exp(-0.04 / 0.2), math.exp(-0.25 / 0.2)]
    np.testing.assert_allclose(weights, np.array(raw) / sum(raw), rtol=1e-5)


def test_the_score_is_the_first_stage_times_the_weighted_second():
    """Two starts, 0.1 m and 0.3 m from where the first stage ended."""
    near, far = math.exp(-0.01 / 0.2), math.exp(-0.09 / 0.2)
    expected = 0.8 * (near * 1.0 + far * 0.5) / (near + far)
    score = two_stage_score(np.float32(0.8), np.float32([1.0, 0.5]), np.float32([0.1, 0.3]))
    assert float(score) == pytest.approx(expected, rel=1e-5)


def test_starts_that_are_all_far_away_count_by_the_nearest():
    weights = np.asarray(stage_weights(np.float32([30.0, 31.0])))
    np.testing.assert_allclose(weights, [1.0, 0.0], atol=1e-6)


def test_starts_that_do_not_exist_have_no_weight_and_may_hold_anything():
    valid = np.array([[True, False], [False, False]])
    second = np.float32([[0.5, np.nan], [np.nan, np.nan]])
    score = np.asarray(two_stage_score(np.float32([1.0, 1.0]), second, np.zeros((2, 2), np.float32), valid))
    assert score[0] == pytest.approx(0.5)
    assert np.isnan(score[1]), "without a second stage there is no score in two stages"


def test_a_second_stage_that_is_not_available_makes_the_score_not_available():
    score = two_stage_score(np.float32(1.0), np.float32([np.nan, 1.0]), np.float32([0.0, 0.0]))
    assert np.isnan(score)
