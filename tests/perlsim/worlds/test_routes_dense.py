"""Dense routes over hand-made lanes: lengths, lanes, road options, lane changes, triggers."""

from dataclasses import replace

import numpy as np
import pytest

from perlsim.errors import FormatError
from perlsim.scenario import Lanes, Ragged
from perlsim.vocabulary import LaneType
from perlsim.worlds.routes import leaderboard1, leaderboard2, load
from perlsim.worlds.routes.definitions import RouteDefinition, RouteScenario
from perlsim.worlds.routes.dense import RoadOption, densify
from perlsim.worlds.routes.graph import Place, TownGraph

# Two lanes east (0 right, 1 left), 100 m; a junction with a left turn (2) off lane 1, straight on (3) off
# lane 0; then north (4) and east (5), 100 m each. Lane 6 runs back west beside them, 7 is a footpath.
LINES = [
    [(0, 0), (100, 0)],
    [(0, 4), (100, 4)],
    [(100, 4), *[(100 + 16 * np.sin(a), 20 - 16 * np.cos(a)) for a in np.linspace(0.1, np.pi / 2, 15)]],
    [(100, 0), (120, 0)],
    [(116, 20), (116, 120)],
    [(120, 0), (220, 0)],
    [(100, 8), (0, 8)],
    [(0, -4), (100, -4)],
]


def _lanes() -> Lanes:
    centre = Ragged.from_rows(
        [np.column_stack([line, np.zeros(len(line))]) for line in map(np.array, LINES)], width=3
    )
    kind = np.full(len(LINES), LaneType.DRIVING, np.int8)
    kind[7] = LaneType.SHOULDER
    return Lanes(
        centre=centre,
        width=np.full(len(centre.values), 4.0),
        kind=kind,
        speed_limit=np.full(len(LINES), 14.0),
        in_junction=np.isin(np.arange(len(LINES)), [2, 3]),
        successors=Ragged.from_rows([[3], [2], [4], [5], [], [], [], []], dtype=np.int32),
        left=Ragged.from_rows([[1], [], [], [], [], [], [], [0]], dtype=np.int32),
        right=Ragged.from_rows([[7], [0], [], [], [], [], [], []], dtype=np.int32),
        ids=tuple(f"{i}.0.-1" for i in range(len(LINES))),
    )


@pytest.fixture(scope="module")
def town() -> TownGraph:
    return TownGraph(_lanes())


def _route(*points, scenarios=()) -> RouteDefinition:
    return RouteDefinition("1", "Town", np.array([[x, y, 0.0] for x, y in points]), tuple(scenarios))


def test_a_straight_route_has_points_a_metre_apart_and_stops_short_as_carla_does(town):
    dense = densify(_route((10, 0), (60, 0)), town)
    np.testing.assert_allclose(np.diff(dense.points[:, 0]), 1.0)
    # The first metre mark closer than 2 m to the last waypoint.
    assert dense.points[-1, 0] == pytest.approx(59.0)
    assert dense.length == pytest.approx(49.0)
    assert set(dense.lane_idx) == {0} and set(dense.option) == {RoadOption.LANEFOLLOW}


def test_a_left_turn_follows_the_arc_and_is_called_left(town):
    dense = densify(_route((50, 4), (116, 70)), town)
    assert dense.length == pytest.approx(50 + 8 * np.pi + 49, abs=0.1)
    np.testing.assert_array_equal(np.unique(dense.option[dense.lane_idx == 2]), [RoadOption.LEFT])
    np.testing.assert_allclose(dense.heading[-1], np.pi / 2, atol=1e-6)
    assert np.abs(np.diff(dense.heading)).max() < 0.15


def test_a_junction_crossed_without_turning_is_straight(town):
    dense = densify(_route((50, 0), (200, 0)), town)
    assert set(dense.option[dense.lane_idx == 3]) == {RoadOption.STRAIGHT}


def test_a_route_changes_lanes_where_it_has_to_and_as_early_as_it_can(town):
    dense = densify(_route((50, 0), (116, 70)), town)
    change = dense.option == RoadOption.CHANGELANELEFT
    assert change.any() and not (dense.option == RoadOption.CHANGELANERIGHT).any()
    # Five metres along for four across.
    np.testing.assert_allclose(dense.points[change][[0, -1], 0], [50, 55], atol=1.0)
    np.testing.assert_array_equal(dense.lane_idx[change], 0)
    assert dense.length == pytest.approx(np.hypot(5, 4) + 45 + 8 * np.pi + 49, abs=0.1)


def test_a_change_to_the_right_is_called_so_from_where_it_begins_to_where_it_ends(town):
    dense = densify(_route((10, 4), (40, 4), (60, 0)), town)
    change = dense.option == RoadOption.CHANGELANERIGHT
    np.testing.assert_allclose(dense.points[change][[0, -1], 0], [40, 45], atol=1.0)
    assert dense.lane_idx[0] == 1 and dense.lane_idx[-1] == 0


