import dataclasses

import jax
import jax.numpy as jnp
import made_scenes as made
import numpy as np
import pytest
from idm_scenes import LONG, bank_of, num_traces, present, run, speeds
from made_scenes import lanes_of, light, line, mover, road_of, scene

from perlsim.bank import AGENT_PATH_SPACING, COS, PATH_LIMIT, SIN, STEP, VALID, Scene, X, Y, Z
from perlsim.bank_build import build_bank
from perlsim.errors import PerlsimError
from perlsim.policies import policy_of
from perlsim.scenario import Ragged
from perlsim.sim.core import SimConfig, init
from perlsim.sim.idm import IdmAgents
from perlsim.sim.reward import reward_of
from perlsim.sim.rollout import Rollout, RolloutConfig, sample_episodes
from perlsim.vocabulary import AgentType, LightState

CAR_LENGTH = made.CAR[0]


def car(x=0.0, y=0.0, heading=0.0, speed=0.0, **options):
    return mover(x, y, heading, speed, steps=LONG, **options)


def gap(rows, follower, leader):
    """Bumper to bumper along x [m], cars of one length."""
    return rows[:, X, leader] - rows[:, X, follower] - CAR_LENGTH


def with_limit(scenario, limit):
    lanes = scenario.road.lanes
    limited = dataclasses.replace(lanes, speed_limit=np.full(len(lanes), limit, np.float32))
    return scenario.replace(road=dataclasses.replace(scenario.road, lanes=limited))


def far_ego():
    """An ego that meets nobody."""
    return car(0.0, 60.0)


def test_who_drives_freely_gains_speed_as_the_idm_says():
    # From 2 m/s towards the 10 m/s reached in the log at its end.
    slow_then_fast = car(0, 0, 0, 2.0)
    slow_then_fast["velocity"][-1] = 10.0, 0.0
    rows, _ = run(scene("free", far_ego(), slow_then_fast), steps=60)
    speed, expected = 2.0, []
    for _ in range(60):
        speed += 1.5 * (1 - (speed / 10.0) ** 4) * STEP
        expected.append(speed)
    np.testing.assert_allclose(speeds(rows)[:, 1], expected, rtol=1e-4)


def test_a_follower_keeps_the_gap_of_the_closed_form():
    leader, follower = car(0, 0, 0, 8.0), car(-21, 0, 0, 8.0)
    follower["velocity"][-1] = 12.0, 0.0
    rows, _ = run(scene("steady", far_ego(), leader, follower), steps=150)
    gaps = gap(rows, 2, 1)
    expected = (2.0 + 8.0 * 1.5) / np.sqrt(1 - (8.0 / 12.0) ** 4)
    np.testing.assert_allclose(speeds(rows)[-1, 1:3], 8.0, atol=0.02)
    assert gaps[-1] == pytest.approx(expected, abs=0.1)
    assert abs(gaps[0] - expected) > 0.5


def test_a_follower_stops_behind_a_standing_ego_without_contact():
    rows, hit = run(scene("stands", car(0, 0), car(-50, 0, 0, 12.0)), steps=150)
    behind = gap(rows, 1, 0)
    assert behind.min() > 1.5
    assert behind[-1] == pytest.approx(2.0, abs=0.3)
    assert speeds(rows)[-1, 1] < 0.05
    assert not hit.any()


def test_an_ego_that_brakes_hard_is_not_hit_and_braking_stays_within_its_limit():
    both = scene("brakes", car(0, 0, 0, 12.0), car(-20, 0, 0, 12.0))
    rows, hit = run(both, steps=100)
    change = np.diff(speeds(rows)[:, 1]) / STEP
    assert gap(rows, 1, 0).min() > 0
    assert change.min() < -2.0
    assert change.min() >= -8.0 - 1e-3
    assert change.max() <= 1.5 + 1e-3
    assert not hit.any()


def test_a_cut_in_that_leaves_no_room_still_ends_in_a_collision():
    rows, hit = run(scene("cut in", car(0, 0), car(-8, 0, 0, 15.0)), steps=30)
    assert hit[:, 1].any()
    assert np.diff(speeds(rows)[:, 1]).min() / STEP >= -8.0 - 1e-3


