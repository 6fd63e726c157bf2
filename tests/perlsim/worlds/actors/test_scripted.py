"""Scripted road users by rule, on straight lines that the tests make."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ghost import drive, scenario_of

from perlsim.bank import STEP, VALID, Scene, X, Y
from perlsim.bank_build import build_bank
from perlsim.errors import PerlsimError
from perlsim.geometry import polylines
from perlsim.scenario import Lights
from perlsim.sim.core import SimConfig, init
from perlsim.sim.vehicle import Controls
from perlsim.vocabulary import AgentType, LightState
from perlsim.worlds.actors.script import (
    Actor,
    Disturbance,
    Meeting,
    Script,
    Stretch,
    Trigger,
    flow,
    join_scripts,
    standing,
)
from perlsim.worlds.actors.scripted import stack_scripts

CAR = (4.6, 1.9, 1.6)


def _straight(length=200.0, y=0.0, x=0.0):
    return np.column_stack(
        [np.arange(x, x + length + 1.0), np.full(int(length) + 1, y), np.zeros(int(length) + 1)]
    )


ROUTE = _straight()
LANE = _straight(y=3.5)


def _driver(**changes) -> Actor:
    fields = {"arc": 10.0, "trigger": Trigger(), "speeds": (8.0,) * 4, **changes}
    return Actor(AgentType.VEHICLE, CAR, fields.pop("path", LANE), **fields)


def test_who_stands_stays_and_who_is_absent_is_not_there():
    absent = _driver(present=False, trigger=Trigger(time=5.0))
    drove = drive(
        Script((standing(AgentType.STATIC, CAR, np.array([50.0, 9.0, 0.0, 1.0])), absent)), ROUTE, 5.0, 100
    )
    np.testing.assert_allclose(drove.rows[:, :2, 1], [[50.0, 9.0]] * 100, atol=1e-4)
    there = np.flatnonzero(drove.rows[:, VALID, 2])
    assert there[0] * STEP == pytest.approx(5.0, abs=0.2) and there[-1] == 99


def test_a_trigger_is_a_place_a_distance_or_a_time_to_arrival_before_it():
    triggers = Trigger(60.0), Trigger(60.0, distance=20.0), Trigger(60.0, distance=20.0, lead=3.0)
    cars = tuple(
        _driver(trigger=t, speeds=(0.0, 5.0, 5.0, 5.0), path=_straight(y=4.0 * k + 4))
        for k, t in enumerate(triggers)
    )
    drove = drive(Script(cars), ROUTE, 10.0, 100)
    begins = [drove.arc[np.flatnonzero(drove.speed[:, 1 + k] > 0)[0]] for k in range(3)]
    np.testing.assert_allclose(begins, [60.0, 40.0, 30.0], atol=2.1)


def test_speeds_change_at_their_times_within_the_limits():
    car = _driver(speeds=(4.0, 8.0, 0.0, 6.0), trigger=Trigger(time=2.0), until=(5.0, 10.0))
    speed = drive(Script((car,)), ROUTE, 1.0, 200).speed[:, 1]
    assert speed[15] == pytest.approx(4.0, abs=0.1) and speed[68] == pytest.approx(8.0, abs=0.3)
    assert speed[100] == 0.0 and speed[175] > 5.0
    change = np.diff(speed) / STEP
    assert change.max() <= 2.0 + 1e-3 and change.min() == pytest.approx(-8.0, abs=0.1)


def test_a_stop_is_met():
    drove = drive(Script((_driver(stop=60.0),)), ROUTE, 1.0, 300)
    assert drove.rows[-1, X, 1] == pytest.approx(60.0, abs=0.5) and drove.speed[-1, 1] < 0.05


def test_a_car_follows_a_slow_ego_and_stops_behind_one_that_stands():
    speed = np.where(np.arange(400) < 150, 3.0, 0.0)
    far = _straight(x=40.0)
    car = _driver(path=ROUTE, arc=0.0, speeds=(12.0,) * 4)
    drove = drive(Script((car,)), far, speed, 400)
    assert not len(drove.touches_ego) and drove.speed[-1, 1] < 0.1
    assert 0.5 < drove.gaps(0)[-1, 1] < 4.0
    # The same car, heedless, runs into it.
    assert drive(Script((replace(car, heeds=False),)), far, speed, 400).touches_ego.tolist() == [0]


def test_a_flow_keeps_coming_with_its_gaps_and_never_collides():
    script = Script(tuple(flow(LANE, 9.0, (20.0, 30.0), np.random.default_rng(0))))
    drove = drive(script, ROUTE, 2.0, 600)
    assert drove.touch_each_other == [] and not len(drove.touches_ego)
    there = drove.rows[:, VALID, 1:] > 0
    assert there.sum(1).min() >= 4
    # Everyone comes again.
    entries = (np.diff(there.astype(int), axis=0) == 1).sum(0)
    assert entries.sum() > 12
    x = np.where(there, drove.rows[:, X, 1:], np.nan)
    spaces = np.diff(np.sort(x, axis=1), axis=1)
    assert np.nanmin(spaces) > 15.0
    np.testing.assert_allclose(drove.rows[:, Y, 1:][there], 3.5, atol=1e-3)


def test_a_flow_queues_behind_an_ego_on_its_lane_and_nobody_enters_into_the_queue():
    script = Script(tuple(flow(LANE, 9.0, (20.0, 30.0), np.random.default_rng(0), clear=[LANE[60]])))
    drove = drive(script, _straight(x=60.0, y=3.5), 0.0, 500)
    assert drove.touch_each_other == [] and not len(drove.touches_ego)
    assert drove.speed[-1].max() < 0.2


def test_who_obeys_lights_waits_at_red():
    def lights(state):
        return Lights(LANE[60:61], np.zeros(1), np.full(1, -1, np.int32), np.full((1, 1), state, np.int8))

    car = _driver(obeys=True)
    red = drive(Script((car,)), ROUTE, 1.0, 200, lights=lights(LightState.RED))
    assert 53.0 < red.rows[-1, X, 1] + CAR[0] / 2 < 60.0
    assert drive(Script((car,)), ROUTE, 1.0, 200, lights=lights(LightState.GREEN)).rows[-1, X, 1] > 100.0
    careless = replace(car, obeys=False)
    assert drive(Script((careless,)), ROUTE, 1.0, 200, lights=lights(LightState.RED)).rows[-1, X, 1] > 100.0


def test_the_origin_of_the_scenario_does_not_matter():
    script = Script((_driver(), *flow(_straight(y=-4.0), 7.0, (20.0, 40.0), np.random.default_rng(1))))
    used = slice(1, 1 + len(script))
    origin = np.array([55.0, -20.0, 3.0])
    here, there = drive(script, ROUTE, 5.0, 100), drive(script, ROUTE, 5.0, 100, origin=origin)
    np.testing.assert_allclose(there.rows[:, :3, used] + origin[:, None], here.rows[:, :3, used], atol=1e-2)


def test_paths_are_kept_to_and_speeds_are_those_of_the_motion():
    turn = np.linspace(0, np.pi / 2, 40)
    bend = np.column_stack([30 + 15 * np.sin(turn), 15 - 15 * np.cos(turn), np.zeros(40)])
    path = np.concatenate([_straight(28.0), bend])
    drove = drive(Script((_driver(path=path, arc=2.0),)), _straight(y=-9.0), 1.0, 100)
    at = drove.rows[:, :2, 1][drove.rows[:, VALID, 1] > 0]
    assert polylines.project(path, at).distance.max() < 0.05
    moved = np.hypot(*np.diff(at, axis=0).T) / STEP
    np.testing.assert_allclose(moved, drove.speed[1 : len(at), 1], atol=0.6)
    assert drove.speed[48:, 1].max() <= np.sqrt(3.0 * 15.0) + 0.6


def test_joined_scripts_keep_their_flows_apart():
    members = Script(tuple(flow(LANE, 9.0, (20.0, 30.0), np.random.default_rng(0))))
    joined = join_scripts([members, Script((_driver(),)), members])
    assert sorted({actor.flow for actor in joined.actors}) == [-1, 0, 1]
    assert len(joined) == 2 * len(members) + 1


def test_too_few_slots_are_an_error_that_says_so():
    script = Script((_driver(),) * 3)
    with pytest.raises(PerlsimError, match="3 actors in a bank of 3 slots"):
        stack_scripts([script], [scenario_of(script, ROUTE)], 3)


def test_whoever_has_a_meeting_is_there_when_the_ego_is_and_does_not_wait_for_one_that_stands():
    car = _driver(arc=0.0, speeds=(12.0,) * 4, acceleration=6.0, meeting=Meeting(100.0, 80.0))
    for pace in (7.0, 9.0):
        drove = drive(Script((car,)), ROUTE, pace, 200)
        there = np.flatnonzero(drove.arc >= 80.0)[0]
        assert drove.rows[there, X, 1] == pytest.approx(100.0, abs=2.0)
    standing_ego = drive(Script((car,)), ROUTE, 0.0, 300)
    assert standing_ego.rows[-1, X, 1] > 75.0


def test_a_disturbance_puts_the_controls_off_on_its_stretch_only():
    script = Script(disturbances=(Disturbance(20.0, 30.0, 0.2, -0.1),))
    scenario = scenario_of(script, ROUTE)
    bank = jax.device_put(build_bank([scenario], observed_pieces=None).bank)
    agents = jax.device_put(stack_scripts([script], [scenario], bank.num_agents))
    scene = Scene(bank, jnp.int32(0))
    state = init(SimConfig(), agents, scene, 0, jax.random.key(0))
    controls = Controls(jnp.float32(0.1), jnp.float32(0.05), jnp.float32(0.0))
    for arc, wanted in ((10.0, (0.1, 0.05)), (25.0, (0.3, 0.0)), (31.0, (0.1, 0.05))):
        found = agents.disturbed(scene, replace(state, route_arc=jnp.float32(arc)), controls)
        np.testing.assert_allclose((found.steer, found.throttle), wanted, atol=1e-6)


def test_one_of_a_timed_flow_is_where_it_is_to_be():
    for seed, time in ((0, 3.0), (1, 8.0), (2, 12.0)):
        members = flow(LANE, 9.0, (20.0, 45.0), np.random.default_rng(seed), meets=(120.0, time))
        drove = drive(Script(tuple(members)), _straight(y=-9.0), 0.0, 200)
        step = round(time / STEP)
        there = drove.rows[step, VALID] > 0
        assert np.abs(drove.rows[step, X, there] - 120.0).min() < 3.0


def _crossing(x=60.0, length=120.0):
    across = np.arange(-60.0, length - 59.0)
    return np.column_stack([np.full(len(across), x), across, np.zeros(len(across))])


def test_who_yields_at_a_junction_lets_others_cross_first_and_then_goes():
    waits = _driver(path=_straight(y=0.0, x=0.0), arc=20.0, yields=(Stretch(50.0, 70.0),))
    others = [_driver(path=_crossing(), arc=arc) for arc in (20.0, 35.0)]
    drove = drive(Script((waits, *others)), _straight(y=-90.0), 0.0, 300)
    assert drove.touch_each_other == []
    # It stands before the junction, and is through in the end.
    assert drove.speed[:100, 1].min() < 1.0 and drove.rows[drove.speed[:100, 1].argmin(), X, 1] < 50.0
    assert drove.rows[-1, X, 1] > 90.0
    # The same driver alone does not wait.
    alone = drive(Script((waits,)), _straight(y=-90.0), 0.0, 60)
    assert alone.speed[5:, 1].min() > 6.0


def test_of_two_that_yield_to_each_other_one_goes_first():
    one = _driver(path=_straight(y=0.0), arc=20.0, yields=(Stretch(50.0, 70.0),))
    two = _driver(path=_crossing(), arc=20.0, yields=(Stretch(50.0, 70.0),))
    drove = drive(Script((one, two)), _straight(y=-90.0), 0.0, 300)
    assert drove.touch_each_other == []
    assert drove.rows[-1, X, 1] > 90.0 and drove.rows[-1, Y, 2] > 30.0


def test_who_yields_lets_the_ego_pass():
    car = _driver(path=_crossing(), arc=20.0, yields=(Stretch(50.0, 70.0),))
    drove = drive(Script((car,)), ROUTE, 12.0, 150)
    assert not len(drove.touches_ego) and drove.rows[-1, Y, 1] > 15.0


def test_all_of_a_flow_come_round_in_turn_those_with_great_gaps_too():
    members = flow(LANE, 10.0, (25.0, 60.0), np.random.default_rng(3))
    assert max(member.gap for member in members) == pytest.approx(60.0 - CAR[0])
    drove = drive(Script(tuple(members)), _straight(y=-40.0), 0.0, 900)
    there = drove.rows[:, VALID, 1 : 1 + len(members)] > 0
    entries = (np.diff(there.astype(int), axis=0) == 1).sum(0)
    assert entries.min() >= 2 and entries.max() - entries.min() <= 1


def test_who_keeps_room_stops_far_from_who_stands_in_its_way_and_follows_others_closely():
    car = _driver(path=ROUTE, arc=0.0, speeds=(12.0,) * 4, room=25.0)
    drove = drive(Script((car,)), _straight(x=100.0), 0.0, 300)
    assert 15.0 < drove.gaps(0)[-1, 1] < 30.0
    slow = drive(Script((car,)), _straight(x=40.0), 6.0, 200)
    assert slow.gaps(0)[-1, 1] < 15.0
