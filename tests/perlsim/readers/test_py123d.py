import numpy as np
import py123d_files as files
import pytest
from fuzzing import assert_clean, mutations
from real_egos import assert_ego_is_plausible

from perlsim.errors import FormatError
from perlsim.readers import FORMATS, ReadOptions, guess_format
from perlsim.vocabulary import AgentType, LaneType, LightState, MarkingType

READER = FORMATS["py123d"]


def read(folder, **options):
    return list(READER.read(folder, ReadOptions(**options)))


def one(folder, **options):
    (scenario,) = read(folder, **options)
    return scenario


def test_the_ego_is_shifted_from_its_inertial_unit_to_its_box_centre_on_the_ground(tmp_path):
    scenario = one(files.write_log(tmp_path / "log"))
    assert scenario.ego.idx == 0
    world = scenario.tracks.position[0] + scenario.origin
    np.testing.assert_allclose(world[0], [21.4, 0.0, 10.0], atol=1e-5)
    assert scenario.ego.wheelbase == 3.0
    assert scenario.ego.rear_axle_to_centre == pytest.approx(1.5)
    np.testing.assert_allclose(scenario.tracks.size[0], [5.0, 2.0, 1.6])
    assert_ego_is_plausible(scenario)


def test_boxes_become_tracks_with_class_velocity_and_ground_contact(tmp_path):
    scenario = one(files.write_log(tmp_path / "log"))
    assert scenario.tracks.ids == ("ego", "car", "walker")
    expected = [AgentType.VEHICLE, AgentType.VEHICLE, AgentType.PEDESTRIAN]
    assert scenario.tracks.kind.tolist() == expected
    world = scenario.tracks.position + scenario.origin
    np.testing.assert_allclose(world[1, :, 0], 60 + 0.5 * np.arange(40), atol=1e-4)
    np.testing.assert_allclose(world[1:, 0, 2], 10.0, atol=1e-5)
    np.testing.assert_allclose(scenario.tracks.velocity[1, :, 0], 5.0, atol=1e-5)
    assert abs(scenario.tracks.heading[2, 0]) == pytest.approx(np.pi)


def test_lights_are_joined_to_lanes_and_stop_traffic_at_their_start(tmp_path):
    scenario = one(files.write_log(tmp_path / "log"))
    lights = scenario.lights
    assert [scenario.road.lanes.ids[i] for i in lights.lane_idx] == ["3"]
    assert lights.state[0, 0] == LightState.UNKNOWN
    assert set(lights.state[0, 1:].tolist()) == {LightState.RED}
    np.testing.assert_allclose(lights.position[0] + scenario.origin, [300, 0, 10], atol=1e-4)


def test_the_map_gives_lanes_neighbours_junctions_and_signs(tmp_path):
    scenario = one(files.write_log(tmp_path / "log"))
    road, lanes = scenario.road, scenario.road.lanes
    assert lanes.ids == ("1", "2", "3", "4")
    assert lanes.kind.tolist() == [LaneType.DRIVING] * 3 + [LaneType.BUS]
    assert lanes.in_junction.tolist() == [False, False, True, False]
    assert [r.tolist() for r in lanes.successors.rows()] == [[2], [], [], []]
    assert [r.tolist() for r in lanes.left.rows()] == [[1], [], [], []]
    assert [r.tolist() for r in lanes.right.rows()] == [[], [0], [], []]
    assert lanes.speed_limit[0] == pytest.approx(13.0)
    assert sorted(road.markings.kind.tolist()) == sorted([MarkingType.BROKEN, MarkingType.DOUBLE_SOLID])
    assert road.stop_signs.lane_idx.tolist() == [0]
    assert road.stop_signs.position[0, 0] + scenario.origin[0] == pytest.approx(202.0, abs=1e-4)
    assert len(road.crosswalks) == 1


def test_stop_signs_stand_on_the_middle_of_their_lane(tmp_path):
    scenario = one(files.write_log(tmp_path / "log"))
    assert scenario.road.stop_signs.position[0, 1] + scenario.origin[1] == pytest.approx(0.0, abs=1e-4)