def test_nobody_reverses():
    rows, _ = run(scene("close", car(0, 0), car(-5.2, 0, 0, 3.0)), steps=60)
    assert (np.diff(rows[:, X, 1]) >= -1e-5).all()


def red_then_green(first, green_from=80):
    lights = light(first, x=40.0, steps=LONG)
    lights.state[0, green_from:] = int(LightState.GREEN)
    return lights


def test_a_road_user_stops_at_red_and_leaves_on_green():
    lights = red_then_green(LightState.RED)
    rows, _ = run(scene("red", far_ego(), car(0, 0, 0, 10.0), lights=lights), steps=140)
    front = rows[:, X, 1] + CAR_LENGTH / 2
    assert front[:80].max() < 40.0
    assert front[78] > 34.0
    assert speeds(rows)[78, 1] < 0.6
    assert front[-1] > 50.0


def test_a_road_user_stops_at_yellow_only_where_it_can_comfortably():
    lights = light(LightState.YELLOW, x=40.0, steps=LONG)
    far, _ = run(scene("far", far_ego(), car(0, 0, 0, 10.0), lights=lights), steps=100)
    near, _ = run(scene("near", far_ego(), car(22, 0, 0, 10.0), lights=lights), steps=100)
    assert far[-1, X, 1] < 40.0
    assert near[-1, X, 1] > 60.0


def test_a_light_behind_or_of_a_lane_that_turns_off_is_not_heeded():
    past, _ = run(
        scene("past", far_ego(), car(45, 0, 0, 10.0), lights=light(LightState.RED, x=40.0, steps=LONG)),
        steps=40,
    )
    assert past[-1, X, 1] > 80.0
    lanes = lanes_of(line(-40, 0, 160, 0), np.array([[40.0, 0, 0], [45, 2, 0], [48, 10, 0], [48, 30, 0]]))
    lights = light(LightState.RED, x=40.0, steps=LONG)
    lights.lane_idx[0] = 1
    turns, _ = run(
        scene("turns", far_ego(), car(0, 0, 0, 10.0), road=road_of(lanes), lights=lights), steps=80
    )
    assert turns[-1, X, 1] > 70.0


def test_nobody_reacts_to_another_lane_or_to_who_is_behind():
    alone, _ = run(scene("alone", far_ego(), car(0, 0, 0, 10.0)), steps=60)
    beside, _ = run(scene("beside", car(20, 3.2), car(0, 0, 0, 10.0)), steps=60)
    behind, _ = run(scene("behind", car(-8, 0), car(0, 0, 0, 10.0)), steps=60)
    np.testing.assert_allclose(beside[:, X, 1], alone[:, X, 1], atol=1e-4)
    np.testing.assert_allclose(behind[:, X, 1], alone[:, X, 1], atol=1e-4)


def test_who_passes_under_a_bridge_does_not_brake_for_what_stands_on_it():
    rows, _ = run(scene("bridge", car(40, 0, np.pi / 2, z=6.0), car(0, 0, 0, 10.0)), steps=80)
    assert rows[-1, X, 1] > 75.0


def curve(radius=20.0, speed=6.0):
    """A car that drives a left curve from the origin; the path leaves the x axis."""
    turned = np.arange(LONG) * 0.1 * speed / radius
    one = car(0, 0, 0, speed)
    one["position"] = np.column_stack([radius * np.sin(turned), radius * (1 - np.cos(turned)), 0 * turned])
    one["heading"] = (turned + np.pi) % (2 * np.pi) - np.pi
    one["velocity"] = speed * np.column_stack([np.cos(turned), np.sin(turned)])
    return one


def test_whom_nobody_disturbs_stays_on_its_logged_path_in_a_curve():
    rows, _ = run(scene("curve", car(-60, 0), curve(), road=road_of(lanes_of(line(-90, 0, 0, 0)))), steps=60)
    assert (np.abs(np.hypot(rows[:, X, 1], rows[:, Y, 1] - 20.0) - 20.0) < 0.05).all()
    radial = np.arctan2(rows[:, Y, 1] - 20.0, rows[:, X, 1])
    tangent = np.arctan2(rows[:, SIN, 1], rows[:, COS, 1])
    assert (np.abs(np.angle(np.exp(1j * (tangent - radial - np.pi / 2)))) < 0.1).all()


