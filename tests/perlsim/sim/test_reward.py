"""Rewards of single steps, worked out by hand."""

import numpy as np
import pytest

from perlsim.errors import PerlsimError
from perlsim.sim.reward import REWARDS, ends, reward, reward_of
from perlsim.sim.types import Event, Outcome

E = Event


def outcome(events=0, *, begun=None, progress=0.0, log_distance=0.0, terminated=False):
    begun = events if begun is None else begun
    return Outcome(
        np.int32(int(events)),
        np.int32(int(begun)),
        np.int32(-1),
        np.float32(progress),
        np.float32(log_distance),
        np.float32(0.0),
        np.bool_(terminated),
        np.bool_(False),
    )


PERLAD = [
    ("hitting a vehicle costs 30", outcome(E.COLLISION | E.AT_FAULT | E.HIT_VEHICLE), -30.0),
    ("hitting a pedestrian costs 50", outcome(E.COLLISION | E.HIT_PEDESTRIAN), -50.0),
    ("hitting a cone costs 10", outcome(E.COLLISION | E.HIT_STATIC), -10.0),
    ("touching a solid line costs 10", outcome(E.CROSSES_SOLID), -10.0),
    ("touching a double solid line costs 30", outcome(E.CROSSES_DOUBLE_SOLID), -30.0),
    ("a broken line is free", outcome(E.CROSSES_BROKEN), 0.0),
    ("staying on a solid line costs nothing more", outcome(E.CROSSES_SOLID, begun=0), 0.0),
    # 12 m/s for 2 s is 24 m and earns 5; a metre earns 5/24.
    ("1.2 m of progress earn a twentieth of 5", outcome(progress=1.2), 0.25),
    ("going backwards earns nothing", outcome(progress=-1.0), 0.0),
    ("2 m from the log cost a twentieth of 2", outcome(log_distance=2.0), -0.1),
]


@pytest.mark.parametrize(("case", "expected"), [p[1:] for p in PERLAD], ids=[p[0] for p in PERLAD])
def test_perlads_reward_of(case, expected):
    assert float(reward(REWARDS["perlad"], case)) == pytest.approx(expected, rel=1e-6)


ENDS = [
    ("perlad", E.COLLISION, True),
    ("perlad", E.CROSSES_SOLID, False),
    ("rad", E.COLLISION, True),
    ("rad", E.DEVIATED, True),
    ("rad", E.TURNED_AWAY, True),
    ("rad", E.RED_LIGHT, False),
    ("minddrive", E.RED_LIGHT, True),
    ("minddrive", E.OFF_ROAD, True),
    ("minddrive", E.STOP_SIGN, True),
    ("minddrive", E.BLOCKED, True),
    ("minddrive", E.FINISHED, True),
    ("minddrive", E.CROSSES_SOLID, False),
]


@pytest.mark.parametrize(("preset", "event", "over"), ENDS)
def test_each_preset_ends_on_its_own_events(preset, event, over):
    assert bool(ends(REWARDS[preset], outcome(event))) == over
    assert not bool(ends(REWARDS[preset], outcome(event, begun=0)))
    assert bool(ends(REWARDS[preset], outcome(terminated=True)))


@pytest.mark.parametrize("event", [E.COLLISION | E.HIT_VEHICLE, E.DEVIATED, E.TURNED_AWAY])
def test_rad_charges_one_for_each_of_its_events(event):
    assert float(reward(REWARDS["rad"], outcome(event))) == -1.0
    assert float(reward(REWARDS["rad"], outcome(progress=5.0, log_distance=1.0))) == 0.0


def test_minddrive_earns_one_at_the_goal_and_loses_one_on_a_red_light():
    assert float(reward(REWARDS["minddrive"], outcome(E.FINISHED))) == 1.0
    assert float(reward(REWARDS["minddrive"], outcome(E.RED_LIGHT))) == -1.0


def test_collisions_without_fault_can_be_left_uncharged():
    weights = REWARDS["perlad"]._replace(only_at_fault=1.0)
    assert float(reward(weights, outcome(E.COLLISION | E.HIT_VEHICLE))) == 0.0
    assert float(reward(weights, outcome(E.COLLISION | E.AT_FAULT | E.HIT_VEHICLE))) == -30.0


def test_an_unknown_preset_is_refused_with_the_known_names():
    with pytest.raises(PerlsimError, match="perlad"):
        reward_of("perladd")
