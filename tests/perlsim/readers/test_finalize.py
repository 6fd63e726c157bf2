import numpy as np
import pytest

from perlsim.errors import FormatError
from perlsim.readers.finalize import finalize
from perlsim.scenario import (
    Ego,
    Lanes,
    Lights,
    Markings,
    Ragged,
    Road,
    Scenario,
    StopSigns,
    Tracks,
)
from perlsim.vocabulary import AgentType, LaneType, LightState, MarkingType

DT = 0.1


def tracks(agents=2, steps=20, speed=10.0, at=(0.0, 0.0, 0.0)):
    position = np.zeros((agents, steps, 3)) + np.asarray(at)
    position[..., 0] += speed * DT * np.arange(steps)
    position[..., 1] += 3.5 * np.arange(agents)[:, None]
    return Tracks(
        position=position,
        heading=np.zeros((agents, steps)),
        velocity=np.full((agents, steps, 2), np.nan),
        size=np.tile([4.5, 1.9, 1.5], (agents, 1)),
        kind=np.full(agents, AgentType.VEHICLE),
        valid=np.ones((agents, steps), bool),
        ids=tuple(f"car{i}" for i in range(agents)),
    )


def lane(y, start=-20.0, end=100.0):
    x = np.arange(start, end + 1, 2.0)
    return np.stack([x, np.full_like(x, y), np.zeros_like(x)], axis=1)


def lanes(rows, successors=None, at=(0.0, 0.0, 0.0), ids=None):
    centre = Ragged.from_rows([row + np.asarray(at) for row in rows], width=3)
    count = len(rows)
    empty = Ragged.from_rows([[]] * count, dtype=np.int32)
    return Lanes(
        centre=centre,
        width=np.full(len(centre.values), np.nan),
        kind=np.full(count, LaneType.DRIVING, np.int8),
        speed_limit=np.full(count, np.nan),
        in_junction=np.zeros(count, bool),
        successors=empty if successors is None else Ragged.from_rows(successors, dtype=np.int32),
        left=empty,
        right=empty,
        ids=tuple(map(str, range(count))) if ids is None else ids,
    )


def scene(**changes):
    base = {"scenario_id": "s", "source": "test", "dt": DT, "tracks": tracks(), "ego": Ego(0)}
    return Scenario(**{**base, **changes})


def with_tracks(**changes):
    base = tracks()
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    return scene(tracks=Tracks(**{**fields, **changes}))


def test_utm_coordinates_lose_less_than_a_millimetre():
    at = (691234.125, 5334567.875, 512.5)
    raw = scene(tracks=tracks(at=at), road=Road(lanes=lanes([lane(0)], at=at)))
    done = finalize(raw)
    assert done.tracks.position.dtype == np.float32
    np.testing.assert_allclose(done.tracks.position + done.origin, raw.tracks.position, atol=1e-4)
    np.testing.assert_allclose(
        done.road.lanes.centre.values + done.origin, raw.road.lanes.centre.values, atol=1e-4
    )
    np.testing.assert_allclose(done.tracks.position[0, 0], 0.0)


def test_missing_velocities_are_central_differences():
    done = finalize(scene())
    np.testing.assert_allclose(done.tracks.velocity[..., 0], 10.0, rtol=1e-4)
    assert "velocity" in done.missing


def test_steps_that_are_not_finite_are_masked_and_counted():
    position = tracks().position
    position[1, 3:6, 0] = np.nan
    done = finalize(with_tracks(position=position))
    assert not done.tracks.valid[1, 3:6].any() and done.tracks.valid[1].sum() == 17
    assert (done.tracks.position[1, 3:6] == 0).all()
    assert any(line.startswith("3 steps had positions that are not finite") for line in done.repairs)


@pytest.mark.parametrize("step", [0, 7, 19])
def test_a_single_impossible_jump_masks_that_step_alone(step):
    position = tracks().position
    position[1, step, 1] += 500.0
    done = finalize(with_tracks(position=position))
    assert done.tracks.valid[1].sum() == 19 and not done.tracks.valid[1, step]
    assert any("100 m/s" in line for line in done.repairs)


def test_headings_are_wrapped_and_gaps_filled_from_other_steps():
    heading = np.full((2, 20), 3 * np.pi + 0.25)
    heading[1, 4] = np.nan
    done = finalize(with_tracks(heading=heading))
    np.testing.assert_allclose(done.tracks.heading, 0.25 - np.pi, atol=1e-5)


def test_sizes_come_from_the_class_where_the_log_has_none():
    size = np.array([[4.5, 1.9, 1.5], [np.nan, 0.0, 1.5]])
    done = finalize(with_tracks(size=size, kind=np.array([AgentType.VEHICLE, AgentType.BUS])))
    np.testing.assert_allclose(done.tracks.size[1], [12.0, 2.6, 1.5])
    assert "box_sizes" not in done.missing
    assert "box_sizes" in finalize(with_tracks(size=np.full((2, 3), np.nan))).missing


