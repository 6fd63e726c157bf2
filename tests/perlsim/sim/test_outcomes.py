"""What happens to an ego that goes straight on, in scenes made by hand; one compiled program runs all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_scenes import lanes_of, light, line, mover, road_of, scene

from perlsim.bank import Scene
from perlsim.bank_build import build_bank
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init, step
from perlsim.sim.types import Event, Plan
from perlsim.vocabulary import AgentType, LightState, MarkingType

DRIVE = mover(speed=10.0)
STAND = mover()
LOGGED = 30  # steps until the log ends
STEPS = 640

# Parallel to the ego, its centre 2 m behind, coming 1 m/s nearer from 2.5 m aside; ends 0.5 m inside.
SIDE = mover(x=-2.0, y=2.5, drift=(10.0, -0.6))
BRIDGE = [
    line(-40, -6, 160, -6),
    line(160, 6, -40, 6),
    line(14, -30, 14, 30, 6.0),
    line(10, 30, 10, -30, 6.0),
]
LANES = lanes_of(line(-40, 0, 160, 0))
OVER_BRIDGE = lanes_of(line(-40, 0, 160, 0), line(12, -30, 12, 30, 6.0))
BACKWARDS = lanes_of(line(160, 0, -40, 0))
E, M, L = Event, MarkingType, LightState


def marked(kind, y=0.8, towards=1):
    """A road with one marking at y, in the direction of x or against it."""
    return road_of(markings=[(line(-40, y, 160, y)[::towards], kind)])


def crowded():
    """A road with more markings in one place than a cell holds."""
    return road_of(markings=[(line(9 + 0.01 * k, -1, 9 + 0.01 * k, 1), M.NONE) for k in range(80)])


# Sentence: scene, events expected within the log (LOG_ENDED and deviations from it left aside).
CASES = {
    "an empty road gives no event": (scene("", DRIVE), 0),
    "running into a slower car ahead is at fault": (
        scene("", DRIVE, mover(x=20, speed=2)),
        E.COLLISION | E.AT_FAULT | E.HIT_VEHICLE,
    ),
    "being hit from behind is not at fault": (
        scene("", mover(speed=5), mover(x=-12, speed=15)),
        E.COLLISION | E.HIT_VEHICLE,
    ),
    "being hit while standing is not at fault": (
        scene("", STAND, mover(y=-8, heading=np.pi / 2, speed=4)),
        E.COLLISION | E.HIT_VEHICLE,
    ),
    "running into a standing car is at fault": (
        scene("", DRIVE, mover(x=20)),
        E.COLLISION | E.AT_FAULT | E.HIT_VEHICLE,
    ),
    "being touched from the side within the lane is not at fault": (
        scene("", DRIVE, SIDE),
        E.COLLISION | E.HIT_VEHICLE,
    ),
    "being touched from the side on a line is at fault": (
        scene("", DRIVE, SIDE, road=marked(M.NONE)),
        E.COLLISION | E.AT_FAULT | E.HIT_VEHICLE,
    ),
    "a pedestrian in front is hit as a pedestrian": (
        scene(
            "",
            DRIVE,
            mover(x=15, y=-1, heading=1.6, speed=0.5, kind=AgentType.PEDESTRIAN, size=(0.7, 0.7, 1.7)),
        ),
        E.COLLISION | E.AT_FAULT | E.HIT_PEDESTRIAN,
    ),
    "a cone is hit as a static object": (
        scene("", DRIVE, mover(x=15, kind=AgentType.STATIC, size=(0.5, 0.5, 1.0))),
        E.COLLISION | E.AT_FAULT | E.HIT_STATIC,
    ),
    "an overlap from the start on is no collision": (scene("", DRIVE, mover(x=1, y=1.5, speed=10)), 0),
    "cars 20 cm apart do not collide": (scene("", DRIVE, mover(y=2.2, speed=10)), 0),
    "a car on a bridge above does not collide and its road's edges do not count": (
        scene("", DRIVE, mover(x=12, z=6.0), road=road_of(OVER_BRIDGE, edges=BRIDGE)),
        0,
    ),
    "a road edge under a wheel is off the road": (scene("", mover(y=5.5, speed=10)), E.OFF_ROAD),
    "a footprint 10 cm from the edge is on the road": (scene("", mover(y=4.9, speed=10)), 0),
    "a map without edges never marks off road": (scene("", mover(y=20, speed=10), road=road_of(edges=[])), 0),
    "a broken line is crossed": (scene("", DRIVE, road=marked(M.BROKEN)), E.CROSSES_BROKEN),
    "a solid line is crossed": (scene("", DRIVE, road=marked(M.SOLID)), E.CROSSES_SOLID),
    "a double solid line is crossed": (scene("", DRIVE, road=marked(M.DOUBLE_SOLID)), E.CROSSES_DOUBLE_SOLID),
    "a lane border without paint is no event": (scene("", DRIVE, road=marked(M.NONE)), 0),
    "a line beside the footprint is not crossed": (scene("", DRIVE, road=marked(M.SOLID, y=1.1)), 0),
    "a line broken towards the driver on its right is crossed as broken": (
        scene("", DRIVE, road=marked(M.SOLID_BROKEN)),
        E.CROSSES_BROKEN,
    ),
    "a line solid towards the driver on its left is crossed as solid": (
        scene("", DRIVE, road=marked(M.SOLID_BROKEN, towards=-1)),
        E.CROSSES_SOLID,
    ),
    "driving against the only lane is the wrong way": (
        scene("", DRIVE, road=road_of(BACKWARDS)),
        E.WRONG_WAY,
    ),
    "in a junction there is no wrong way": (
        scene("", DRIVE, road=road_of(lanes_of(line(160, 0, -40, 0), in_junction=True))),
        0,
    ),
    "beside a lane of the own direction there is no wrong way": (
        scene("", DRIVE, road=road_of(lanes_of(line(160, 0.5, -40, 0.5), line(-40, -0.5, 160, -0.5)))),
        0,
    ),
    "a red light is run": (scene("", DRIVE, lights=light(L.RED)), E.RED_LIGHT),
    "a green light is passed": (scene("", DRIVE, lights=light(L.GREEN)), 0),
    "a yellow light is passed": (scene("", DRIVE, lights=light(L.YELLOW)), 0),
    "a flashing red light counts as a stop sign": (
        scene("", DRIVE, lights=light(L.FLASHING_RED)),
        E.STOP_SIGN,
    ),
    "a red light of the opposite direction does not count": (
        scene("", DRIVE, lights=light(L.RED, heading=np.pi)),
        0,
    ),
    "a red light of the next lane does not count": (scene("", DRIVE, lights=light(L.RED, y=3.5)), 0),
    "a red light on a bridge does not count": (scene("", DRIVE, lights=light(L.RED, z=6.0)), 0),
    "a red light behind the line already crossed does not count": (
        scene("", DRIVE, lights=light(L.RED, x=2.0)),
        0,
    ),
    "a stop sign is run": (scene("", DRIVE, road=road_of(signs=[(12.0, 0.0)])), E.STOP_SIGN),
    "more than 30 m from the route is off the route": (
        scene("", mover(speed=20), route=line(0, 0, 0, 100)),
        E.OFF_ROUTE,
    ),
    "too many lines for a cell are reported": (scene("", DRIVE, road=crowded()), E.LOOKUP_OVERFLOW),
}
JUDGED = ~int(E.LOG_ENDED | E.DEVIATED | E.TURNED_AWAY | E.FINISHED)
NAMES = list(CASES)
# Scenes with targets of their own [m/s].
EXTRA = {
    "standing": (STAND, 0.0),
    "slower than the log": (mover(speed=10), 5.0),
    "nonsense": (DRIVE, np.nan),
    "stops before the sign": (mover(speed=5), np.r_[np.zeros(18), np.full(622, 5.0)]),
}


@functools.lru_cache(1)
def outcomes():
    """Outcomes of every scene at every step, ``[S, STEPS]``, from one program."""
    scenes = [made for made, _ in CASES.values()]
    speeds = [np.full(STEPS, made.tracks.velocity[0, 0, 0]) for made in scenes]
    for name, (ego, target) in EXTRA.items():
        road = road_of(signs=[(9.0, 0.0)]) if name == "stops before the sign" else None
        scenes.append(scene(name, ego, road=road))
        speeds.append(np.broadcast_to(target, STEPS))
    bank = build_bank(scenes, max_agents=4).bank
    path = jnp.stack([jnp.arange(20.0), jnp.zeros(20)], 1)
    config, agents = SimConfig(), LogAgents()

    def drive(bank, idx, speed):
        scene = Scene(bank, idx)
        state = init(config, agents, scene, 0, jax.random.key(0))
        plan = Plan.ahead(path, 1.0, speed).anchored(state.ego)

        def advance(state, _):
            state, outcome = step(config, agents, scene, state, plan)
            return state, (outcome, state.done)

        return jax.lax.scan(advance, state, None, length=STEPS)[1]

    over = jax.jit(jax.vmap(drive, (None, 0, 0)))
    outcome, done = over(bank, jnp.arange(len(scenes)), jnp.asarray(np.array(speeds), jnp.float32))
    names = NAMES + list(EXTRA)
    return {name: jax.tree.map(lambda x, k=k: np.asarray(x[k]), outcome) for k, name in enumerate(names)}, {
        name: np.asarray(done[k]) for k, name in enumerate(names)
    }


def of(name):
    return outcomes()[0][name]


def union(events):
    return Event(int(np.bitwise_or.reduce(events)))


@pytest.mark.parametrize("name", NAMES)
def test_while_the_ego_goes_straight_on(name):
    assert union(of(name).events[:LOGGED]) & JUDGED == CASES[name][1]


def test_a_collision_is_an_event_of_one_step_and_names_the_partner():
    crash = of("running into a slower car ahead is at fault")
    happened = crash.events & int(Event.COLLISION) != 0
    assert happened.sum() == 1
    assert crash.hit_agent[happened] == 1
    assert (crash.hit_agent[~happened] == -1).all()
    # The gap of 15.5 m closes with 8 m/s: at 1.9375 s, seen at step 20.
    assert np.flatnonzero(happened) == 19


def test_an_at_fault_collision_terminates_once_and_others_do_not():
    assert of("running into a slower car ahead is at fault").terminated.sum() == 1
    assert of("being hit from behind is not at fault").terminated[:20].sum() == 0


def test_an_event_begins_in_its_first_step_only():
    begun = of("a solid line is crossed").begun & int(Event.CROSSES_SOLID) != 0
    assert begun.sum() == 1
    assert begun[0]


def test_reaching_the_goal_terminates():
    outcome, done = of("an empty road gives no event"), outcomes()[1]["an empty road gives no event"]
    reached = np.flatnonzero(outcome.events & int(Event.FINISHED))[0]
    # The log ends at 30 m; within 1 m of it is there.
    assert reached == 28
    assert outcome.terminated[reached]
    assert outcome.terminated.sum() == 1
    assert done[reached:].all()
    assert not done[:reached].any()


def test_the_end_of_the_log_truncates_and_does_not_terminate():
    outcome = of("slower than the log")
    ended = outcome.events & int(Event.LOG_ENDED) != 0
    assert np.flatnonzero(ended)[0] == LOGGED - 1
    assert outcome.truncated[LOGGED - 1]
    assert not outcome.terminated[:LOGGED].any()


def test_standing_for_a_minute_is_blocked_and_not_earlier():
    blocked = of("standing").events & int(Event.BLOCKED) != 0
    assert 599 <= np.flatnonzero(blocked)[0] <= 600
    assert of("standing").terminated.sum() == 1


def test_numbers_that_are_not_finite_are_flagged_and_terminate():
    outcome = of("nonsense")
    assert outcome.events[1] & int(Event.NON_FINITE)
    assert outcome.terminated[:2].sum() == 1


def test_a_stop_before_a_stop_sign_is_accepted():
    outcome = of("stops before the sign")
    assert not union(outcome.events) & Event.STOP_SIGN
    assert outcome.progress.sum() > 9.0


def test_progress_is_the_way_along_the_route():
    progress = of("an empty road gives no event").progress[:LOGGED]
    np.testing.assert_allclose(progress, 1.0, atol=1e-4)


def test_the_distance_to_the_log_is_that_to_the_logged_ego():
    distance = of("slower than the log").log_distance[:LOGGED]
    assert distance[0] < 0.1
    assert (np.diff(distance) > 0).all()
    np.testing.assert_allclose(of("an empty road gives no event").log_distance[:LOGGED], 0.0, atol=1e-3)
