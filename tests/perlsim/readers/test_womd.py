import numpy as np
import pytest
import waymo_files as scene

from perlsim.errors import FormatError
from perlsim.geometry import polylines
from perlsim.readers import FORMATS, guess_format
from perlsim.readers.tfrecord import framed
from perlsim.readers.womd_schema import message_class
from perlsim.vocabulary import AgentType, LightState, MarkingType


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "training.tfrecord-00000-of-01000"
    file.write_bytes(scene.scenario_record())
    return file


def only(path, name="womd"):
    (found,) = FORMATS[name].read(path)
    return found


def test_tracks_become_ground_positions_in_the_scenario_frame(path):
    done = only(path)
    tracks = done.tracks
    world = tracks.position + done.origin
    np.testing.assert_allclose(world[:2], scene.paths()[:2], atol=1e-3)
    assert tracks.kind.tolist() == [AgentType.VEHICLE, AgentType.VEHICLE, AgentType.PEDESTRIAN]
    assert tracks.ids == ("7", "8", "9") and done.ego.idx == 0
    np.testing.assert_allclose(tracks.size, [scene.EGO_SIZE, scene.VAN_SIZE, scene.PERSON_SIZE], rtol=1e-6)
    assert tracks.valid[2].sum() == scene.STEPS - 5
    np.testing.assert_allclose(tracks.heading[0], 0.0, atol=1e-6)
    assert done.dt == pytest.approx(0.1) and done.scenario_id == "abc123"


def test_lanes_form_a_graph_with_speed_limits_and_widths(path):
    lanes = only(path).road.lanes
    assert lanes.ids == ("10", "11", "12")
    assert [row.tolist() for row in lanes.successors.rows()] == [[2], [], []]
    assert lanes.speed_limit[0] == pytest.approx(25 * 0.44704) and np.isnan(lanes.speed_limit[1:]).all()
    assert lanes.in_junction.tolist() == [False, False, True]
    np.testing.assert_allclose(lanes.width[: len(lanes.centre[0])], 4.0, atol=1e-3)


def test_neighbours_behind_a_solid_line_are_none(path):
    lanes = only(path).road.lanes
    assert [row.tolist() for row in lanes.right.rows()] == [[1], [], []]
    assert [row.tolist() for row in lanes.left.rows()] == [[], [], []]


def test_a_neighbour_that_runs_the_other_way_is_none(tmp_path):
    message = scene.scenario_message()
    for feature in message.map_features:
        if feature.id == 11:
            points = [(p.x, p.y, p.z) for p in feature.lane.polyline][::-1]
            del feature.lane.polyline[:]
            scene.add_points(feature.lane.polyline, points)
    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(message.SerializeToString()))
    assert not len(only(path).road.lanes.right.values)


def test_edges_have_the_road_on_their_left(path):
    done = only(path)
    for edge in done.road.edges.rows():
        assert (polylines.project(edge, done.tracks.position[0]).side > 0).all()
    assert done.road.markings.kind.tolist() == [MarkingType.BROKEN]
    assert len(done.road.crosswalks) == 1


def test_lights_are_unknown_where_they_were_not_seen(path):
    lights = only(path).lights
    assert lights.lane_idx.tolist() == [2]
    assert (lights.state[0, :3] == LightState.UNKNOWN).all()
    assert (lights.state[0, 3:20] == LightState.RED).all() and (
        lights.state[0, 20:] == LightState.GREEN
    ).all()
    np.testing.assert_allclose(lights.heading, 0.0, atol=1e-3)


def test_stop_signs_lie_on_their_lane(path):
    done = only(path)
    signs = done.road.stop_signs
    assert signs.lane_idx.tolist() == [0]
    np.testing.assert_allclose(signs.position[0] + done.origin, scene.CENTRES[10][-1], atol=1e-3)


def test_the_route_follows_the_lanes(path):
    route = only(path).route
    assert (
        set(route.lane_idx.tolist()) <= {0, 2, -1} and route.lane_idx[3] == 0 and (route.lane_idx == 2).any()
    )


