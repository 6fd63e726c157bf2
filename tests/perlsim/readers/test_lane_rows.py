import numpy as np
import pytest

from perlsim.readers.lane_rows import LaneRow, MarkingCollector, centre_line, lane_graph, may_cross
from perlsim.vocabulary import MarkingType

UP = np.array([0.0, 2, 0])
LINE = np.array([[0.0, 0, 0], [10, 0, 0], [30, 1, 0]])


def test_the_centre_keeps_the_points_of_both_borders():
    left = np.array([[0.0, 4, 1], [40, 4, 1]])
    right = np.array([[0.0, 0, 1], [10, 0, 1], [40, 0, 3]])
    centre, width = centre_line(left, right)
    np.testing.assert_allclose(centre[:, 0], [0, 10, 40])
    np.testing.assert_allclose(centre[:, 2], [1, 1, 2])
    np.testing.assert_allclose(width, 4.0)


def test_borders_of_a_curve_give_a_centre_midway():
    angle = np.linspace(0, np.pi / 2, 52)
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    centre, width = centre_line(18 * ring, 22 * ring[::3])
    np.testing.assert_allclose(np.linalg.norm(centre[:, :2], axis=1), 20.0, atol=0.02)
    np.testing.assert_allclose(width, 4.0, atol=0.05)


def test_mixed_lines_may_be_crossed_from_their_broken_side_only():
    kind = MarkingType.SOLID_BROKEN  # solid on the left
    assert may_cross(kind, to_the_left=True)
    assert not may_cross(kind, to_the_left=False)
    assert not may_cross(MarkingType.SOLID, to_the_left=True)
    assert may_cross(MarkingType.NONE, to_the_left=False)


def test_a_border_given_twice_in_opposite_directions_is_kept_once_and_mirrored():
    collector = MarkingCollector()
    collector.add(LINE, MarkingType.NONE)
    collector.add(LINE[::-1], MarkingType.SOLID_BROKEN)
    markings = collector.markings()
    assert len(markings.line) == 1
    assert markings.kind.tolist() == [MarkingType.BROKEN_SOLID]
    assert collector.kind_of(LINE[::-1]) == MarkingType.SOLID_BROKEN


def test_borders_with_a_common_name_are_one_though_their_points_differ():
    collector = MarkingCollector()
    collector.add(LINE, MarkingType.BROKEN, ("a", "left"), ("b", "right"))
    collector.add(LINE[[0, 2]] + 0.05, MarkingType.NONE, ("b", "right"), ("a", "left"))
    assert collector.markings().kind.tolist() == [MarkingType.BROKEN]


def test_links_to_unknown_lanes_and_to_itself_are_dropped():
    rows = [
        LaneRow("a", LINE + UP, LINE, successors=["b", "x", "a"]),
        LaneRow("b", LINE, LINE - UP),
    ]
    lanes = lane_graph(rows)
    assert [row.tolist() for row in lanes.successors.rows()] == [[1], []]


def test_no_lanes_make_an_empty_graph():
    lanes = lane_graph([])
    assert len(lanes) == 0
    assert len(lanes.successors) == 0
    assert lanes.width.shape == (0,)


@pytest.mark.parametrize("kind", list(MarkingType))
def test_crossing_rules_do_not_depend_on_the_direction_of_travel_along_a_plain_line(kind):
    if kind not in (MarkingType.SOLID_BROKEN, MarkingType.BROKEN_SOLID):
        assert may_cross(kind, to_the_left=True) == may_cross(kind, to_the_left=False)
