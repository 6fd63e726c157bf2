import jax.numpy as jnp
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from perlsim.geometry.boxes import Box, box_gap, corners, segment_touches_box

# Far from the origin float32 rounds to 0.06 mm at 1 km; boxes whose relation hangs on less are left out.
CLOSE = 2e-3
far = st.floats(-1000, 1000)
near = st.floats(-6, 6)
angle = st.floats(-np.pi, np.pi)
half = st.floats(0.1, 6)


def box(x, y, heading, half_length, half_width):
    values = (x, y, np.cos(heading), np.sin(heading), half_length, half_width)
    return Box(*(jnp.float32(value) for value in values))


def polygon(box):
    return shapely.Polygon([(float(x), float(y)) for x, y in corners(box)])


@settings(max_examples=150, deadline=None)
@given(far, far, near, near, angle, angle, half, half, half, half)
def test_the_gap_is_negative_exactly_where_the_boxes_overlap(
    x, y, dx, dy, first_turn, second_turn, l1, w1, l2, w2
):
    first, second = box(x, y, first_turn, l1, w1), box(x + dx, y + dy, second_turn, l2, w2)
    gap, distance = float(box_gap(first, second)), polygon(first).distance(polygon(second))
    assert gap == pytest.approx(float(box_gap(second, first)), abs=1e-3)
    if distance > CLOSE:
        assert 0 < gap <= distance + CLOSE
    elif abs(gap) > CLOSE:
        assert gap < 0
        assert polygon(first).intersects(polygon(second))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_boxes_that_touch_have_no_gap(offset):
    # Ahead, beside, and ahead turned by 45°: half its diagonal's extent away.
    for dx, dy, heading in ((4.0, 0.0, 0.0), (0.0, 2.0, np.pi), (2 + 3 * np.sqrt(0.5), 0.0, np.pi / 4)):
        first, second = box(offset, 0, 0, 2, 1), box(offset + dx, dy, heading, 2, 1)
        assert float(box_gap(first, second)) == pytest.approx(0.0, abs=3e-4)


def test_the_gap_of_parallel_boxes_is_the_space_between_them():
    assert float(box_gap(box(0, 0, 0, 2, 1), box(0, 3.5, np.pi, 2, 1))) == pytest.approx(1.5, abs=1e-5)
    assert float(box_gap(box(0, 0, 0, 2, 1), box(0, 1.5, 0, 2, 1))) == pytest.approx(-0.5, abs=1e-5)


def test_corners_go_round_from_the_front_left():
    turned = np.array(corners(box(1, 2, np.pi / 2, 2, 1)))
    np.testing.assert_allclose(turned, [(0, 4), (0, 0), (2, 0), (2, 4)], atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(far, far, near, near, angle, angle, half, half, st.floats(0, 8))
def test_a_segment_touches_a_box_exactly_where_shapely_says_so(
    x, y, dx, dy, turn, direction, l1, w1, half_length
):
    other = box(x, y, turn, l1, w1)
    half_x, half_y = half_length * np.cos(direction), half_length * np.sin(direction)
    mid_x, mid_y = float(np.float32(x + dx)), float(np.float32(y + dy))
    shape, inner = polygon(other), polygon(other).buffer(-CLOSE)
    segment = shapely.LineString([(mid_x - half_x, mid_y - half_y), (mid_x + half_x, mid_y + half_y)])
    found = bool(segment_touches_box(*(jnp.float32(v) for v in (mid_x, mid_y, half_x, half_y)), other))
    if segment.distance(shape) > CLOSE:
        assert not found
    elif inner.intersects(segment):
        assert found


def test_a_segment_within_a_box_touches_it_and_one_along_its_border_too():
    other = box(0, 0, 0, 2, 1)
    for middle, half_segment in (((0, 0), (0.1, 0.0)), ((0, 1), (5.0, 0.0)), ((2, 0), (0.0, 0.5))):
        assert bool(segment_touches_box(*map(jnp.float32, (*middle, *half_segment)), other))
    assert not bool(segment_touches_box(*map(jnp.float32, (0, 1.01, 5.0, 0.0)), other))
