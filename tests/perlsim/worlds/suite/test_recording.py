"""Drives along routes as logs, from made arrays of what an examination saw."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from small_town import case_with

from perlsim.bank import COS, VALID, VX, X, Y
from perlsim.vocabulary import AgentType, LightState
from perlsim.worlds.actors import Script
from perlsim.worlds.actors.script import Actor, Trigger, standing
from perlsim.worlds.suite.criteria import Infraction, Seen, Status, begin
from perlsim.worlds.suite.drive import Drives
from perlsim.worlds.suite.recording import drive_of, num_steps, scenes_of
from perlsim.worlds.suite.scene import MAX_STEPS, MAX_TICKS
from perlsim.worlds.suite.starts import Bounds, moved_start

SPEED = 10.0  # m/s


def flow_actor():
    path = np.array([[0.0, -1.75, 0.0], [100.0, -1.75, 0.0]])
    return Actor(AgentType.VEHICLE, (4.6, 1.9, 1.6), path, trigger=Trigger(), flow=0)


def rows_of(case, steps):
    """The ego at `SPEED` along its route; actor 1 leaves after 10 s and comes again at 12 s; actor 2 stands."""
    rows = np.zeros((MAX_STEPS, 8, 16), np.float32)
    rows[:, COS] = 1.0
    time = 0.1 * np.arange(1, steps + 1)
    rows[:steps, X, 0], rows[:steps, VX, 0], rows[:steps, VALID, 0] = SPEED * time, SPEED, 1.0
    there = (time <= 10.05) | (time > 11.95)
    rows[:steps, X, 1] = np.where(time < 11, 8.0 * time, 8.0 * (time - 12.0)) - 10
    rows[:steps, Y, 1], rows[:steps, VALID, 1] = 3.5, there
    rows[:steps, X, 2], rows[:steps, Y, 2], rows[:steps, VALID, 2] = 300.0, -3.0, 1.0
    return rows


def drives_of(case, steps, status=Status.COMPLETED, events=(), rows=None):
    """One recorded drive; ``events`` are (tick, infraction, slot hit)."""
    infractions, hit = np.zeros(MAX_TICKS, np.int32), np.full(MAX_TICKS, -1, np.int32)
    for tick, infraction, slot in events:
        infractions[tick] |= infraction
        hit[tick] = slot
    judged = begin()._replace(status=np.int32(status), ticks=np.int32(2 * steps))
    drives = Drives(judged, np.zeros((MAX_STEPS, 5)), Seen(infractions, hit))
    drives = jax.tree.map(lambda leaf: np.asarray(leaf)[None], drives)
    return drives._replace(rows=(rows_of(case, steps) if rows is None else rows)[None])


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    # In the town, the route begins at (10, −1.75).
    stands = standing(AgentType.STATIC, (1.0, 1.0, 1.0), np.array([310.0, -4.75, 0.0, 0.5]))
    return case_with(tmp_path_factory.mktemp("town"), Script((flow_actor(), stands)))


def whole_of(case, **options):
    return drive_of(case, drives_of(case, **options), 0, drive_id="drive")


def test_a_drive_is_a_log_of_all_road_users_and_lights_from_start_to_end(case):
    scenario = whole_of(case, steps=455).scenario
    assert (scenario.tracks.num_steps, scenario.dt, scenario.place) == (456, 0.1, "Small")
    ego = scenario.tracks.position[scenario.ego.idx]
    np.testing.assert_allclose(ego[:, 0], np.arange(456), atol=1e-3)
    np.testing.assert_allclose(scenario.tracks.velocity[0, 1:, 0], SPEED)
    np.testing.assert_array_equal(scenario.lights.state, case.lights[:, :456])
    assert len(set(scenario.lights.state[0].tolist()) - {LightState.UNKNOWN}) > 1
    assert "scenario: ControlLoss" in scenario.notes and "route: 1" in scenario.notes
    assert "drive: completed after 45.5 s" in scenario.notes
    standing_heading = scenario.tracks.heading[scenario.tracks.ids.index("static.2")]
    assert standing_heading[0] == pytest.approx(0.5) and scenario.tracks.valid[-1].all()


def test_who_comes_again_is_another_road_user(case):
    tracks = whole_of(case, steps=200).scenario.tracks
    assert tracks.ids == ("ego", "vehicle.1", "vehicle.1.2", "static.2")
    first, second = tracks.valid[1], tracks.valid[2]
    assert first[0] and first[100] and not first[101:].any()
    assert second[120:].all() and not second[:120].any()
    moved = np.linalg.norm(np.diff(tracks.position[1:3], axis=1), axis=-1)
    both = tracks.valid[1:3, 1:] & tracks.valid[1:3, :-1]
    assert moved[both][1:].max() < 1.5  # nobody jumps


def test_windows_cut_a_drive_without_losing_or_repeating_steps(case):
    drive = whole_of(case, steps=455)
    scenes = scenes_of(drive, 20.0)
    assert [scene.tracks.num_steps for scene in scenes] == [152, 152, 152]
    ego = np.concatenate([scene.tracks.position[scene.ego.idx] for scene in scenes])
    np.testing.assert_array_equal(ego, drive.scenario.tracks.position[0])
    assert {scene.recording_id for scene in scenes} == {"drive"}
    assert len({scene.scenario_id for scene in scenes}) == 3
    assert [scene.start_time for scene in scenes] == pytest.approx([0.0, 15.2, 30.4])
    assert scenes_of(drive, 0.0)[0].tracks.num_steps == 456


def test_a_window_has_the_road_and_route_round_its_own_part(case):
    scenes = scenes_of(whole_of(case, steps=455), 20.0)
    assert len(scenes[0].road.lanes) == 2 and len(scenes[2].road.lanes) == 4
    assert len(scenes[0].lights.position) == 1  # its lane reaches into all windows
    for scene in scenes:
        ego, route = scene.tracks.position[scene.ego.idx], scene.route.points
        assert ego[0, 0] - 7 <= route[0, 0] <= ego[0, 0]
        assert route[-1, 0] >= min(ego[-1, 0] + 99, 499)
        lanes = scene.route.lane_idx
        assert (lanes >= 0).all() and len(lanes) == len(route)
        for point, lane in zip(route[::20], lanes[::20], strict=True):
            line = scene.road.lanes.centre[int(lane)]
            assert abs(line[0, 1] - point[1]) < 0.1
    assert "static.2" in scenes[0].tracks.ids and "vehicle.1" not in scenes[2].tracks.ids


def test_mishaps_name_time_and_road_user_and_begin_once(case):
    events = [(101, Infraction.VEHICLE, 1), *((tick, Infraction.OUTSIDE, -1) for tick in range(200, 240))]
    drive = whole_of(case, steps=400, status=Status.DEVIATED, events=events)
    found = [(mishap.what, round(mishap.time, 2), mishap.whom) for mishap in drive.mishaps]
    assert found == [("vehicle", 5.1, "vehicle.1"), ("outside", 10.05, ""), ("deviated", 40.0, "")]
    whole = scenes_of(drive, 0.0, only_clean=False)[0]
    assert "vehicle: 5.1 s, vehicle.1" in whole.notes


def test_clean_leaves_out_what_shows_or_leads_to_an_infraction(case):
    def kept(**options):
        scenes = scenes_of(whole_of(case, **options), 10.0)
        return [round(scene.start_time) for scene in scenes]

    assert kept(steps=399) == [0, 10, 20, 30]
    assert kept(steps=399, events=[(500, Infraction.RED_LIGHT, -1)]) == [0, 10, 30]
    # 1 s into the third window: the second led to it.
    assert kept(steps=399, events=[(420, Infraction.RED_LIGHT, -1)]) == [0, 30]
    assert kept(steps=399, status=Status.DEVIATED) == [0, 10, 20]
    assert kept(steps=799, status=Status.BLOCKED) == [0, 10]
    drive = whole_of(case, steps=399, status=Status.DEVIATED)
    assert len(scenes_of(drive, 10.0, only_clean=False)) == 4


def test_numbers_that_are_not_finite_are_left_out(case):
    rows = rows_of(case, 50)
    rows[49, X, 0] = np.nan
    drives = drives_of(case, 50, Status.BROKEN, rows=rows)
    assert num_steps(drives, 0) == 49
    assert drive_of(case, drives, 0, drive_id="drive").scenario.tracks.num_steps == 50


def test_a_route_that_crosses_itself_is_followed_in_order(case):
    angle = np.linspace(0.0, 2 * np.pi, 201)
    loop = np.stack([60 * np.sin(angle), 60 * np.sin(2 * angle), 0 * angle], 1).astype(np.float32)
    route = replace(case.scenario.route, points=loop, lane_idx=np.full(201, -1, np.int32))
    eight = replace(case, scenario=case.scenario.replace(route=route))
    rows = rows_of(case, 400)
    rows[:400, X, 0] = np.interp(np.arange(400), np.linspace(0, 400, 201), loop[:, 0])
    rows[:400, Y, 0] = np.interp(np.arange(400), np.linspace(0, 400, 201), loop[:, 1])
    drive = drive_of(eight, drives_of(eight, 400, rows=rows), 0, drive_id="drive")
    assert (np.diff(drive.route_arc) >= 0).all()
    length = np.linalg.norm(np.diff(loop, axis=0), axis=1).sum()
    np.testing.assert_allclose(drive.route_arc, np.linspace(0, length, 401), atol=0.1 * length)


def test_moved_starts_keep_their_bounds_and_depend_on_the_seed_alone(case):
    bounds = Bounds(0.5, 5.0, 0.2, 8.0)
    starts = [moved_start(case, bounds, (3, number)) for number in range(40)]
    again = moved_start(case, bounds, (3, 7))
    np.testing.assert_array_equal(again.scenario.tracks.position, starts[7].scenario.tracks.position)
    tracks = [start.scenario.tracks for start in starts]
    place = np.array([t.position[0, 0] for t in tracks])
    heading, velocity = (
        np.array([t.heading[0, 0] for t in tracks]),
        np.array([t.velocity[0, 0] for t in tracks]),
    )
    assert place[:, 0].min() >= -0.2 and 4.0 < place[:, 0].max() <= 5.1
    assert 0.35 < np.abs(place[:, 1]).max() <= 0.51
    assert 0.12 < np.abs(heading).max() <= 0.201
    assert 6.0 < np.hypot(*velocity.T).max() <= 8.0
    assert all((t.position[1:] == case.scenario.tracks.position[1:]).all() for t in tracks)


def test_a_start_stays_where_it_is_when_there_is_no_room(case):
    tracks = case.scenario.tracks
    position, valid = tracks.position.copy(), tracks.valid.copy()
    position[1, 0], valid[1, 0] = (4.0, 0.0, 0.0), True
    full = replace(
        case, scenario=case.scenario.replace(tracks=replace(tracks, position=position, valid=valid))
    )
    moved = moved_start(full, Bounds(0.5, 5.0, 0.2, 8.0), (0, 0))
    np.testing.assert_array_equal(moved.scenario.tracks.position, position)
