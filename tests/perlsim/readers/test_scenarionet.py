import pickle

import numpy as np
import pytest
import waymo_files as scene

from perlsim.errors import FormatError
from perlsim.geometry import polylines
from perlsim.readers import FORMATS, guess_format
from perlsim.vocabulary import LightState, MarkingType


@pytest.fixture
def read(tmp_path):
    def write_and_read(document):
        path = tmp_path / "sd_abc123.pkl"
        path.write_bytes(pickle.dumps(document))
        (done,) = FORMATS["scenarionet"].read(path)
        return done

    return write_and_read


def nuscenes_document():
    document = scene.scenarionet_document()
    document["metadata"] |= {"dataset": "nuscenes", "map": "boston-seaport", "date": "2018-08-01"}
    del document["metadata"]["source_file"]
    state = document["tracks"]["7"]["state"]
    state["length"], state["width"] = state["width"], state["length"]
    features = document["map_features"]
    for name in ("20", "21", "30"):
        del features[name]
    for name in ("10", "11", "12"):
        centre = features[name]["polyline"]
        heading = np.zeros(len(centre))
        features[name] = {
            "type": "LANE_SURFACE_STREET",
            "polyline": [tuple(p) for p in np.column_stack([centre[:, :2], heading])],
            "speed_limit_kmh": 100,
        }
        if name != "12":
            border = np.concatenate([centre[:, :2] + [0, 2], centre[::-1, :2] - [0, 2]])
            features[name]["polygon"] = [list(p) for p in border]
    document["dynamic_map_states"] = {}
    return document


def test_a_waymo_scene_is_read_whole(read, tmp_path):
    done = read(scene.scenarionet_document())
    np.testing.assert_allclose(done.tracks.position + done.origin, scene.paths(), atol=2e-3)
    assert done.ego.idx == 0 and done.recording_id == "shard-0" and done.dataset == "waymo"
    assert [row.tolist() for row in done.road.lanes.successors.rows()] == [[2], [], []]
    assert done.road.lanes.speed_limit[0] == pytest.approx(25 * 0.44704)
    assert done.road.markings.kind.tolist() == [MarkingType.DOUBLE_SOLID]
    assert done.road.stop_signs.lane_idx.tolist() == [0]
    assert (done.lights.state[0, :3] == LightState.UNKNOWN).all()
    assert (done.lights.state[0, 3:] == LightState.RED).all()
    assert guess_format(tmp_path / "sd_abc123.pkl").name == "scenarionet"


def test_the_older_layout_of_sizes_and_lights_is_read(read):
    document = scene.scenarionet_document()
    for track in document["tracks"].values():
        state = track["state"]
        sides = [state.pop(name) for name in ("length", "width", "height")]
        state["size"] = np.stack(sides, axis=-1)
    steps = np.arange(scene.STEPS)
    seen = steps >= 3
    document["dynamic_map_states"]["12"] = {
        "type": "TRAFFIC_LIGHT",
        "state": {
            "object_state": np.where(seen, 6, 0),
            "lane": np.where(seen, 12, 0),
            "stop_point": np.where(seen[:, None], scene.STOP_POINT, 0.0),
        },
    }
    done = read(document)
    np.testing.assert_allclose(done.tracks.size[0], scene.EGO_SIZE, rtol=1e-6)
    assert (done.lights.state[0, 3:] == LightState.GREEN).all() and not done.lights.state[0, :3].any()
    np.testing.assert_allclose(done.lights.position[0] + done.origin, scene.STOP_POINT, atol=1e-3)


def test_nuscenes_egos_move_from_the_rear_axle_to_the_box_centre(read):
    done = read(nuscenes_document())
    ego = done.tracks.position[0] + done.origin
    np.testing.assert_allclose(ego[:, 0], scene.paths()[0, :, 0] + 1.39, atol=2e-3)
    np.testing.assert_allclose(ego[:, 1], scene.paths()[0, :, 1], atol=2e-3)
    assert (done.ego.wheelbase, done.ego.rear_axle_to_centre) == (2.588, 1.39)
    np.testing.assert_allclose(done.tracks.size[0], scene.EGO_SIZE, rtol=1e-6)
    assert any("rear axle" in line for line in done.repairs) and any(
        "swapped" in line for line in done.repairs
    )


def test_nuscenes_lanes_get_their_graph_and_edges_from_their_shapes(read):
    done = read(nuscenes_document())
    assert [row.tolist() for row in done.road.lanes.successors.rows()] == [[2], [], []]
    assert done.road.lanes.in_junction.tolist() == [False, False, True]
    assert np.isnan(done.road.lanes.speed_limit).all() and "speed_limits" in done.missing
    assert (done.road.lanes.centre.values[:, 2] == 0).all() and (done.tracks.position[..., 2] == 0).all()
    assert len(done.road.edges) == 1
    assert (polylines.project(done.road.edges[0], done.tracks.position[0]).side > 0).all()
    assert done.recording_id == "boston-seaport 2018-08-01" and done.place == "boston-seaport"


@pytest.mark.parametrize("reverse", [False, True])
def test_rings_of_the_drivable_area_are_oriented_by_their_nesting(read, reverse):
    document = nuscenes_document()
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) - 0.5
    here = scene.ORIGIN[:2] + np.array([20, 0])
    rings = {"boundary_0": here + 400 * square, "boundary_1": here + [0, 50] + 20 * square}
    for name, ring in rings.items():
        points = ring[::-1] if reverse else ring
        document["map_features"][name] = {"type": "ROAD_LINE_SOLID_SINGLE_WHITE", "polyline": points}
    done = read(document)
    ego, island = done.tracks.position[0], np.array([[here[0], here[1] + 50, 0.0]]) - done.origin
    outer, hole = done.road.edges.rows()
    assert (polylines.project(outer, ego).side > 0).all() and (polylines.project(hole, ego).side > 0).all()
    assert polylines.project(hole, island).side[0] < 0
    assert len(done.road.markings.kind) == 1


@pytest.mark.parametrize("key", ["tracks", "map_features", "metadata"])
def test_a_missing_part_is_refused(read, key):
    document = scene.scenarionet_document()
    del document[key]
    with pytest.raises(FormatError, match="keys are missing"):
        read(document)


def test_a_track_of_another_length_is_refused_by_field(read):
    document = scene.scenarionet_document()
    document["tracks"]["8"]["state"]["heading"] = np.zeros(5)
    with pytest.raises(FormatError, match=r"\[tracks\]"):
        read(document)


def test_a_scene_that_runs_code_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    path = tmp_path / "sd_hostile.pkl"
    path.write_bytes(pickle.dumps(scene.scenarionet_document() | {"version": Runs()}))
    assert guess_format(path).name == "scenarionet"
    with pytest.raises(FormatError, match="not plain data"):
        list(FORMATS["scenarionet"].read(path))
    assert not (tmp_path / "owned").exists()
