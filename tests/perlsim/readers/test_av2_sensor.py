import argoverse_files as av2
import numpy as np
import pytest
from fuzzing import assert_clean, mutations
from real_egos import assert_ego_is_plausible

from perlsim.errors import FormatError
from perlsim.readers import FORMATS, ReadOptions, guess_format
from perlsim.vocabulary import AgentType, LaneType, MarkingType

SENSOR = FORMATS["av2_sensor"]


def read(folder):
    (scenario,) = SENSOR.read(folder)
    return scenario


def test_boxes_in_the_moving_ego_frame_come_out_on_their_straight_paths(tmp_path):
    scenario = read(av2.sensor_log(tmp_path / "log"))
    tracks = scenario.tracks
    assert tracks.ids == ("AV", "other")
    world = tracks.position[1] + scenario.origin
    times = np.arange(30) * 0.1
    np.testing.assert_allclose(world[:, 0], 1040 + 5.0 * times, atol=2e-3)
    np.testing.assert_allclose(world[:, 1], 2003.0, atol=2e-3)
    np.testing.assert_allclose(world[:, 2], 10.0 + 0.31 + 0.49 - 0.8, atol=1e-3)
    np.testing.assert_allclose(tracks.heading[1], 0.0, atol=1e-3)
    np.testing.assert_allclose(tracks.velocity[1], np.tile([5.0, 0.0], (30, 1)), atol=0.02)


def test_the_ego_is_shifted_from_its_rear_axle_to_its_box_centre_on_the_ground(tmp_path):
    scenario = read(av2.sensor_log(tmp_path / "log"))
    world = scenario.tracks.position[0, 0] + scenario.origin
    np.testing.assert_allclose(world, [1020 + 1.339, 2000.0, 10.0], atol=1e-3)
    assert scenario.ego.wheelbase == 2.85
    np.testing.assert_allclose(scenario.tracks.size[0], [4.877, 2.0, 1.473], rtol=1e-6)


def test_an_ego_row_in_the_annotations_gives_the_size_and_is_no_road_user(tmp_path):
    scenario = read(av2.sensor_log(tmp_path / "log", ego_row=True))
    assert scenario.tracks.ids == ("AV", "other")
    np.testing.assert_allclose(scenario.tracks.size[0], [4.5, 1.8, 1.4], rtol=1e-6)


def test_a_jittering_sweep_is_interpolated_to_a_constant_step(tmp_path):
    jitter = np.arange(30) * 100_000_000
    jitter[7] += 8_000_000
    scenario = read(av2.sensor_log(tmp_path / "log", stamps=jitter))
    assert scenario.dt == 0.1
    world = scenario.tracks.position[1] + scenario.origin
    np.testing.assert_allclose(world[:, 0], 1040 + 0.5 * np.arange(30), atol=2e-3)


def test_a_missing_sweep_is_filled_and_reported(tmp_path):
    scenario = read(av2.sensor_log(tmp_path / "log", drop=(12,)))
    assert scenario.tracks.num_steps == 30
    assert scenario.tracks.valid[:, 12].all()
    np.testing.assert_allclose(scenario.tracks.position[1, 12, 0] + scenario.origin[0], 1046.0, atol=2e-3)
    assert any("1 of 30 sweeps" in repair for repair in scenario.repairs)


def test_a_long_gap_in_a_track_is_not_bridged(tmp_path):
    scenario = read(av2.sensor_log(tmp_path / "log", drop=range(10, 16)))
    assert scenario.tracks.valid[1].tolist() == [not 10 <= i < 16 for i in range(30)]


def test_the_map_gives_lanes_with_direction_neighbours_and_paint(tmp_path):
    road = read(av2.sensor_log(tmp_path / "log")).road
    lanes = road.lanes
    assert lanes.ids == ("1", "2", "3", "4")
    kinds = [LaneType.DRIVING, LaneType.DRIVING, LaneType.BUS, LaneType.BICYCLE]
    assert lanes.kind.tolist() == kinds
    assert lanes.in_junction.tolist() == [False, False, False, True]
    assert [row.tolist() for row in lanes.successors.rows()] == [[], [3], [], []]
    assert [row.tolist() for row in lanes.left.rows()] == [[], [0], [], []]
    assert [row.tolist() for row in lanes.right.rows()] == [[1], [], [], []]
    np.testing.assert_allclose(lanes.width, 3.5, atol=1e-5)
    west = lanes.centre[2]
    assert west[-1, 0] < west[0, 0]
    # Shared borders are kept once: four of the road, two of the lane behind it.
    solid, broken = MarkingType.SOLID, MarkingType.BROKEN
    expected = [MarkingType.DOUBLE_SOLID, MarkingType.NONE, broken, solid, solid, solid]
    assert sorted(road.markings.kind.tolist()) == sorted(expected)
    assert len(road.crosswalks) == 1
    assert len(road.crosswalks[0]) == 4


def test_the_crosswalk_polygon_does_not_cross_itself(tmp_path):
    polygon = read(av2.sensor_log(tmp_path / "log")).road.crosswalks[0][:, :2]
    x, y = polygon.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert area == pytest.approx(30.0, abs=1e-3)


def test_the_city_and_the_log_are_named(tmp_path):
    scenario = read(av2.sensor_log(tmp_path / "log"))
    assert (scenario.place, scenario.recording_id, scenario.dataset) == ("MIA", "log", "argoverse2")
    assert {"lights", "speed_limits", "velocity"} <= set(scenario.missing)


def test_heights_that_are_nan_in_the_map_come_from_the_other_points(tmp_path):
    archive = av2.two_lane_map()
    archive["lane_segments"]["1"]["left_lane_boundary"][0]["z"] = float("nan")
    scenario = read(av2.sensor_log(tmp_path / "log", archive=archive))
    np.testing.assert_allclose(scenario.road.lanes.centre.values[:, 2] + scenario.origin[2], 10.0, atol=1e-4)


def test_the_folder_is_recognised_and_nothing_else(tmp_path):
    folder = av2.sensor_log(tmp_path / "log")
    assert guess_format(folder).name == "av2_sensor"
    assert not SENSOR.sniff(tmp_path)


@pytest.mark.parametrize(
    ("name", "complaint"), [("annotations.feather", "annotations"), ("map/*.json", "log_map_archive")]
)
def test_a_missing_file_is_named(tmp_path, name, complaint):
    folder = av2.sensor_log(tmp_path / "log")
    next(folder.glob(name)).unlink()
    with pytest.raises(FormatError, match=complaint):
        read(folder)


@pytest.mark.parametrize("name", ["annotations.feather", "city_SE3_egovehicle.feather", "map/*.json"])
def test_damaged_files_end_in_a_scenario_or_a_clear_error(tmp_path, name):
    folder = av2.sensor_log(tmp_path / "log", frames=8)
    file = next(folder.glob(name))
    for damaged in mutations(file.read_bytes(), seed=3, count=60):
        file.write_bytes(damaged)
        assert_clean("av2_sensor", folder)


def test_real_logs_have_plausible_egos(real_data):
    logs = sorted((real_data / "logs" / "av2_sensor").iterdir())
    assert logs
    for log in logs:
        (scenario,) = SENSOR.read(log, ReadOptions())
        assert_ego_is_plausible(scenario)
        assert scenario.tracks.num_steps > 150
        assert scenario.dt == 0.1
        assert (scenario.tracks.kind == AgentType.VEHICLE).sum() > 20
        assert (scenario.route.lane_idx >= 0).mean() > 0.9
