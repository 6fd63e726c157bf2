import numpy as np
import pytest
from test_finalize import lane, lanes, scene, tracks

from perlsim.geometry import polylines
from perlsim.readers.finalize import finalize
from perlsim.scenario import Ego, Ragged, Road


def route_of(**changes):
    done = finalize(scene(**changes))
    return done.route, done


def beyond(route, done):
    """Metres of route after the last pose, and largest distance of a pose from it."""
    path = done.tracks.position[done.ego.idx][done.tracks.valid[done.ego.idx]]
    hit = polylines.project(route.points, path)
    return polylines.arc_lengths(route.points)[-1] - hit.arc[-1], hit.distance.max()


def test_spacing_is_one_metre_and_a_hundred_lie_ahead():
    route, done = route_of(road=Road(lanes=lanes([lane(0.4), lane(0.4, 100, 200)], successors=[[1], []])))
    gaps = np.linalg.norm(np.diff(route.points[:, :2], axis=0), axis=1)
    ahead, aside = beyond(route, done)
    assert gaps == pytest.approx(1.0, abs=1e-3)
    assert ahead >= 100.0 and aside == pytest.approx(0.4, abs=1e-5)
    assert set(route.lane_idx[:-2]) == {0, 1}
    assert route.points[0, 0] <= 0


def test_the_straight_successor_is_preferred():
    bend = np.stack(
        [100 + 20 * np.sin(np.linspace(0, 1.5, 30)), 20 - 20 * np.cos(np.linspace(0, 1.5, 30))], 1
    )
    bend = np.column_stack([bend, np.zeros(30)])
    route, _ = route_of(
        road=Road(lanes=lanes([lane(0), bend, lane(0, 100, 200)], successors=[[1, 2], [], []]))
    )
    assert 2 in route.lane_idx and 1 not in route.lane_idx


def test_a_lane_change_leads_from_one_lane_to_the_other():
    moving = tracks(agents=1, steps=100)
    shift = 3.5 / (1 + np.exp(-(moving.position[0, :, 0] - 50) / 5))
    moving.position[0, :, 1] += shift
    network = lanes([lane(0, -20, 250), lane(3.5, -20, 250)])
    network = network.__class__(**{**network.__dict__, "left": Ragged.from_rows([[1], []], dtype=np.int32)})
    route, done = route_of(tracks=moving, road=Road(lanes=network))
    assert beyond(route, done)[1] < 1.0
    assert route.lane_idx[10] == 0 and route.lane_idx[-10] == 1
    turns = np.abs(polylines.wrap(np.diff(polylines.headings(route.points))))
    assert turns.max() < 0.3


@pytest.mark.parametrize("points", [2, 3, 200])
def test_a_lane_change_is_as_long_however_few_points_a_lane_has(points):
    moving = tracks(agents=1, steps=100)
    moving.position[0, :, 1] += 3.5 / (1 + np.exp(-(moving.position[0, :, 0] - 50) / 5))
    rows = [
        np.column_stack([np.linspace(-20, 250, points), np.full((points, 2), [y, 0])]) for y in (0.0, 3.5)
    ]
    network = lanes(rows)
    network = network.__class__(**{**network.__dict__, "left": Ragged.from_rows([[1], []], dtype=np.int32)})
    route, _ = route_of(tracks=moving, road=Road(lanes=network))
    across = np.flatnonzero((route.points[:, 1] > 0.02) & (route.points[:, 1] < 3.48))
    assert 18 <= len(across) <= 23
    assert set(route.lane_idx[: across[0]]) == {0} and set(route.lane_idx[across[-1] + 1 :][:60]) == {1}


def test_where_a_lane_ends_the_next_one_begins_also_when_it_has_two_points():
    rows = [np.array([[x, 0, 0], [x + 60.0, 0, 0]]) for x in (-20, 40, 100)]
    route, _ = route_of(road=Road(lanes=lanes(rows, successors=[[1], [2], []])))
    wanted = np.searchsorted([40, 100], route.points[:, 0], side="right")
    inside = (np.abs(route.points[:, 0, None] - [40, 100, 160]).min(1) > 1.0) & (route.points[:, 0] < 160)
    np.testing.assert_array_equal(route.lane_idx[inside], wanted[inside])


def test_without_lanes_the_route_is_the_driven_path_and_its_tangent():
    route, done = route_of()
    ahead, aside = beyond(route, done)
    assert ahead >= 99.0 and aside < 0.01 and (route.lane_idx == -1).all()


def test_an_ego_off_the_lanes_keeps_its_own_path():
    route, done = route_of(road=Road(lanes=lanes([lane(30.0)])))
    assert beyond(route, done)[1] < 0.01 and (route.lane_idx == -1).all()


def test_an_ego_that_joins_the_road_from_beside_it_is_followed_onto_it():
    joining = tracks(agents=1, steps=80)
    x = joining.position[0, :, 0]
    joining.position[0, :, 1] = np.clip(-12 + 0.4 * x, -12, 0)
    joining.heading[0] = np.where(joining.position[0, :, 1] < 0, np.arctan(0.4), 0)
    route, done = route_of(tracks=joining, road=Road(lanes=lanes([lane(0, -50, 300)])))
    assert beyond(route, done)[1] < 1.5
    assert route.lane_idx[3] == -1 and route.lane_idx[-5] == 0


def test_a_u_turn_is_driven_as_logged_and_led_on_along_the_lane():
    turning = tracks(agents=1, steps=160)
    arc = np.clip((turning.position[0, :, 0] - 60) / 5, 0, np.pi)
    after = np.clip(turning.position[0, :, 0] - 60 - 5 * np.pi, 0, None)
    turning.position[0, :, 0] = np.clip(turning.position[0, :, 0], None, 60) + 5 * np.sin(arc) - after
    turning.position[0, :, 1] = 5 - 5 * np.cos(arc)
    turning.heading[0] = arc
    network = lanes([lane(0, -20, 300), lane(10, -300, 300)[::-1].copy()])
    route, done = route_of(tracks=turning, road=Road(lanes=network))
    assert beyond(route, done)[1] < 0.3
    assert np.abs(polylines.wrap(np.diff(polylines.headings(route.points)))).max() < 0.3
    assert route.lane_idx[-10] == 1 and route.points[-1, 0] < route.points[-50, 0]


def test_a_parked_ego_gets_a_straight_line_ahead():
    parked = tracks(agents=1, speed=0.0)
    parked.heading[:] = np.pi / 2
    route, _ = route_of(tracks=parked)
    direction = route.points[-1] - route.points[0]
    assert direction[1] > 100 and abs(direction[0]) < 1e-3
    assert route.points[0, 1] <= -4.9


def test_a_reversing_ego_does_not_turn_the_route_back():
    back = tracks(agents=1, steps=60, speed=-2.0)
    route, _ = route_of(tracks=back)
    assert (np.diff(route.points[:, 0]) > 0).all()


def test_no_ego_means_no_route():
    route, done = route_of(ego=Ego(-1))
    assert route.points.shape == (0, 3) and "ego" in done.missing


def test_oncoming_lanes_and_bridges_are_not_matched():
    oncoming, over = lane(0)[::-1].copy(), lane(0.0, -20, 300)
    over[:, 2] = 6.0
    route, _ = route_of(road=Road(lanes=lanes([oncoming, over, lane(1.0, -20, 300)])))
    assert set(route.lane_idx[:100]) == {2}