def test_both_kinds_of_records_are_told_apart_whatever_the_file_is_called(path, tmp_path):
    other = tmp_path / "validation_tfexample.tfrecord-00001-of-00150"
    other.write_bytes(scene.example_record())
    assert guess_format(path).name == "womd" and guess_format(other).name == "womd_example"
    text = tmp_path / "x.tfrecord"
    text.write_text("no record at all")
    assert not FORMATS["womd"].sniff(text) and not FORMATS["womd_example"].sniff(text)


def test_several_records_are_several_scenarios(path):
    path.write_bytes(scene.scenario_record() * 3)
    assert len(list(FORMATS["womd"].read(path))) == 3


def test_a_flipped_bit_names_the_record_and_its_offset(path):
    record = scene.scenario_record()
    damaged = bytearray(record * 2)
    damaged[len(record) + 500] ^= 4
    path.write_bytes(bytes(damaged))
    with pytest.raises(FormatError, match=rf"record 1 at byte {len(record)}: the checksum of the data"):
        list(FORMATS["womd"].read(path))


def test_a_cut_file_names_the_record(path):
    path.write_bytes(scene.scenario_record()[:-100])
    with pytest.raises(FormatError, match="record 0 at byte 0"):
        list(FORMATS["womd"].read(path))


def test_well_framed_nonsense_is_refused(path):
    for content in (b"", b"\xff" * 50, message_class("Example")().SerializeToString()):
        path.write_bytes(framed(content))
        with pytest.raises(FormatError, match="record 0"):
            list(FORMATS["womd"].read(path))


def test_no_ego_is_a_gap_and_a_wrong_one_is_refused(path):
    message = scene.scenario_message()
    message.ClearField("sdc_track_index")
    path.write_bytes(framed(message.SerializeToString()))
    assert "ego" in only(path).missing
    message.sdc_track_index = 99
    path.write_bytes(framed(message.SerializeToString()))
    with pytest.raises(FormatError, match="ego"):
        only(path)


def test_a_tf_example_is_the_same_scene_without_a_graph_of_its_own(tmp_path):
    path = tmp_path / "x.tfrecord"
    path.write_bytes(scene.example_record())
    done = only(path, "womd_example")
    np.testing.assert_allclose(done.tracks.position + done.origin, scene.paths(), atol=2e-3)
    assert done.tracks.num_agents == 3 and done.ego.idx == 0 and done.dt == pytest.approx(0.1)
    assert done.road.lanes.ids == ("10", "11", "12")
    assert [row.tolist() for row in done.road.lanes.successors.rows()] == [[2], [], []]
    assert any("inferred" in line for line in done.repairs)
    assert done.lights.lane_idx.tolist() == [2] and (done.lights.state == LightState.RED).all()
    assert len(done.road.edges) == 2 and done.road.markings.kind.tolist() == [MarkingType.BROKEN]


def test_vehicles_of_real_waymo_logs_are_on_the_drivable_side(real_data):
    found = [
        *FORMATS["womd"].read(real_data / "logs/womd/motion_data_one_scenario.tfrecord"),
        *FORMATS["womd_example"].read(real_data / "logs/womd/motion_data_one_example.tfrecord"),
    ]
    for done in found:
        ego = done.tracks.position[done.ego.idx][done.tracks.valid[done.ego.idx]]
        assert done.tracks.num_steps == 91 and done.has_ego
        assert drivable(done, ego) == 1.0
        moving = done.tracks.valid & (np.linalg.norm(done.tracks.velocity, axis=-1) > 1.0)
        vehicles = moving & (done.tracks.kind == AgentType.VEHICLE)[:, None]
        assert drivable(done, done.tracks.position[vehicles][::5]) > 0.98


def drivable(done, points):
    """Share of points on the left of their nearest edge."""
    hits = [polylines.project(edge, points) for edge in done.road.edges.rows()]
    nearest = np.argmin([hit.distance for hit in hits], axis=0)
    return float(np.mean([hits[row].side[i] > 0 for i, row in enumerate(nearest)]))
