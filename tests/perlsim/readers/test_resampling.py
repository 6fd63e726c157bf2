import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perlsim.errors import FormatError
from perlsim.readers.poses import Poses, heading_of, rotations
from perlsim.readers.resampling import time_grid


def grid_of(stamps):
    return time_grid(np.asarray(stamps, float), "file", "stamps")


def on_grid(grid, values, valid=None):
    values = np.asarray(values, float)[None, :, None]
    valid = np.ones(values.shape[:2], bool) if valid is None else np.asarray(valid)[None]
    resampled, seen = grid.resample(values, valid)
    return resampled[0, :, 0], seen[0]


def test_a_rate_close_to_nominal_is_taken_as_nominal():
    assert grid_of(np.arange(150) * 0.099999).dt == 0.1
    assert grid_of(np.arange(50) * 0.5).dt == 0.5
    assert grid_of(np.arange(50) * 0.05).dt == 0.05


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-0.01, 0.01), min_size=3, max_size=60), st.floats(-20, 20))
def test_uniform_motion_stays_uniform_whatever_the_jitter(jitter, speed):
    stamps = np.arange(len(jitter)) * 0.1 + np.array(jitter)
    grid = grid_of(stamps)
    values, seen = on_grid(grid, speed * grid.stamps)
    np.testing.assert_allclose(values[seen], speed * grid.times[seen], atol=1e-9)
    assert seen.mean() > 0.9


def test_a_track_seen_in_one_frame_stays_where_it_was_seen():
    grid = grid_of([0.0, 0.1, 0.203, 0.3])
    values, seen = on_grid(grid, [0, 0, 5, 0], [False, False, True, False])
    assert seen.tolist() == [False, False, True, False]
    assert values[2] == 5


def test_gaps_are_bridged_up_to_three_steps():
    grid = grid_of([0, 0.1, 0.2, 0.5, 0.6, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    _, seen = on_grid(grid, grid.stamps)
    assert seen[:7].all()
    assert not seen[7:10].any()
    assert seen[10:].all()


def test_one_frame_is_one_step():
    grid = grid_of([12.0])
    values, seen = on_grid(grid, [3.0])
    assert (values.tolist(), seen.tolist(), grid.dt) == ([3.0], [True], 0.1)


@pytest.mark.parametrize("stamps", [[0, 0.1, 0.1, 0.2], [0, 1e-6, 2e-6, 3e-6, 50.0], [0, 0.1, np.nan]])
def test_stamps_that_no_step_fits_are_refused(stamps):
    with pytest.raises(FormatError, match="stamps"):
        grid_of(stamps)


def test_rotations_turn_the_x_axis_to_the_heading():
    angles = np.linspace(-3, 3, 13)
    quaternions = np.stack([np.cos(angles / 2), 0 * angles, 0 * angles, np.sin(angles / 2)], axis=1)
    np.testing.assert_allclose(heading_of(rotations(3 * quaternions)), angles, atol=1e-12)
    matrices = rotations(np.random.default_rng(0).normal(size=(20, 4)))
    identity = np.einsum("nij,nkj->nik", matrices, matrices)
    np.testing.assert_allclose(identity, np.tile(np.eye(3), (20, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrices), 1.0)


@pytest.mark.parametrize("size", [0.0, 1e200, np.inf, np.nan])
def test_a_quaternion_without_a_finite_length_is_no_rotation_at_all(size):
    assert np.isnan(rotations(size * np.ones((1, 4)))).all()


def test_poses_between_stamps_take_the_short_way_round():
    turn = np.array([[np.cos(0.1), 0, 0, np.sin(0.1)], [-np.cos(0.2), 0, 0, -np.sin(0.2)]])
    poses = Poses(np.array([0, 10]), np.array([[0.0, 0, 0], [4, 0, 0]]), turn)
    position, rotation = poses.at(np.array([5]))
    np.testing.assert_allclose(position, [[2, 0, 0]])
    np.testing.assert_allclose(heading_of(rotation), [0.3], atol=1e-12)