def test_agents_that_are_never_valid_go_and_the_ego_is_renumbered():
    valid = np.ones((2, 20), bool)
    valid[0] = False
    base = with_tracks(valid=valid)
    done = finalize(base.replace(ego=Ego(1)))
    assert done.tracks.ids == ("car1",) and done.ego.idx == 0
    with pytest.raises(FormatError, match="no valid step"):
        finalize(base)


def test_the_chassis_is_filled_from_the_length():
    ego = finalize(scene()).ego
    assert ego.wheelbase == pytest.approx(0.6 * 4.5, rel=1e-6)
    assert ego.rear_axle_to_centre == pytest.approx(0.3 * 4.5, rel=1e-6)


def test_repeated_ids_get_a_suffix():
    done = finalize(with_tracks(ids=("a", "a")))
    assert done.tracks.ids == ("a", "a#2")
    assert any("id that was taken" in line for line in done.repairs)


def test_a_lane_without_length_goes_and_the_graph_is_renumbered():
    point = np.zeros((3, 3))
    road = Road(
        lanes=lanes([lane(0), point, lane(0, 100, 200)], successors=[[1, 2], [2], []]),
        stop_signs=StopSigns(np.array([[90.0, 0, 0]]), np.array([np.nan]), np.array([2], np.int32)),
    )
    lights = Lights(
        np.array([[98.0, 0, 0], [0, 0, 0]]),
        np.full(2, np.nan),
        np.array([2, 1], np.int32),
        np.full((2, 20), LightState.RED, np.int8),
    )
    done = finalize(scene(road=road, lights=lights))
    assert done.road.lanes.ids == ("0", "2")
    assert [row.tolist() for row in done.road.lanes.successors.rows()] == [[1], []]
    assert done.lights.lane_idx.tolist() == [1, -1]
    np.testing.assert_allclose(done.lights.heading, 0.0, atol=1e-6)
    assert done.road.stop_signs.lane_idx.tolist() == [1]
    assert any("lanes had no length" in line for line in done.repairs)


def test_repeated_and_broken_map_points_are_dropped():
    line = np.array([[0, 0, 0], [0, 0, 0], [np.nan, 0, 0], [5, 0, 0], [1e12, 0, 0], [9, 0, 0]], float)
    rows = Ragged.from_rows([line], width=3)
    done = finalize(scene(road=Road(markings=Markings(rows, np.array([MarkingType.SOLID])), edges=rows)))
    assert done.road.edges[0][:, 0].tolist() == [0, 5, 9]
    assert done.road.markings.line[0][:, 0].tolist() == [0, 5, 9]


def test_unknown_light_states_are_kept_as_unknown():
    lights = Lights(np.zeros((1, 3)), np.zeros(1), np.array([-1]), np.full((1, 20), 99))
    done = finalize(scene(lights=lights))
    assert (done.lights.state == LightState.UNKNOWN).all()
    assert any("light states were unknown" in line for line in done.repairs)


def test_lane_widths_are_filled_along_the_lane_or_by_default():
    network = lanes([lane(0), lane(4)])
    network.width[0], network.width[10] = 3.0, 4.0
    done = finalize(scene(road=Road(lanes=network)))
    width = done.road.lanes.width
    np.testing.assert_allclose(width[5], 3.5)
    np.testing.assert_allclose(width[len(lane(0)) :], 3.5)
    assert "lane_width" not in done.missing
    assert "lane_width" in finalize(scene(road=Road(lanes=lanes([lane(0)])))).missing


@pytest.mark.parametrize("dt", [0.0, -0.1, np.nan, 11.0])
def test_an_impossible_time_step_is_refused(dt):
    with pytest.raises(FormatError, match="dt"):
        finalize(scene(dt=dt))


def test_positions_on_other_planets_are_refused():
    position = tracks().position
    position[1] += 1e9
    with pytest.raises(FormatError, match="apart"):
        finalize(with_tracks(position=position))


def test_one_step_and_no_agents_are_legal():
    assert finalize(scene(tracks=tracks(steps=1))).duration == 0
    at = (5e5, 5e6, 0.0)
    empty = scene(tracks=tracks(agents=0), ego=Ego(-1), road=Road(lanes=lanes([lane(0)], at=at)))
    done = finalize(empty)
    assert "ego" in done.missing and np.abs(done.road.lanes.centre.values).max() < 100


def test_a_scene_with_nothing_in_it_is_refused():
    with pytest.raises(FormatError, match="nothing usable"):
        finalize(scene(tracks=tracks(agents=0), ego=Ego(-1)))


def test_finalizing_leaves_its_input_alone():
    raw = scene(road=Road(lanes=lanes([lane(0)])))
    before = raw.tracks.position.copy()
    finalize(raw)
    np.testing.assert_array_equal(raw.tracks.position, before)
    assert raw.tracks.velocity[0, 0, 0] != raw.tracks.velocity[0, 0, 0]
