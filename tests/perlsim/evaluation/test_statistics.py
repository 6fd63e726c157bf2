"""Means with intervals over scenes that come in clusters."""

import numpy as np
import pytest

from perlsim.evaluation.statistics import clustered_means


def test_the_mean_is_over_the_scenes_that_have_a_value():
    means = clustered_means({"score": [1.0, None, 0.0, float("nan")], "none": [None] * 4}, list("abcd"))
    assert means["score"]["mean"] == 0.5
    assert means["score"]["count"] == 2
    assert means["none"] == {"mean": None, "low": None, "high": None, "count": 0}


def test_windows_of_one_recording_do_not_make_an_interval_narrower():
    """40 scenes of 4 recordings that are alike within each are worth 4 scenes, not 40."""
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 10)
    clustered = clustered_means({"x": values}, [str(k // 10) for k in range(40)])["x"]
    apart = clustered_means({"x": values}, [str(k) for k in range(40)])["x"]
    width, narrow = clustered["high"] - clustered["low"], apart["high"] - apart["low"]
    assert clustered["mean"] == apart["mean"] == 0.5
    assert width > 2 * narrow


def test_an_interval_of_independent_scenes_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(3.0, 1.0, 400)
    entry = clustered_means({"x": values}, [str(k) for k in range(400)], resamples=8000)["x"]
    half = 1.96 * values.std() / 20
    assert entry["low"] == pytest.approx(values.mean() - half, abs=0.01)
    assert entry["high"] == pytest.approx(values.mean() + half, abs=0.01)


def test_one_recording_tells_no_spread():
    entry = clustered_means({"x": [0.2, 0.4]}, ["same", "same"])["x"]
    assert entry["mean"] == pytest.approx(0.3)
    assert entry["low"] is entry["high"] is None
