"""The synthetic generator: its logs are deterministic, physical, lawful and free of collisions."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import shapely

from perlsim.errors import PerlsimError
from perlsim.geometry.polylines import arc_lengths, wrap
from perlsim.readers.finalize import finalize
from perlsim.readers.synthetic import FAMILIES, SHARING, generate
from perlsim.vocabulary import AgentType, LightState

MOTOR = (AgentType.VEHICLE, AgentType.TRUCK, AgentType.BUS, AgentType.MOTORCYCLIST, AgentType.CYCLIST)


@pytest.fixture(scope="module")
def scenarios():
    """Sixteen of each family: two maps."""
    return list(generate(16 * len(FAMILIES), 7))


def boxes(scenario):
    """Corners `[A, T, 4, 2]` in float64."""
    tracks = scenario.tracks
    half = 0.5 * tracks.size[:, None, :2].astype(np.float64)
    heading = tracks.heading.astype(np.float64)[..., None]
    cos, sin = np.cos(heading), np.sin(heading)
    along = half[..., :1] * np.array([1, 1, -1, -1])
    across = half[..., 1:] * np.array([1, -1, -1, 1])
    centre = tracks.position[..., None, :2].astype(np.float64)
    return centre + np.stack([along * cos - across * sin, along * sin + across * cos], -1)


def drivable(scenario):
    """The drivable polygon: open edges chained at the map's ends, closed ones as islands."""
    rows = [edge[:, :2].astype(np.float64) for edge in scenario.road.edges.rows()]
    islands = [row for row in rows if np.allclose(row[0], row[-1])]
    rows = [row for row in rows if not np.allclose(row[0], row[-1])]
    ring, left = [rows[0]], list(range(1, len(rows)))
    while left:
        gaps = [np.hypot(*(rows[k][0] - ring[-1][-1])) for k in left]
        ring.append(rows[left.pop(int(np.argmin(gaps)))])
    outer = shapely.LinearRing(np.concatenate(ring))
    assert outer.is_ccw and all(not shapely.LinearRing(island).is_ccw for island in islands)
    area = shapely.Polygon(outer, islands)
    assert area.is_valid
    return area


def overlaps(scenario):
    """Pairs of road users that share area at some step, by shapely."""
    corners, valid = boxes(scenario), scenario.tracks.valid
    found = []
    for step in range(scenario.tracks.num_steps):
        users = np.flatnonzero(valid[:, step])
        shapes = shapely.polygons(corners[users, step])
        first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
        pairs = first < second
        first, second = first[pairs], second[pairs]
        touching = shapely.area(shapely.intersection(shapes[first], shapes[second])) > 1e-4
        found += [
            (step, scenario.tracks.ids[users[a]], scenario.tracks.ids[users[b]])
            for a, b in zip(first[touching], second[touching], strict=True)
        ]
    return found


def red_crossings(scenario):
    """Vehicles whose front bumper passes a stop position while its light is red."""
    tracks, lights = scenario.tracks, scenario.lights
    front = boxes(scenario)[:, :, :2].mean(2)
    motor = np.isin(tracks.kind, MOTOR)[:, None] & tracks.valid
    found = []
    for position, heading, state in zip(lights.position, lights.heading, lights.state, strict=True):
        ahead = np.array([np.cos(heading), np.sin(heading)])
        offset = front - position[:2]
        along = offset @ ahead
        across = offset @ np.array([-ahead[1], ahead[0]])
        same_way = np.abs(wrap(tracks.heading - heading)) < 0.5
        here = motor & same_way & (np.abs(across) < 1.5)
        crossed = here[:, 1:] & (along[:, :-1] < -1e-3) & (along[:, 1:] > 1e-3) & (along[:, 1:] < 5.0)
        found += np.argwhere(crossed & (state[1:] == LightState.RED)).tolist()
    return found


def check_driving(scenario):
    """Asserts everything that a log of this generator promises about motion."""
    tracks, dt = scenario.tracks, scenario.dt
    name = scenario.scenario_id
    assert not overlaps(scenario), name
    assert not red_crossings(scenario), name
    area = drivable(scenario)
    motor = np.isin(tracks.kind, MOTOR)
    shapely.prepare(area)
    points = boxes(scenario)[motor][tracks.valid[motor]].reshape(-1, 2)
    outside = points[~shapely.contains_xy(area, points)]
    assert not len(outside), f"{name}: {len(outside)} corners off the road"
    both = tracks.valid[:, 1:] & tracks.valid[:, :-1]
    moved = np.diff(tracks.position[..., :2].astype(np.float64), axis=1) / dt
    mean = 0.5 * (tracks.velocity[:, 1:] + tracks.velocity[:, :-1])
    error = np.hypot(*(moved - mean).T).T
    # In the step in which a vehicle comes to rest the mean of both speeds errs by up to brake · dt / 8.
    assert (error[both] <= 0.02 * np.hypot(*mean.T).T[both] + 8.0 * dt / 8.0).all(), name
    speed = np.hypot(*tracks.velocity.T).T
    slip = wrap(np.arctan2(tracks.velocity[..., 1], tracks.velocity[..., 0]) - tracks.heading)
    moving = tracks.valid & (speed > 1.0) & motor[:, None]
    # A box centre ahead of the rear axle slips by atan(κ · half wheelbase) in a bend.
    assert (np.abs(slip[moving]) < 0.35).all(), name
    turn = wrap(np.diff(tracks.heading, axis=1)) / dt
    lateral = (turn * 0.5 * (speed[:, 1:] + speed[:, :-1]))[both & motor[:, None]]
    assert np.abs(lateral).max() < 4.3, name
    forward = (tracks.velocity * np.stack([np.cos(tracks.heading), np.sin(tracks.heading)], -1)).sum(-1)
    accel = (np.diff(forward, axis=1) / dt)[both]
    assert accel.min() > -8.0 and accel.max() < 4.0, name


