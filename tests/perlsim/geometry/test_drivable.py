import numpy as np
import pytest
import shapely

from perlsim.geometry import drivable, polylines


def box(x0, y0, x1, y1, z=0.0):
    return np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]], float)


def test_a_clockwise_polygon_becomes_a_ring_with_the_area_on_its_left():
    ring = drivable.edges_from_polygons([box(0, 0, 10, 4)[::-1]])[0]
    inside, outside = np.array([[5.0, 2.0], [9.9, 0.1]]), np.array([[5.0, -2.0], [11.0, 2.0]])
    assert (polylines.project(ring, inside).side > 0).all()
    assert (polylines.project(ring, outside).side < 0).all()
    np.testing.assert_allclose(ring[0], ring[-1])


def test_a_hole_is_left_with_the_area_on_the_left_too():
    frame = [box(0, 0, 30, 10), box(0, 20, 30, 30), box(0, 10, 10, 20), box(20, 10, 30, 20)]
    edges = drivable.edges_from_polygons(frame)
    assert len(edges) == 2
    hole = min(edges.rows(), key=lambda row: np.ptp(row[:, 0]))
    assert polylines.project(hole, np.array([[15.0, 15.0]])).side[0] < 0
    assert not shapely.LinearRing(hole).is_ccw


@pytest.mark.parametrize(("gap", "rings"), [(0.0, 1), (0.04, 1), (0.2, 2)])
def test_only_narrow_gaps_between_neighbours_are_closed(gap, rings):
    assert len(drivable.edges_from_polygons([box(0, 0, 50, 3), box(0, 3 + gap, 50, 6)])) == rings


def test_borders_stay_where_the_union_has_them_but_for_closed_gaps():
    random = np.random.default_rng(0)
    polygons = []
    for _ in range(8):
        centre, angles = random.uniform(0, 30, 2), np.sort(random.uniform(0, 2 * np.pi, 9))
        around = 8 * np.stack([np.cos(angles), np.sin(angles)], 1)
        polygons.append(np.column_stack([centre + around, np.zeros(9)]))
    edges = drivable.edges_from_polygons(polygons)
    union = shapely.union_all([shapely.Polygon(p[:, :2]).buffer(0) for p in polygons])
    found = shapely.polygonize([shapely.LineString(row[:, :2]) for row in edges.rows()])
    found = shapely.union_all([part for part in found.geoms if union.contains(part.representative_point())])
    changed = found.symmetric_difference(union)
    assert changed.area < 1e-3 * union.area
    assert changed.buffer(-0.031).is_empty  # nothing wider than the gaps that are to be closed
    assert union.difference(found).buffer(-0.005).is_empty  # nothing is lost beyond a centimetre


def test_a_bridge_does_not_swallow_the_border_of_the_road_below():
    road, bridge = box(-50, -4, 50, 4), box(-4, -50, 4, 50, z=6.0)
    edges = drivable.edges_from_polygons([road, bridge])
    assert len(edges) == 2
    assert sorted({float(z) for z in edges.values[:, 2]}) == [0.0, 6.0]


def test_a_ramp_joins_two_levels_without_a_border_across_it():
    ramp = np.array([[50, -4, 0], [150, -4, 6], [150, 4, 6], [50, 4, 0]], float)
    over = np.array([[150, -4, 6], [150, 4, 6], [0, 30, 6], [0, 22, 6]], float)
    under = box(20, -4, 28, 60, z=0.0)
    edges = drivable.edges_from_polygons([box(-50, -4, 50, 4), ramp, over, under])
    for x in (50.0, 150.0):
        across = shapely.LineString([(x - 1, 0), (x + 1, 0)])
        assert not any(shapely.LineString(row[:, :2]).intersects(across) for row in edges.rows())


def test_heights_are_interpolated_along_long_borders():
    slope = np.array([[0, 0, 0], [100, 0, 10], [100, 4, 10], [0, 4, 0]], float)
    crossing = np.array([[45, -20, 4.5], [55, -20, 5.5], [55, 20, 5.5], [45, 20, 4.5]], float)
    ring = drivable.edges_from_polygons([slope, crossing])[0]
    np.testing.assert_allclose(ring[:, 2], ring[:, 0] / 10, atol=1e-3)


def test_centre_lines_and_lane_borders_give_the_same_area():
    angle = np.linspace(0, np.pi / 2, 60)
    arc = lambda r: np.stack([r * np.cos(angle), r * np.sin(angle), 0 * angle], 1)  # noqa: E731
    swept = drivable.edges_from_centre_lines([arc(30.0)], [4.0])
    bordered = drivable.edges_from_lanes([arc(28.0)], [arc(32.0)])
    areas = [shapely.Polygon(edges[0][:, :2]).area for edges in (swept, bordered)]
    assert areas[0] == pytest.approx(areas[1], rel=2e-3)
    assert areas[1] == pytest.approx(np.pi / 4 * (32**2 - 28**2), rel=2e-3)


def test_points_that_enclose_nothing_are_skipped():
    assert len(drivable.edges_from_polygons([np.zeros((4, 3)), np.zeros((2, 3))])) == 0