def test_a_leader_in_a_curve_is_seen_along_the_path():
    standing = car(20.0, 20.0, np.pi / 2)
    rows, hit = run(scene("round the bend", standing, curve(), road=road_of(lanes_of(line(-90, 0, 0, 0)))))
    assert speeds(rows)[-1, 1] < 0.2
    assert rows[-1, Y, 1] < 20.0 - CAR_LENGTH
    assert not hit.any()


def test_pedestrians_statics_and_who_never_moves_repeat_the_log():
    parked = car(30, 4)
    walker = car(10, 8, 0, 1.5, kind=AgentType.PEDESTRIAN, size=(0.6, 0.6, 1.7))
    cone = car(20, -5, kind=AgentType.STATIC)
    bank = bank_of(scene("still", car(0, 0), parked, walker, cone))
    rows, _ = run(bank, steps=60)
    assert not bank.bank.agent_reacts.any()
    np.testing.assert_array_equal(rows[:, :, 1:], bank.bank.tracks[0, 1:61, :, 1:])


def test_who_is_absent_in_the_log_is_absent_and_enters_as_the_log_lets_it():
    one = scene("late", car(-60, 60), car(0, 0, 0, 10.0), car(-80, 3.5, 0, 5.0))
    valid = np.ones((3, LONG), bool)
    valid[1, :20] = valid[1, 50:60] = False
    one = one.replace(tracks=dataclasses.replace(one.tracks, valid=valid))
    bank = bank_of(one)
    late = int(np.flatnonzero(bank.bank.tracks[0, 0, VALID, :3] == 0)[0])
    rows, _ = run(bank, steps=80)
    np.testing.assert_array_equal(present(rows)[:, late], valid[1, 1:81])
    assert rows[19, X, late] == pytest.approx(20.0, abs=1e-3)
    assert (np.abs(np.diff(rows[20:49, X, late]) - 1.0) < 0.01).all()


def test_a_speed_limit_bounds_the_desired_speed():
    one = scene("limit", far_ego(), car(0, 0, 0, 10.0))
    assert bank_of(one).bank.agent_paths[0, 1, 10, PATH_LIMIT] == pytest.approx(10.0)
    assert bank_of(with_limit(one, 6.0)).bank.agent_paths[0, 1, 10, PATH_LIMIT] == pytest.approx(6.0)


def test_who_only_creeps_in_the_log_wants_to_drive_on():
    assert bank_of(scene("creeps", far_ego(), car(0, 0, 0, 1.0))).bank.agent_paths[
        0, 1, 3, PATH_LIMIT
    ] == pytest.approx(5.0)


def test_paths_lead_on_along_the_lanes_after_the_last_pose():
    lanes = lanes_of(
        line(-40, 0, 160, 0), np.array([[160.0, 0, 0], [170, 3, 0], [180, 10, 0], [180, 120, 0]])
    )
    lanes = dataclasses.replace(lanes, successors=Ragged.from_rows([[1], []], dtype=np.int32))
    bank = bank_of(scene("led on", far_ego(), car(0, 0, 0, 10.0), road=road_of(lanes)))
    points = bank.bank.agent_paths[0, 1]
    reached = np.hypot(points[:, 0] - 180.0, points[:, 1] - 40.0).min()
    assert reached < 1.5
    assert (len(points) - 1) * AGENT_PATH_SPACING >= 150.0 + 60.0
    assert np.abs(np.diff(points[:, 2])).max() < 0.6


def crowd():
    return [car(-12.0 - 9 * k, 0, 0, 9.0) for k in range(4)] + [
        car(30.0 - 14 * k, 3.5, 0, 7.0) for k in range(4)
    ]


def test_padding_of_slots_paths_and_steps_changes_nothing():
    one = scene("crowd", car(0, 0, 0, 9.0), *crowd())
    longer = scene("longer", *[mover(0, 20 * k, 0, 20.0, steps=251) for k in range(20)])
    alone, _ = run(bank_of(one), steps=60)
    padded, _ = run(bank_of(one, longer), steps=60)
    np.testing.assert_allclose(padded[..., : alone.shape[2]][:, :, :9], alone[:, :, :9], atol=1e-4)


