import numpy as np

from perlsim.readers.waymo_map import Border, LaneFeature, MapFeatures, Neighbour, crossing, pack_lights


def straight(start, end, z=0.0, count=30):
    line = np.linspace(start, end, count)
    return np.column_stack([line, np.full(count, z)])


def test_lanes_that_cross_are_in_a_junction_but_not_under_a_bridge():
    along, across = straight((-20, 0), (20, 0)), straight((0, -20), (0, 20))
    bridge, beside = straight((5, -20), (5, 20), z=6.0), straight((-20, 4), (-5, 4))
    assert crossing([along, across, bridge, beside]).tolist() == [True, True, False, False]


def test_siblings_of_crossing_lanes_and_controlled_lanes_are_in_the_junction():
    features = MapFeatures()
    features.lanes = {
        "approach": LaneFeature(straight((-60, 0), (-20, 0)), exits=["ahead", "right"]),
        "ahead": LaneFeature(straight((-20, 0), (20, 0))),
        "right": LaneFeature(straight((-20, 0), (-10, -10))),
        "across": LaneFeature(straight((0, -20), (0, 20))),
        "street": LaneFeature(straight((10, -90), (10, 90))),
        "far": LaneFeature(straight((100, 0), (120, 0))),
    }
    lights = pack_lights([(0, "far", 4, np.zeros(3))], 1, features.lane_rows())
    marked = features.road(lights).lanes.in_junction
    assert dict(zip(features.lanes, marked.tolist(), strict=True)) == {
        "approach": False,
        "ahead": True,
        "right": True,
        "across": True,
        "street": False,
        "far": True,
    }


def test_lanes_that_touch_are_connected_unless_they_turn_back():
    features = MapFeatures()
    features.lanes = {
        "a": LaneFeature(straight((0, 0), (10, 0))),
        "b": LaneFeature(straight((10, 0.05), (20, 3))),
        "back": LaneFeature(straight((10, 0), (0, 0.5))),
        "gap": LaneFeature(straight((10.5, 0), (20, 0))),
    }
    (sentence,) = features.connect_touching()
    assert features.lanes["a"].exits == ["b"] and sentence.startswith("1 ")
    assert not features.lanes["b"].exits


def test_a_lane_between_a_border_and_a_neighbour_has_the_width_of_both_halves():
    features = MapFeatures()
    features.edges["edge"] = straight((0, -1.5), (30, -1.5))
    features.lanes = {
        "own": LaneFeature(
            straight((0, 0), (30, 0)), left=[Neighbour("other")], right_borders=[Border(0, 10, "edge")]
        ),
        "other": LaneFeature(straight((0, 4), (30, 4))),
    }
    lanes = features.road().lanes
    np.testing.assert_allclose(lanes.width[:30], 2.0 + 1.5)
    assert np.isnan(lanes.width[30:]).all()
    assert [row.tolist() for row in lanes.left.rows()] == [[1], []]
