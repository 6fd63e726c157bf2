"""What building a bank does with scenarios of all kinds."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "sim"))
from made_scenes import light, line, mover, road_of, scene

from perlsim.bank import LINE_HALF_WIDTH, PATH_SPACING, VALID, VX, X, Y
from perlsim.bank_build import AGENT_BUCKETS, bucket_of, build_bank
from perlsim.errors import PerlsimError
from perlsim.vocabulary import LightState


def at_rate(dt, *movers_and_options, steps):
    """A scenario logged every ``dt``: a car that drives 10 m/s along x."""
    made = scene("rated", mover(speed=10.0 * dt / 0.1, steps=steps), *movers_and_options)
    velocity = np.zeros((1, steps, 2), np.float32)
    velocity[..., 0] = 10.0
    return made.replace(dt=dt, tracks=dataclasses.replace(made.tracks, velocity=velocity))


@pytest.mark.parametrize("dt", [0.05, 0.1, 0.2, 0.5, 1 / 30])
def test_logs_of_any_rate_become_steps_of_a_tenth_of_a_second(dt):
    steps = round(3.0 / dt) + 1
    bank = build_bank([at_rate(dt, steps=steps)]).bank
    assert bank.num_steps[0] == 31
    row = bank.tracks[0, :31, :, 0]
    np.testing.assert_allclose(row[:, X], np.arange(31), atol=1e-3)
    np.testing.assert_allclose(row[:, VX], 10.0, atol=1e-3)
    assert row[:, VALID].all()
    np.testing.assert_allclose(bank.log_speed[0], 10.0, atol=1e-3)
    np.testing.assert_allclose(bank.log_arc[0], np.arange(31), atol=0.02)


def test_headings_are_interpolated_the_short_way_round():
    car = mover(steps=2)
    car["heading"] = np.array([3.1, -3.1])
    bank = build_bank([scene("turn", car).replace(dt=0.2)]).bank
    # Half way from 3.1 to −3.1 lies π.
    assert bank.tracks[0, 1, 3, 0] == pytest.approx(-1.0, abs=1e-4)


def test_a_step_between_a_seen_and_an_unseen_one_is_unseen():
    made = at_rate(0.2, steps=4)
    valid = made.tracks.valid.copy()
    valid[0, 2] = False
    bank = build_bank([made.replace(tracks=dataclasses.replace(made.tracks, valid=valid))]).bank
    np.testing.assert_array_equal(bank.tracks[0, :, VALID, 0], [1, 1, 1, 0, 0, 0, 1])


def test_the_ego_comes_first_and_the_nearest_road_users_are_kept():
    others = [mover(y=100.0), mover(y=5.0), mover(y=50.0), mover(y=7.0)]
    made = scene("crowd", others[0], mover(), *others[1:])
    made = made.replace(ego=dataclasses.replace(made.ego, idx=1))
    host = build_bank([made], max_agents=3)
    np.testing.assert_allclose(host.bank.tracks[0, 0, Y], [0.0, 5.0, 7.0])
    assert host.info.dropped_agents == 2
    assert host.info.num_agents == 3
    assert build_bank([made]).info.dropped_agents == 0


def test_without_an_ego_its_slot_is_empty():
    made = scene("nobody", mover(), mover(y=5.0))
    host = build_bank([made.replace(ego=dataclasses.replace(made.ego, idx=-1))])
    assert not host.bank.has_ego[0]
    assert not host.bank.tracks[0, :, VALID, 0].any()
    assert host.bank.tracks[0, 0, VALID].sum() == 2


SMALLEST, SECOND, *_, LARGEST = AGENT_BUCKETS


@pytest.mark.parametrize(
    ("count", "bucket"), [(1, SMALLEST), (SMALLEST, SMALLEST), (SMALLEST + 1, SECOND), (LARGEST, LARGEST)]
)
def test_scenarios_go_to_the_smallest_bucket_that_holds_them(count, bucket):
    made = scene("many", mover(steps=2), *(mover(y=k, steps=2) for k in range(1, count)))
    assert bucket_of(made) == bucket
    assert bucket_of(made, 5) == 5


def test_more_road_users_than_the_largest_bucket_are_refused_unless_limited():
    made = scene("many", mover(steps=1), *(mover(y=k, steps=1) for k in range(AGENT_BUCKETS[-1])))
    with pytest.raises(PerlsimError, match="max-agents"):
        bucket_of(made)
    assert bucket_of(made, 32) == 32


def test_no_scenarios_make_no_bank():
    with pytest.raises(PerlsimError, match="no scenarios"):
        build_bank([])


def test_the_share_of_padding_counts_slots_without_a_road_user_and_steps_after_the_end():
    short = scene("short", mover(steps=11))
    long = scene("long", mover(), mover(y=5.0), mover(y=9.0))
    host = build_bank([short, long])
    assert host.info.pad_fraction == pytest.approx(1 - (11 + 3 * 31) / (2 * 31 * SMALLEST))


def test_a_standing_ego_has_a_straight_path_and_no_goal():
    bank = build_bank([scene("stands", mover(heading=0.5))]).bank
    steps = np.diff(bank.log_path[0], axis=0)
    np.testing.assert_allclose(
        steps[:50], PATH_SPACING * np.array([[np.cos(0.5), np.sin(0.5)]] * 50), atol=1e-4
    )
    assert np.isinf(bank.goal_arc[0])


def test_paths_are_spaced_evenly_and_go_on_beyond_the_log():
    bank = build_bank([scene("drives", mover(speed=10.0))]).bank
    steps = np.hypot(*np.diff(bank.log_path[0], axis=0).T)
    np.testing.assert_allclose(steps, PATH_SPACING, atol=1e-3)
    assert bank.log_path[0, -1, 0] > 30 + 50
    assert bank.goal_arc[0] == pytest.approx(30.0, abs=1e-3)


def test_stop_lines_are_as_wide_as_their_lane_and_padding_has_no_width():
    signal = scene("light", mover(), lights=light(LightState.RED))
    sign = scene("sign", mover(), road=road_of(signs=[(5.0, 0.0), (9.0, 0.0)]))
    bank = build_bank([signal, sign]).bank
    np.testing.assert_allclose(bank.stop_lines[:, LINE_HALF_WIDTH], [[1.75, 0.0], [1.75, 1.75]])
    assert (bank.light_state[0, :31, 0] == LightState.RED).all()
    assert (bank.light_state[1] == LightState.UNKNOWN).all()


def test_scenarios_without_road_or_with_a_single_step_are_legal():
    from perlsim.scenario import Road

    bare = scene("bare", mover(steps=1)).replace(road=Road())
    host = build_bank([bare, scene("full", mover(speed=5.0))])
    assert host.bank.num_steps.tolist() == [1, 31]
    assert host.bank.has_edges.tolist() == [False, True]
    for leaf in (host.bank.tracks, host.bank.route, host.bank.log_path, host.bank.lanes.segments):
        assert np.isfinite(leaf).all()


def test_cells_over_their_capacity_are_counted():
    crowded = road_of(markings=[(line(9 + 0.01 * k, -1, 9 + 0.01 * k, 1), 2) for k in range(80)])
    assert build_bank([scene("crowded", mover(), road=crowded)]).info.overflowing_cells > 0
    assert build_bank([scene("free", mover())]).info.overflowing_cells == 0