def check_map(scenario):
    """Asserts that the map is whole: lanes inside the edges, successors that touch, a route on the lanes."""
    lanes, name = scenario.road.lanes, scenario.scenario_id
    area = drivable(scenario).buffer(0.05)
    for centre, following in zip(lanes.centre.rows(), lanes.successors.rows(), strict=True):
        assert area.covers(shapely.LineString(centre[:, :2])), name
        for lane in following:
            assert np.hypot(*(lanes.centre[lane][0] - centre[-1])[:2]) < 0.01, name
    assert (np.diff(lanes.centre.offsets) >= 2).all() and (lanes.width > 2.5).all()
    for group in (scenario.lights, scenario.road.stop_signs):
        for position, lane in zip(group.position, group.lane_idx, strict=True):
            line = shapely.LineString(lanes.centre[lane][:, :2])
            assert line.distance(shapely.Point(position[:2])) < 0.05, name
    route, ego = scenario.route, scenario.ego.idx
    points = route.points.astype(np.float64)
    driven = scenario.tracks.position[ego, :, :2].astype(np.float64)
    line = shapely.LineString(points[:, :2])
    assert max(line.distance(shapely.Point(p)) for p in driven[::10]) < 1.0, name
    ahead = arc_lengths(points)[-1] - line.project(shapely.Point(driven[-1]))
    at_end = min(np.hypot(*(points[-1] - row[-1])[:2]) for row in lanes.centre.rows()) < 4.0
    assert ahead >= 100.0 or at_end, f"{name}: {ahead} m"
    for point, lane in zip(points[::7], route.lane_idx[::7], strict=True):
        nearest = shapely.LineString(lanes.centre[lane][:, :2]).distance(shapely.Point(point[:2]))
        assert nearest < 0.5 * lanes.width.max() + 0.3, name


