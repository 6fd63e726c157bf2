"""Savitzky-Golay filters, and the share of comfortable chunks."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from perlsim.errors import FormatError
from perlsim.metrics.bench2drive import read_motion
from perlsim.metrics.comfort import Motion, comfort, comfortable_chunks, savitzky_golay


def motion(longitudinal=0.0, lateral=0.0, yaw_rate=0.0, frames=20, step=0.05):
    fill = np.ones(frames)
    longitudinal, lateral = longitudinal * fill, lateral * fill
    return Motion(longitudinal, lateral, np.hypot(longitudinal, lateral), yaw_rate * fill, step)


@given(length=st.integers(7, 40), derivative=st.integers(0, 2), seed=st.integers(0, 99))
def test_the_filter_agrees_with_scipys(length, derivative, seed):
    values = np.random.default_rng(seed).normal(size=(3, length))
    expected = savgol_filter(values, 7, 2, deriv=derivative, delta=0.05)
    np.testing.assert_allclose(
        savitzky_golay(values, derivative=derivative, step=0.05), expected, rtol=1e-9, atol=1e-7
    )


def test_the_filter_leaves_a_parabola_and_gives_its_slope():
    t = np.arange(20) * 0.1
    values = 3 * t**2 - t + 2
    np.testing.assert_allclose(savitzky_golay(values), values)
    np.testing.assert_allclose(savitzky_golay(values, derivative=1, step=0.1), 6 * t - 1, atol=1e-9)


@pytest.mark.parametrize(("window", "order"), [(4, 2), (3, 3), (9, 2)])
def test_the_filter_refuses_windows_that_cannot_be(window, order):
    with pytest.raises(ValueError, match="window"):
        savitzky_golay(np.zeros(8), window=window, order=order)


RAMP = np.arange(20) - 9.5  # its slope over frames of 0.05 s is 20 a second


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (motion(longitudinal=2.39), motion(longitudinal=2.41)),
        (motion(longitudinal=-4.04), motion(longitudinal=-4.06)),
        (motion(lateral=-4.88), motion(lateral=-4.90)),
        (
            motion(lateral=RAMP * 7.5 / 20),
            motion(lateral=RAMP * 8.4 / 20),
        ),  # |RAMP| has a kink, where it overshoots
        (motion(longitudinal=RAMP * 4.12 / 20), motion(longitudinal=RAMP * 4.14 / 20)),
        (motion(yaw_rate=-0.94), motion(yaw_rate=-0.96)),
        (motion(yaw_rate=RAMP * 1.92 / 20), motion(yaw_rate=RAMP * 1.94 / 20)),
    ],
    ids=["acceleration", "braking", "lateral", "jerk", "longitudinal jerk", "yaw rate", "yaw acceleration"],
)
def test_each_bound_divides_comfortable_from_uncomfortable(inside, outside):
    assert comfortable_chunks(inside).tolist() == [True]
    assert comfortable_chunks(outside).tolist() == [False]


def test_drives_are_judged_by_whole_chunks_of_twenty_frames():
    rough = np.zeros(59)
    rough[20:40] = 3.0
    drive = motion(longitudinal=rough, frames=59)
    assert comfortable_chunks(drive).tolist() == [True, False]
    assert comfort(drive) == 0.5


def test_a_drive_shorter_than_a_chunk_is_one_chunk_and_one_shorter_than_a_filter_none():
    assert comfort(motion(frames=5)) == 1.0
    assert comfort(motion(longitudinal=9.0, frames=3)) == 0.0
    assert math.isnan(comfort(motion(frames=2)))


def test_the_compatible_form_halves_jerks_and_takes_degrees_for_radians():
    sharp = motion(longitudinal=RAMP * 5 / 20)  # 5 m/s³, taken for 2.5
    assert (comfort(sharp), comfort(sharp, compat=True)) == (0.0, 1.0)
    turning = motion(yaw_rate=0.1)  # 5.7 degrees a second, taken for radians
    assert (comfort(turning), comfort(turning, compat=True)) == (1.0, 0.0)
    swinging = motion(yaw_rate=RAMP * np.deg2rad(0.09))  # 1.8 °/s², but 0.86 °/s at most
    assert comfort(swinging, compat=True) == 1.0


def frames(count=40, stride=1, **changes):
    frame = {
        "acceleration": [3.0, 4.0, 9.0],
        "angular_velocity": [1.0, 2.0, 90.0],
        "forward_vector": [0.0, 1.0, 0.0],
        "right_vector": [-1.0, 0.0, 0.0],
    } | changes
    # Not in order: the keys say it.
    return {str(step): frame for step in reversed(range(0, count * stride, stride))}


def test_a_motion_log_gives_accelerations_along_and_across_and_the_yaw_rate_in_radians(tmp_path):
    path = tmp_path / "metric_info.json"
    path.write_text(json.dumps(frames(stride=2)))
    read = read_motion(path)
    assert (len(read), read.step) == (40, 0.1)
    np.testing.assert_allclose(read.longitudinal, 4.0)
    np.testing.assert_allclose(read.lateral, -3.0)
    np.testing.assert_allclose(read.magnitude, 5.0)
    np.testing.assert_allclose(read.yaw_rate, np.pi / 2)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"a": {}},
        frames(acceleration=[1.0, 2.0]),
        frames(forward_vector=None),
        {**frames(), "100": frames(1)["0"]},
    ],
)
def test_a_malformed_motion_log_is_refused(tmp_path, content):
    path = tmp_path / "metric_info.json"
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"metric_info\.json"):
        read_motion(path)
