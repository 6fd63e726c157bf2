import argoverse_files as av2
import numpy as np
import pytest
from fuzzing import assert_clean, mutations
from real_egos import assert_ego_is_plausible

from perlsim.errors import FormatError
from perlsim.readers import FORMATS, guess_format
from perlsim.vocabulary import AgentType

MOTION = FORMATS["av2_motion"]


def read(path):
    (scenario,) = MOTION.read(path)
    return scenario


def test_tracks_come_with_the_named_ego_its_class_and_its_velocity(tmp_path):
    scenario = read(av2.motion_scenario(tmp_path / "one"))
    assert scenario.tracks.ids[scenario.ego.idx] == "AV"
    walker = scenario.tracks.ids.index("17")
    assert scenario.tracks.kind[walker] == AgentType.PEDESTRIAN
    assert scenario.dt == 0.1
    np.testing.assert_allclose(scenario.tracks.velocity[scenario.ego.idx, :, 0], 8.0)
    np.testing.assert_allclose(scenario.tracks.size[scenario.ego.idx], [4.877, 2.0, 1.473], rtol=1e-6)
    assert "box_sizes" in scenario.missing
    assert scenario.place == "austin"


def test_heights_come_from_the_nearest_lane_border(tmp_path):
    archive = av2.two_lane_map()
    for point in archive["lane_segments"]["2"]["right_lane_boundary"]:
        point["z"] = 14.0
    scenario = read(av2.motion_scenario(tmp_path / "one", archive=archive))
    world = scenario.tracks.position[..., 2] + scenario.origin[2]
    assert world[scenario.tracks.ids.index("17"), 0] == pytest.approx(14.0, abs=1e-4)


def test_a_scenario_without_the_vehicle_has_no_ego(tmp_path):
    folder = av2.motion_scenario(tmp_path / "one", track_id=["1"] * 11 + ["2"] * 11)
    scenario = read(folder)
    assert not scenario.has_ego
    assert "ego" in scenario.missing


def test_steps_that_are_not_observed_are_invalid(tmp_path):
    late = np.concatenate([np.arange(11), np.arange(11) + 5])
    scenario = read(av2.motion_scenario(tmp_path / "one", timestep=late))
    walker = scenario.tracks.ids.index("17")
    assert scenario.tracks.valid[walker].tolist() == [False] * 5 + [True] * 11


def test_repeated_rows_are_reported_and_the_first_counts(tmp_path):
    twice = np.concatenate([[0, 1, 2, 3, 4, 4, 6, 7, 8, 9, 10], np.arange(11)])
    scenario = read(av2.motion_scenario(tmp_path / "one", timestep=twice))
    assert any("repeated a track" in repair for repair in scenario.repairs)
    assert not scenario.tracks.valid[scenario.ego.idx, 5]
    assert scenario.tracks.position[scenario.ego.idx, 4, 0] == pytest.approx(3.2, abs=1e-4)


def test_folder_and_file_are_both_recognised(tmp_path):
    folder = av2.motion_scenario(tmp_path / "one")
    file = folder / "scenario_one.parquet"
    assert guess_format(folder).name == guess_format(file).name == "av2_motion"
    assert read(file).scenario_id == read(folder).scenario_id == "one"


def test_absurd_time_steps_are_refused(tmp_path):
    folder = av2.motion_scenario(tmp_path / "one", timestep=np.array([10**9] * 22))
    with pytest.raises(FormatError, match="steps from 0"):
        read(folder)


@pytest.mark.parametrize("name", ["scenario_one.parquet", "log_map_archive_one.json"])
def test_damaged_files_end_in_a_scenario_or_a_clear_error(tmp_path, name):
    folder = av2.motion_scenario(tmp_path / "one")
    for damaged in mutations((folder / name).read_bytes(), seed=4, count=60):
        (folder / name).write_bytes(damaged)
        assert_clean("av2_motion", folder)


def test_real_scenarios_have_plausible_egos(real_data):
    folders = sorted((real_data / "logs" / "av2_motion").iterdir())
    assert folders
    for folder in folders:
        scenario = read(folder)
        assert_ego_is_plausible(scenario)
        assert scenario.tracks.num_steps == 110
