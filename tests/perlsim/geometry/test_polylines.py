import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from perlsim.geometry import polylines


def wave(count=200):
    x = np.linspace(0.0, 100.0, count)
    return np.stack([x, 8 * np.sin(x / 9), 2 * np.sin(x / 15)], axis=1)


def test_resampling_keeps_ends_and_spacing():
    line = wave()
    spaced = polylines.resample(line, 1.0)
    gaps = np.linalg.norm(np.diff(spaced[:, :2], axis=0), axis=1)
    np.testing.assert_allclose(spaced[[0, -1]], line[[0, -1]], atol=1e-9)
    assert (gaps[:-1] > 0.98).all() and (gaps <= 1.0 + 1e-9).all()


def test_simplifying_bounds_the_error_across_and_in_height():
    line = wave()
    kept = polylines.simplify(line, 0.05, z_tolerance=0.1)
    hit = polylines.project(line[kept], line)
    assert len(kept) < 80
    assert hit.distance.max() <= 0.05 + 1e-9
    assert np.abs(polylines.interpolate(line[kept], hit.arc)[:, 2] - line[:, 2]).max() <= 0.11


def test_a_straight_line_with_a_hump_keeps_the_hump():
    line = np.stack([np.linspace(0, 10, 11), np.zeros(11), np.zeros(11)], axis=1)
    line[5, 2] = 0.5
    assert 5 in polylines.simplify(line, 0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_projection_equals_shapely(seed):
    random = np.random.default_rng(seed)
    line = np.cumsum(random.normal(size=(12, 2)), axis=0)
    queries = random.normal(scale=4.0, size=(30, 2))
    hit = polylines.project(line, queries)
    oracle = shapely.LineString(line)
    np.testing.assert_allclose(hit.distance, shapely.distance(shapely.points(queries), oracle), atol=1e-9)
    nearest = shapely.points(polylines.interpolate(line, hit.arc))
    np.testing.assert_allclose(shapely.distance(nearest, shapely.points(queries)), hit.distance, atol=1e-6)


def test_sides_at_corners_are_those_of_the_enclosed_area():
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]], float)
    queries = np.random.default_rng(1).uniform(-5, 15, (500, 2))
    inside = shapely.contains_xy(shapely.Polygon(square), queries[:, 0], queries[:, 1])
    side = polylines.project(square, queries).side
    # The corner at the start is an end of the line, not a vertex: leave its own wedge out.
    wedge = (queries < 0).all(1)
    np.testing.assert_array_equal((side > 0)[~wedge], inside[~wedge])


def test_repeated_points_are_found():
    line = np.array([[0, 0], [0, 0], [1, 0], [1, 0.0005], [2, 0]])
    assert polylines.without_repeats(line).tolist() == [True, False, True, False, True]