def test_the_order_of_road_users_does_not_matter():
    movers = crowd()
    first, _ = run(scene("crowd", car(0, 0, 0, 9.0), *movers), steps=60)
    second, _ = run(scene("crowd", car(0, 0, 0, 9.0), *movers[::-1]), steps=60)

    def places(rows):
        return rows[-1, :2, : len(movers) + 1].T[np.lexsort(rows[-1, :2, : len(movers) + 1])]

    np.testing.assert_allclose(places(first), places(second), atol=1e-4)


def test_only_the_nearest_ahead_are_looked_at():
    # Cars on the next lane are nearer than the leader: with room for one neighbour the leader is not seen.
    bank = bank_of(scene("dense", car(20, 0), car(0, 0, 0, 8.0), car(8, 3.5)))
    follower = int(np.flatnonzero(bank.bank.agent_reacts[0])[0])
    few, _ = run(bank, steps=8, agents=IdmAgents(num_neighbours=1))
    enough, _ = run(bank, steps=8, agents=IdmAgents(num_neighbours=2))
    assert speeds(few)[-1, follower] == pytest.approx(8.0, abs=1e-3)
    assert speeds(enough)[-1, follower] < 6.0


def test_runs_repeat_exactly():
    bank = bank_of(scene("crowd", car(0, 0, 0, 9.0), *crowd()))
    np.testing.assert_array_equal(run(bank, steps=40)[0], run(bank, steps=40)[0])


def test_gradients_by_the_parameters_are_finite_and_not_all_zero():
    bank = jax.device_put(bank_of(scene("grad", car(0, 0), car(-30, 0, 0, 9.0), car(-60, 0), car(5, 8))).bank)
    here = Scene(bank, jnp.int32(0))

    def end(agents):
        memory = agents.init(here, jnp.int32(0), jax.random.key(0))
        state = init(SimConfig(), agents, here, jnp.int32(0), jax.random.key(0))

        def one(carry, number):
            memory, rows = carry
            now = dataclasses.replace(state, step=number, agents=rows)
            return agents.act(memory, here, now, None, jax.random.key(0)), None

        (_, rows), _ = jax.lax.scan(one, (memory, state.agents), jnp.arange(8))
        return rows[X].sum()

    slopes = jax.jit(jax.grad(end))(jax.tree.map(jnp.float32, IdmAgents()))
    leaves = jax.tree.leaves(slopes)
    assert all(np.isfinite(leaf) for leaf in leaves)
    assert slopes.time_headway < 0


def test_the_height_is_that_of_the_path():
    climbing = car(0, 0, 0, 10.0)
    climbing["position"][:, 2] = 0.05 * climbing["position"][:, 0]
    rows, _ = run(scene("ramp", far_ego(), climbing), steps=60)
    np.testing.assert_allclose(rows[:, Z, 1], 0.05 * rows[:, X, 1], atol=0.01)


def test_a_bank_without_paths_is_refused_before_anything_is_compiled():
    host = build_bank([scene("none", car(0, 0, 0, 5.0), car(-20, 0, 0, 5.0))], observed_pieces=None)
    rollout = Rollout(RolloutConfig(horizon=10), IdmAgents(), policy_of("log_replay"), jax.devices()[:1])
    with pytest.raises(PerlsimError, match="lane paths"):
        rollout(rollout.put(host.bank), sample_episodes(host, 2, 10, 0), reward_of("perlad"))
    assert rollout.num_traces == 0


def test_the_model_is_a_pytree_whose_numbers_can_be_swept_without_a_new_trace():
    bank = bank_of(scene("sweep", car(0, 0), car(-50, 0, 0, 12.0)))
    before = num_traces()
    ends = [
        run(bank, steps=33, agents=IdmAgents(minimum_gap=jnp.float32(s)))[0][-1, X, 1] for s in (2.0, 6.0)
    ]
    assert num_traces() == before + 1
    assert ends[0] > ends[1]
