"""The expert in closed loop, in scenes made by hand: one lane of its own, one of the opposite direction."""

import functools
from dataclasses import replace

import numpy as np
import policy_scenes as made
from made_scenes import lanes_of, line, road_of, scene

from perlsim.bank_build import build_bank
from perlsim.policies import policy_of
from perlsim.vocabulary import AgentType

HALF = made.CAR[0] / 2


def two_ways():
    return road_of(lanes_of(line(-40, 0, 160, 0), line(160, 3.5, -40, 3.5)))


def two_lanes():
    lanes = lanes_of(line(-40, 0, 160, 0), line(-40, -3.5, 160, -3.5))
    return road_of(replace(lanes, speed_limit=np.full(2, 12.0, np.float32)))


@functools.cache
def runs():
    car, pi = made.car, np.pi
    fast = functools.partial(car, speed=8.0)
    parked = car(50, -1.2)
    scenes = {
        "free": scene("free", fast(), road=two_ways()),
        "parked": scene("parked", fast(), parked, road=two_ways()),
        "oncoming": scene("oncoming", fast(), car(50, -0.3), car(95, 3.5, pi, 8.0), road=two_ways()),
        "cut in": scene("cut in", fast(), car(12, 3.5, 0, drift=(5.0, -0.9)), road=two_ways()),
        "crossing": scene("crossing", fast(), made.walker(35, -6.0, 1.5), road=two_ways()),
        "waiting walker": scene(
            "waiting walker",
            fast(),
            car(60, -4.0, kind=AgentType.PEDESTRIAN, size=(0.6, 0.6, 1.7)),
            road=two_ways(),
        ),
        "straying": scene("straying", fast(), car(90, 2.2, pi, 8.0, size=(7.0, 2.6, 3.0)), road=two_ways()),
        "light": scene("light", fast(), lights=made.red_then_green(), road=two_ways()),
        "leader": scene("leader", fast(), car(30, 0, 0, 4.0), road=two_ways()),
        "sign": scene("sign", fast(), road=road_of(signs=[(made.LINE, 0.0)])),
        "hurried": scene("hurried", fast(), car(-80, 0, 0, 19.0), road=two_lanes()),
        "followed": scene("followed", fast(), car(-20, 0, 0, 8.5), road=two_lanes()),
    }
    host = build_bank(list(scenes.values()), observed_pieces=None)
    return made.driven(policy_of("expert"), host, list(scenes))


def test_it_goes_on_along_a_free_road_in_its_lane():
    run = runs()["free"]
    assert run.x[-1] > 80.0
    assert np.abs(run.y).max() < 0.3


def test_it_passes_a_parked_car_and_comes_back():
    run = runs()["parked"]
    assert run.gap.min() > 0.1
    assert 0.5 < run.y.max() < 3.0
    assert run.x[-1] > 70.0
    assert abs(run.y[-1]) < 0.5


def test_it_lets_oncoming_cars_pass_before_borrowing_their_lane():
    run = runs()["oncoming"]
    comes = 95.0 - 0.8 * np.arange(len(run.x))
    before = comes - HALF > run.x + HALF
    assert run.y[before].max() < 0.7
    assert run.gap.min() > 0.3
    assert run.x[-1] > 50.0


def test_it_brakes_for_a_car_that_cuts_in():
    run = runs()["cut in"]
    assert run.gap.min() > 0.3
    assert run.speed.min() < 6.0


def test_it_lets_a_walker_cross():
    run = runs()["crossing"]
    assert run.gap.min() > 0.3
    assert run.x[-1] > 50.0


def test_it_slows_down_near_a_walker_beside_the_road():
    run = runs()["waiting walker"]
    near = (run.x > 45.0) & (run.x < 58.0)
    assert run.speed[near].max() < 9.0
    assert run.x[-1] > 60.0


def test_it_makes_room_for_an_oncoming_lorry_that_strays_into_its_lane():
    run = runs()["straying"]
    assert run.gap.min() > 0.05
    assert run.y.min() < -0.2


def test_it_stops_before_a_red_light_and_goes_at_green():
    run = runs()["light"]
    front = run.x + HALF
    assert front[: made.GREEN_FROM].max() < made.LINE
    assert front[-1] > made.LINE + 3.0


def test_it_follows_a_slower_car_without_overtaking_it():
    run = runs()["leader"]
    assert run.gap.min() > 2.0
    assert np.abs(run.y).max() < 0.3


def test_it_stops_at_a_stop_sign_and_goes_on():
    run = runs()["sign"]
    before = run.x + HALF < made.LINE
    assert run.speed[before].min() < 0.1
    assert run.x[-1] > made.LINE + 5.0


def test_it_makes_way_for_who_comes_from_behind_much_too_fast_and_comes_back():
    run = runs()["hurried"]
    assert run.gap.min() > 0.3
    assert run.y.min() < -2.8
    assert abs(run.y[-1]) < 0.7


def test_it_stays_in_its_lane_before_who_merely_follows():
    assert np.abs(runs()["followed"].y).max() < 0.3