def test_waypoints_off_the_lanes_are_named(town):
    with pytest.raises(FormatError, match="waypoint 1") as caught:
        densify(_route((10, 0), (10, 50)), town)
    assert caught.value.field == "route 1"


def test_a_route_against_the_traffic_is_refused(town):
    with pytest.raises(FormatError, match="no way leads from waypoint 0 to waypoint 1"):
        densify(_route((60, 0), (10, 0)), town)


def test_footpaths_and_parking_lanes_carry_no_route(town):
    with pytest.raises(FormatError, match="no lane"):
        densify(_route((10, -4), (60, -4)), town)


def test_lanes_of_another_level_are_not_taken(town):
    high = replace(_route((10, 0), (60, 0)), waypoints=np.array([[10.0, 0, 9], [60, 0, 9]]))
    with pytest.raises(FormatError, match="no lane"):
        densify(high, town)


def test_deviation_tells_how_far_waypoints_lie_off_their_lanes(town):
    np.testing.assert_allclose(densify(_route((10, 0.5), (60, -0.25)), town).deviation, [0.5, 0.25])


def test_triggers_lie_on_the_route_within_two_metres_and_ten_degrees(town):
    dense = densify(_route((10, 0), (60, 0)), town)
    assert dense.position_of((30.0, 1.0, 0.0, 0.1)) == pytest.approx(20.0)
    assert np.isnan(dense.position_of((30.0, 2.5, 0.0, 0.0)))
    assert np.isnan(dense.position_of((30.0, 0.0, 0.0, 0.2)))
    assert np.isnan(dense.position_of((30.0, 0.0, 3.0, 0.0)))


def test_metre_marks_follow_the_reference_line_in_bends(town):
    # A quarter circle of radius 16 m whose reference line lies 4 m outside: 20 m of radius.
    stations = town.length.copy()
    stations[2] = 10 * np.pi
    bent = TownGraph(_lanes(), stations)
    marks = bent.marks(2)
    assert len(marks) == 33 and marks[-1] == pytest.approx(town.length[2])
    np.testing.assert_allclose(np.diff(marks)[5:25], 0.8, atol=0.03)
    np.testing.assert_allclose(np.diff(bent.marks(0)), 1.0)


def test_a_way_to_a_place_behind_leads_round_a_block():
    square = [[(0, 0), (50, 0)], [(50, 0), (50, 50)], [(50, 50), (0, 50)], [(0, 50), (0, 0)]]
    lanes = _lanes()
    centre = Ragged.from_rows([np.column_stack([np.array(line), np.zeros(2)]) for line in square], width=3)
    lanes = Lanes(
        centre,
        np.full(8, 4.0),
        lanes.kind[:4],
        lanes.speed_limit[:4],
        np.zeros(4, bool),
        Ragged.from_rows([[1], [2], [3], [0]], dtype=np.int32),
        Ragged.from_rows([[]] * 4, dtype=np.int32),
        Ragged.from_rows([[]] * 4, dtype=np.int32),
        lanes.ids[:4],
    )
    way = TownGraph(lanes).way(Place(0, 30.0), Place(0, 10.0))
    assert way is not None and [stretch.lane for stretch in way] == [0, 1, 2, 3, 0]
    assert sum(stretch.end - stretch.begin for stretch in way) == pytest.approx(180.0)


def test_a_file_loads_with_its_triggers_projected(tmp_path, town):
    on = RouteScenario("ControlLoss_1", "ControlLoss", (20.0, 0.0, 0.0, 0.0))
    off = RouteScenario("ControlLoss_2", "ControlLoss", (20.0, 30.0, 0.0, 0.0))
    path = tmp_path / "routes.xml"
    leaderboard2.write([_route((10, 0), (60, 0), scenarios=(on, off))], path)
    (route,) = load.load(path, lambda name: town)
    np.testing.assert_allclose(route.triggers, [10.0, np.nan])


def test_triggers_of_the_first_leaderboard_go_to_the_routes_they_lie_on(town):
    route = _route((10, 0), (60, 0))
    kinds = [("a", 40.0, "Town"), ("b", 20.0, "Town"), ("twin", 20.5, "Town"), ("c", 30.0, "Elsewhere")]
    triggers = [
        leaderboard1.Trigger(place, RouteScenario(name, "DOS_01", (x, 0.0, 0.0, 0.0)))
        for name, x, place in kinds
    ]
    scenarios = leaderboard1.with_triggers(route, densify(route, town), triggers).scenarios
    assert [scenario.name for scenario in scenarios] == ["b", "a"]