def same(first, second):
    """Whether two scenarios agree bit for bit in what is drawn and driven."""
    return (
        first.scenario_id == second.scenario_id
        and np.array_equal(first.tracks.position, second.tracks.position)
        and np.array_equal(first.tracks.velocity, second.tracks.velocity)
        and np.array_equal(first.road.lanes.centre.values, second.road.lanes.centre.values)
        and np.array_equal(first.lights.state, second.lights.state)
        and np.array_equal(first.route.points, second.route.points)
        and first.ego == second.ego
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_driving_is_physical_lawful_and_free_of_collisions(scenarios, family):
    chosen = [s for s in scenarios if s.place == family]
    assert len(chosen) == 16
    for scenario in chosen:
        check_driving(scenario)


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_whole_and_the_route_follows_the_lane_graph(scenarios, family):
    for scenario in [s for s in scenarios if s.place == family][:: SHARING // 2]:
        check_map(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_driving_is_physical_lawful_and_free_of_collisions_in_hundreds(family):
    for scenario in generate(120, 2026, [family]):
        check_driving(scenario)
        check_map(scenario)


def test_a_scenario_does_not_depend_on_how_many_are_asked_for(scenarios):
    few = list(generate(9, 7))
    assert all(same(a, b) for a, b in zip(few, scenarios, strict=False))
    assert all(same(a, b) for a, b in zip(generate(7, 7, first=5), scenarios[5:], strict=False))


def test_another_seed_gives_other_maps_and_other_traffic():
    first, second = next(generate(1, 1, ["merge"])), next(generate(1, 2, ["merge"]))
    assert first.scenario_id != second.scenario_id
    assert not np.array_equal(first.tracks.position[0, :5], second.tracks.position[0, :5])
    assert not np.array_equal(first.road.edges.values[:5], second.road.edges.values[:5])


def test_scenarios_on_one_map_are_one_recording(scenarios):
    lengths = {}
    for scenario in scenarios:
        lengths.setdefault(scenario.recording_id, []).append(scenario.road.lanes.centre.offsets)
    assert {len(rows) for rows in lengths.values()} == {SHARING}
    assert all(np.array_equal(rows[0], row) for rows in lengths.values() for row in rows)
    assert len({s.scenario_id for s in scenarios}) == len(scenarios)


def test_the_ego_is_a_car_at_the_origin_with_its_chassis_that_stays_to_the_end(scenarios):
    for scenario in scenarios:
        ego = scenario.ego
        assert scenario.tracks.kind[ego.idx] == AgentType.VEHICLE
        assert scenario.tracks.valid[ego.idx].all()
        assert np.allclose(scenario.tracks.position[ego.idx, 0], 0.0, atol=1e-4)
        assert 2.0 < ego.wheelbase < 3.6 and ego.rear_axle_to_centre == pytest.approx(ego.wheelbase / 2)


def test_arrays_are_float32_with_zeros_where_a_road_user_is_gone(scenarios):
    for scenario in scenarios:
        tracks = scenario.tracks
        for array in (tracks.position, tracks.velocity, tracks.heading, scenario.road.lanes.centre.values):
            assert array.dtype == np.float32
        assert not tracks.position[~tracks.valid].any() and not tracks.velocity[~tracks.valid].any()
        assert (tracks.heading >= -np.pi).all() and (tracks.heading < np.pi).all()
        assert tracks.num_steps == 151


def test_traffic_is_varied(scenarios):
    sizes = [s.tracks.num_agents for s in scenarios]
    assert min(sizes) <= 10 and max(sizes) >= 30 and min(sizes) >= 4 and max(sizes) <= 48
    kinds = set(np.concatenate([s.tracks.kind for s in scenarios]).tolist())
    assert kinds >= {int(k) for k in (*MOTOR, AgentType.PEDESTRIAN)}
    limits = {float(limit) for s in scenarios for limit in s.road.lanes.speed_limit}
    assert min(limits) < 12 and max(limits) > 16


def test_egos_stop_turn_brake_and_change_lanes(scenarios):
    stops = turns = brakes = cruises = 0
    for s in scenarios:
        speed = np.hypot(*s.tracks.velocity[s.ego.idx].T)
        stops += (speed < 0.1).any() and (speed > 2.0).any()
        turns += np.ptp(np.unwrap(s.tracks.heading[s.ego.idx])) > 1.0
        brakes += (np.diff(speed) / s.dt).min() < -3.0
        cruises += speed.min() > 8.0
    assert min(stops, turns, brakes, cruises) >= 6, (stops, turns, brakes, cruises)


def test_lights_show_every_colour_and_cars_wait_at_red(scenarios):
    signalised = [s for s in scenarios if s.place == "signalised_junction"]
    shown = set(np.concatenate([s.lights.state.ravel() for s in signalised]).tolist())
    assert shown == {LightState.GREEN, LightState.YELLOW, LightState.RED}
    waiting = 0
    for s in signalised:
        still = (np.hypot(*s.tracks.velocity[:, 60].T) < 0.2) & s.tracks.valid[:, 60]
        at = s.lights.position[s.lights.state[:, 60] == LightState.RED]
        gaps = np.hypot(*(s.tracks.position[:, 60, None, :2] - at[None, :, :2]).T).T
        waiting += (still[:, None] & (gaps < 6.0)).sum()
    assert waiting >= 8


def test_pedestrians_step_out_between_parked_cars_and_drivers_brake(scenarios):
    crossed = braked = 0
    for s in [s for s in scenarios if s.place == "parked_street"]:
        walks = s.tracks.kind == AgentType.PEDESTRIAN
        start, end = s.tracks.position[walks, 0], s.tracks.position[walks, -1]
        crossed += (s.tracks.valid[walks, -1] & (np.hypot(*(end - start)[:, :2].T) > 8.0)).sum()
        speed = np.hypot(*s.tracks.velocity[~walks].T).T
        braked += ((np.diff(speed, axis=0 if speed.shape[0] == 151 else 1) / s.dt) < -2.5).any()
    assert crossed >= 8 and braked >= 4


def test_duration_and_step_can_be_chosen():
    scenario = next(generate(1, 3, ["roundabout"], duration=9.0, dt=0.05))
    assert scenario.tracks.num_steps == 181 and scenario.dt == 0.05
    check_driving(scenario)


def test_generating_nothing_gives_nothing():
    assert list(generate(0, 1)) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"families": ["motorway"]},
        {"families": []},
        {"num": -1},
        {"seed": -1},
        {"dt": 0.5},
        {"duration": 0.0},
    ],
)
def test_bad_arguments_are_refused_with_a_reason(arguments):
    with pytest.raises(PerlsimError):
        list(generate(**{"num": 1, "seed": 1, **arguments}))


def test_finalizing_finds_nothing_to_mend(scenarios):
    for scenario in scenarios[:: 2 * len(FAMILIES) + 1]:
        again = finalize(scenario)
        assert not again.repairs
        assert again.missing == scenario.missing
        assert again.missing == (() if len(scenario.lights.position) else ("lights",))
        assert np.array_equal(again.tracks.position, scenario.tracks.position)


def test_another_process_draws_the_same_bits():
    script = (
        "import hashlib; from perlsim.readers.synthetic import generate; "
        "print(hashlib.sha256(b''.join(s.tracks.position.tobytes() for s in generate(6, 5))).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    here = hashlib.sha256(b"".join(s.tracks.position.tobytes() for s in generate(6, 5))).hexdigest()
    assert run.stdout.strip() == here
