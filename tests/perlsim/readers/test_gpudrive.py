import json

import numpy as np
import pytest
import waymo_files as scene

from perlsim.errors import FormatError
from perlsim.readers import FORMATS, guess_format
from perlsim.vocabulary import AgentType, LightState, MarkingType


@pytest.fixture
def read(tmp_path):
    def write_and_read(document):
        path = tmp_path / "scene.json"
        path.write_text(json.dumps(document))
        (done,) = FORMATS["gpudrive"].read(path)
        return done

    return write_and_read


def test_a_scene_is_read_whole(read, tmp_path):
    done = read(scene.gpudrive_document())
    np.testing.assert_allclose(done.tracks.position + done.origin, scene.paths(), atol=1e-3)
    assert done.tracks.kind.tolist() == [AgentType.VEHICLE, AgentType.VEHICLE, AgentType.PEDESTRIAN]
    assert done.ego.idx == 0 and done.tracks.ids == ("7", "8", "9")
    assert done.road.markings.kind.tolist() == [MarkingType.DOUBLE_SOLID]
    assert len(done.road.edges) == 2 and len(done.road.stop_signs.position) == 1
    assert done.lights.lane_idx.tolist() == [2] and (done.lights.state == LightState.RED).all()
    assert [row.tolist() for row in done.road.lanes.successors.rows()] == [[2], [], []]
    assert guess_format(tmp_path / "scene.json").name == "gpudrive"


@pytest.mark.parametrize("degrees", [False, True])
def test_the_unit_of_headings_is_found_from_the_motion(read, degrees):
    done = read(scene.gpudrive_document(degrees=degrees))
    np.testing.assert_allclose(done.tracks.heading[:, 0], [0.02, np.pi / 2, np.pi / 2], atol=1e-5)
    assert any("degrees" in line for line in done.repairs) == degrees


def test_headings_beyond_a_turn_are_degrees_even_at_rest(read):
    document = scene.gpudrive_document()
    document["objects"] = document["objects"][1:]
    document["metadata"] = {}
    document["objects"][0]["heading"] = [-270.0] * scene.STEPS
    document["objects"][1]["heading"] = [1.0] * scene.STEPS
    done = read(document)
    np.testing.assert_allclose(done.tracks.heading[:, 0], [np.pi / 2, np.radians(1.0)], atol=1e-5)


def test_where_nothing_moves_radians_are_assumed_and_noted(read):
    document = scene.gpudrive_document()
    document["objects"] = document["objects"][1:]
    assert any("unit of headings" in line for line in read(document).repairs)


@pytest.mark.parametrize("placeholder", [-10000.0, 0.0, 0.0001])
def test_placeholders_are_masked_whatever_the_flag_says(read, placeholder):
    document = scene.gpudrive_document()
    person = document["objects"][2]
    for step in range(4):
        person["position"][step] = {"x": placeholder, "y": placeholder, "z": placeholder}
    done = read(document)
    assert not done.tracks.valid[2, :4].any() and done.tracks.valid[2, 4:].all()
    assert any("placeholders" in line for line in done.repairs)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"sdc_track_index": 99}, {"sdc_track_index": -1}, {"sdc_track_index": True}]
)
def test_without_a_usable_index_there_is_no_ego(read, metadata):
    document = scene.gpudrive_document() | {"metadata": metadata}
    done = read(document)
    assert done.ego.idx == -1 and "ego" in done.missing


def test_old_files_without_heights_ids_and_codes_are_read(read):
    document = scene.gpudrive_document()
    document = {key: document[key] for key in ("name", "objects", "roads")} | {"tl_states": {}}
    for item in document["objects"]:
        del item["id"], item["height"]
        item["position"] = [{"x": p["x"], "y": p["y"]} for p in item["position"]]
    for road in document["roads"]:
        del road["id"], road["map_element_id"]
        road["geometry"] = [{"x": p["x"], "y": p["y"]} for p in road["geometry"]]
    done = read(document)
    assert done.scenario_id == "abc123" and (done.tracks.position[..., 2] == 0).all()
    assert done.road.markings.kind.tolist() == [MarkingType.UNKNOWN]
    assert len(done.road.lanes) == 3 and len(done.road.edges) == 2


@pytest.mark.parametrize("key", ["objects", "roads"])
def test_a_missing_part_is_named(read, key):
    document = scene.gpudrive_document()
    del document[key]
    with pytest.raises(FormatError, match=rf"\[{key}\]"):
        read(document)


def test_headings_of_real_files_follow_the_motion_of_all_vehicles(real_data):
    for path in sorted((real_data / "logs/gpudrive").glob("*.json"))[::3]:
        (done,) = FORMATS["gpudrive"].read(path)
        tracks = done.tracks
        moving = tracks.valid[:, 1:] & tracks.valid[:, :-1]
        step = np.diff(tracks.position[..., :2], axis=1)
        moving &= (np.linalg.norm(step, axis=-1) > 0.2) & (tracks.kind == AgentType.VEHICLE)[:, None]
        turn = np.arctan2(step[..., 1], step[..., 0]) - tracks.heading[:, :-1]
        assert np.median(np.abs((turn + np.pi) % (2 * np.pi) - np.pi)[moving]) < 0.11