def test_long_logs_are_cut_into_windows_of_one_recording(tmp_path):
    scenarios = read(files.write_log(tmp_path / "log", frames=95), window=2.0)
    assert [s.scenario_id for s in scenarios] == [f"log_{i}" for i in range(5)]
    assert {s.recording_id for s in scenarios} == {"log"}
    assert all(s.duration <= 2.0 for s in scenarios)
    assert sum(s.tracks.num_steps for s in scenarios) == 95
    starts = [s.tracks.position[0, 0, 0] + s.origin[0] for s in scenarios]
    times = [s.start_time - scenarios[0].start_time for s in scenarios]
    np.testing.assert_allclose(starts, 21.4 + 8 * np.array(times), atol=1e-3)


def test_the_map_of_a_city_is_found_beside_the_logs_or_in_a_named_folder_and_cropped(tmp_path):
    folder = files.write_log(tmp_path / "data" / "logs" / "nuplan_val" / "log")
    (folder / "map.arrow").unlink()
    far = files.lane_features(files.row(2, (9000.0, 9100.0)), files.row(-2, (9000.0, 9100.0)))
    objects = [*files.default_objects(), (50, 0, far)]
    place = "nuplan/nuplan_boston.arrow"
    with pytest.raises(FormatError, match="nuplan_boston"):
        read(folder)
    files.write_map(tmp_path / "elsewhere" / place, objects)
    named = one(folder, maps=tmp_path / "elsewhere")
    files.write_map(tmp_path / "data" / "maps" / place, objects)
    found = one(folder)
    assert found.road.lanes.ids == named.road.lanes.ids == ("1", "2", "4")


def test_where_the_map_has_no_heights_the_tracks_have_none(tmp_path):
    folder = files.write_log(tmp_path / "log")
    flat = [
        (
            key,
            layer,
            {
                n: files.array(np.frombuffer(v[b"data"]).reshape(-1, 3) * [1, 1, 0])
                if isinstance(v, dict)
                else v
                for n, v in features.items()
            },
            *rest,
        )
        for key, layer, features, *rest in files.default_objects()
    ]
    files.write_map(folder / "map.arrow", flat, map_has_z=False)
    scenario = one(folder)
    assert np.abs(scenario.tracks.position[..., 2]).max() == 0
    assert np.abs(scenario.road.lanes.centre.values[:, 2]).max() == 0
    assert "elevation" in scenario.missing


def test_logs_without_lights_or_ego_or_map_are_read_for_what_they_have(tmp_path):
    folder = files.write_log(tmp_path / "log", lights=False, log=files.about_log(map_metadata=None))
    (folder / "map.arrow").unlink()
    (folder / "ego_state_se3.arrow").unlink()
    scenario = one(folder)
    assert scenario.tracks.ids == ("car", "walker")
    assert {"ego", "lanes", "lights"} <= set(scenario.missing)


def test_an_unknown_version_is_refused(tmp_path):
    folder = files.write_log(tmp_path / "log", log=files.about_log(version="0.9.1"))
    with pytest.raises(FormatError, match=r"version 0\.9\.1"):
        read(folder)


def test_a_vehicle_without_measures_is_refused(tmp_path):
    about = {key: value for key, value in files.EGO.items() if key != "length"}
    with pytest.raises(FormatError, match="length"):
        read(files.write_log(tmp_path / "log", ego=about))


def test_arrays_of_objects_in_the_map_are_refused(tmp_path):
    folder = files.write_log(tmp_path / "log")
    hostile = {**files.array(files.row(2)), b"dtype": "|O"}
    objects = [(1, 0, files.lane_features(files.row(2), files.row(-2), left_boundary=hostile))]
    files.write_map(folder / "map.arrow", objects)
    with pytest.raises(FormatError, match="arrays of type"):
        read(folder)


def test_half_rates_keep_their_time_step(tmp_path):
    scenario = one(files.write_log(tmp_path / "log", frames=10, step=500_000))
    assert scenario.dt == 0.5


def test_a_log_is_recognised_once(tmp_path):
    folder = files.write_log(tmp_path / "log")
    assert guess_format(folder).name == "py123d"
    assert READER.sniff(folder / "sync.arrow")
    assert not READER.sniff(folder / "map.arrow")


@pytest.mark.parametrize(
    "name", ["sync", "ego_state_se3", "box_detections_se3", "traffic_light_detections", "map"]
)
def test_damaged_files_end_in_a_scenario_or_a_clear_error(tmp_path, name):
    file = files.write_log(tmp_path / "log", frames=6) / f"{name}.arrow"
    for damaged in mutations(file.read_bytes(), seed=6, count=60):
        file.write_bytes(damaged)
        assert_clean("py123d", file.parent)
