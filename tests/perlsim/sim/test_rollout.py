"""Invariants of whole rollouts, on synthetic logs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_scenes import mover, road_of, scene

from perlsim.bank import Scene
from perlsim.bank_build import build_bank
from perlsim.errors import PerlsimError
from perlsim.geometry.numerics import wrap_angle
from perlsim.policies.simple import ConstantVelocity, LogReplay
from perlsim.readers.synthetic import generate
from perlsim.scenario import Ragged
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init, step
from perlsim.sim.reward import REWARDS
from perlsim.sim.rollout import Episodes, Rollout, RolloutConfig, sample_episodes
from perlsim.sim.types import Event, Plan

HORIZON = 20
CONFIG = RolloutConfig(horizon=HORIZON, replan_every=5, chunk=16)
# Two maps, made small for fast lookups; the second has more road users and is longer.
FAMILIES = ("merge", "unsignalised_junction")


def few(scenario, count):
    """A scenario with its ego and so many other road users, less one."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    kept = np.r_[ego, np.delete(np.arange(tracks.num_agents), ego)[: count - 1]]
    fields = {f.name: getattr(tracks, f.name) for f in dataclasses.fields(tracks) if f.name != "ids"}
    rows = {name: values[kept] for name, values in fields.items()}
    tracks = dataclasses.replace(tracks, ids=tuple(tracks.ids[k] for k in kept), **rows)
    return scenario.replace(tracks=tracks, ego=dataclasses.replace(scenario.ego, idx=0))


@functools.cache
def logs():
    short = few(next(iter(generate(1, 3, ["merge"], duration=4.0))), 12)
    long = next(iter(generate(1, 5, ["unsignalised_junction"], duration=5.0)))
    return short, long


def moved(scenario, angle, shift):
    """A scenario turned about its origin and shifted."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])

    def vectors(values):
        return (np.asarray(values, np.float64) @ turn).astype(np.float32)

    def points(values):
        return np.concatenate([vectors(values[..., :2]) + np.float32(shift), values[..., 2:]], -1).astype(
            np.float32
        )

    def lines(rows):
        return Ragged(points(rows.values), rows.offsets)

    def headings(values):
        return np.asarray(wrap_angle(values + angle), np.float32)

    tracks, road, lights, signs = scenario.tracks, scenario.road, scenario.lights, scenario.road.stop_signs
    return scenario.replace(
        scenario_id=f"{scenario.scenario_id} moved",
        tracks=dataclasses.replace(
            tracks,
            position=points(tracks.position),
            heading=headings(tracks.heading),
            velocity=vectors(tracks.velocity),
        ),
        lights=dataclasses.replace(
            lights, position=points(lights.position), heading=headings(lights.heading)
        ),
        route=dataclasses.replace(scenario.route, points=points(scenario.route.points)),
        road=dataclasses.replace(
            road,
            lanes=dataclasses.replace(road.lanes, centre=lines(road.lanes.centre)),
            markings=dataclasses.replace(road.markings, line=lines(road.markings.line)),
            edges=lines(road.edges),
            stop_signs=dataclasses.replace(
                signs, position=points(signs.position), heading=headings(signs.heading)
            ),
        ),
    )


@functools.cache
def joined():
    """Both logs, and the first turned and shifted, in one bank."""
    short, long = logs()
    return build_bank([short, long, moved(short, 2.2, (150.0, -400.0))])


@functools.cache
def alone():
    return build_bank([logs()[0]])


@functools.cache
def rollout(chunk=16, devices=1, policy=None):
    config = dataclasses.replace(CONFIG, chunk=chunk)
    return Rollout(config, LogAgents(), policy or LogReplay(), jax.devices()[:devices])


def episodes(scenario_idx, count=32):
    """Starts spread over the first two seconds."""
    start = np.arange(count) % 20
    return Episodes(
        np.full(count, scenario_idx, np.int32), start.astype(np.int32), np.arange(count, dtype=np.int32)
    )


def results(host, which, **options):
    run = rollout(**options)
    return jax.tree.map(np.asarray, run(run.put(host.bank), which, REWARDS["perlad"]))


def assert_same(first, second, tolerance=0.0):
    for name in ("happened", "terminated", "steps", "doubts"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)
    for name in ("reward", "progress", "log_distance", "end_distance"):
        np.testing.assert_allclose(
            getattr(first, name), getattr(second, name), atol=tolerance, rtol=tolerance, err_msg=name
        )


def mixed():
    parts = [episodes(0, 11), episodes(1, 11), episodes(2, 10)]
    return Episodes(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def test_replaying_the_log_reproduces_the_log():
    for which in range(3):
        replayed = results(joined(), episodes(which))
        assert np.median(replayed.log_distance) < 0.3
        assert np.median(replayed.end_distance) < 0.5
        assert not (replayed.happened & int(Event.AT_FAULT | Event.OFF_ROAD)).any()
        assert not replayed.doubts.any()


def test_a_scene_turned_and_shifted_has_the_same_outcomes_and_rewards():
    here, there = results(joined(), episodes(0)), results(joined(), episodes(2))
    # Float32 rounds at 400 m to 0.03 mm; a step adds one such error.
    assert_same(here, there, tolerance=5e-3)
    assert here.progress.mean() > 5.0


def test_more_slots_more_steps_and_other_scenarios_in_the_bank_change_nothing():
    padded, bare = joined().bank, alone().bank
    assert padded.tracks.shape[1] > bare.tracks.shape[1]
    assert padded.tracks.shape[3] > bare.tracks.shape[3]
    assert_same(results(joined(), episodes(0)), results(alone(), episodes(0)), tolerance=1e-5)


def test_the_order_of_road_users_does_not_matter():
    host = joined()
    order = np.r_[0, np.random.default_rng(0).permutation(np.arange(1, host.info.num_agents))]
    bank = dataclasses.replace(
        host.bank, tracks=host.bank.tracks[..., order], boxes=host.bank.boxes[..., order]
    )
    assert_same(
        results(host, mixed()), results(dataclasses.replace(host, bank=bank), mixed()), tolerance=1e-6
    )


def test_chunks_do_not_matter():
    assert_same(results(joined(), mixed()), results(joined(), mixed(), chunk=64), tolerance=1e-5)


def test_devices_do_not_matter():
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    assert_same(results(joined(), mixed()), results(joined(), mixed(), devices=2), tolerance=1e-5)


def test_an_episode_does_not_depend_on_the_others_of_its_batch():
    order = np.random.default_rng(1).permutation(32)
    shuffled = results(joined(), Episodes(*(field[order] for field in mixed())))
    assert_same(jax.tree.map(lambda x: x[order], results(joined(), mixed())), shuffled, tolerance=1e-5)


def test_other_episodes_weights_and_seeds_do_not_compile_again():
    run, host = rollout(), joined()
    bank = run.put(host.bank)
    first = run(bank, episodes(0), REWARDS["perlad"])
    before = run.num_traces
    second = run(bank, sample_episodes(host, 32, HORIZON, 7), REWARDS["rad"], seed=5)
    again = run(bank, episodes(0), REWARDS["perlad"]._replace(progress=jnp.float32(0.1)))
    assert run.num_traces == before
    assert not np.array_equal(first.reward, second.reward)
    assert not np.array_equal(first.reward, again.reward)
    np.testing.assert_array_equal(first.progress, again.progress)


def test_a_horizon_that_plans_do_not_divide_is_refused():
    with pytest.raises(PerlsimError, match="multiple of 5"):
        Rollout(RolloutConfig(horizon=12), LogAgents(), LogReplay())


def crash_scene():
    return scene("crash", mover(speed=10.0), mover(x=20, speed=2), road=road_of())


@functools.cache
def tiny():
    """A crash, and an empty road, in a bank with more slots than road users."""
    return build_bank(
        [crash_scene(), scene("empty", mover(speed=10.0), mover(y=30.0)), scene("at rest", mover())]
    )


def test_totals_are_those_of_the_steps_until_the_end():
    run = Rollout(RolloutConfig(horizon=30, replan_every=30, discount=0.9), LogAgents(), ConstantVelocity())
    two = Episodes(np.arange(2, dtype=np.int32), np.zeros(2, np.int32), np.arange(2, dtype=np.int32))
    crash, free = (
        jax.tree.map(lambda x, k=k: np.asarray(x[k]), run(run.put(tiny().bank), two, REWARDS["perlad"]))
        for k in (0, 1)
    )
    # The crash is in the twentieth step: 20 m of progress, discounted, and then 30 points.
    weights = 0.9 ** np.arange(30)
    assert crash.steps == 20
    assert crash.terminated
    assert crash.reward == pytest.approx(5 / 24 * weights[:20].sum() - 30 * weights[19], rel=1e-3)
    assert crash.progress == pytest.approx(20.0, rel=1e-3)
    assert Event(int(crash.happened)) & Event.AT_FAULT
    # The goal, 1 m before the log's end at 30 m, ends the other.
    assert free.steps == 29
    assert free.reward == pytest.approx(5 / 24 * weights[:29].sum(), rel=1e-3)


def test_nothing_is_counted_after_the_end_of_the_log():
    slow = scene("slow", mover(speed=10.0), route=[[0, 0, 0], [100, 0, 0]])
    host = build_bank([slow])
    # Starting at step 20, ten steps are left; a policy that stops after them earns and measures nothing more.
    run = Rollout(RolloutConfig(horizon=20, replan_every=20), LogAgents(), _Slow())
    one = Episodes(np.zeros(1, np.int32), np.full(1, 20, np.int32), np.zeros(1, np.int32))
    result = jax.tree.map(np.asarray, run(run.put(host.bank), one, REWARDS["perlad"]))
    assert result.steps[0] == 10
    assert not result.terminated[0]
    assert Event(int(result.happened[0])) & Event.LOG_ENDED


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Slow:
    """Goes straight on at 5 m/s."""

    privileged = True

    def init(self, scene, start, key):
        return ()

    def act(self, carry, observation, key):
        path = jnp.stack([jnp.arange(20.0), jnp.zeros(20)], 1)
        return carry, Plan.ahead(path, 1.0, jnp.full(20, 5.0))


def test_sampled_episodes_start_where_the_ego_is_logged():
    tracks = crash_scene().tracks
    valid = tracks.valid.copy()
    valid[0, :4] = False
    valid[0, 10] = False
    gap = crash_scene().replace(tracks=dataclasses.replace(tracks, valid=valid))
    host = build_bank([gap, crash_scene()])
    sampled = sample_episodes(host, 200, 5, 0)
    assert (np.bincount(sampled.scenario_idx) == 100).all()
    starts = np.unique(sampled.start[sampled.scenario_idx == 0])
    assert valid[0, starts].all()
    assert len(starts) > 10
    assert (sampled.start <= 25).all()


def test_scenarios_without_an_ego_are_refused_by_sampling():
    without = crash_scene().replace(ego=dataclasses.replace(crash_scene().ego, idx=-1))
    with pytest.raises(PerlsimError, match="ego"):
        sample_episodes(build_bank([without]), 4, 5, 0)


def one_step(bank, idx, target):
    scene, config, agents = Scene(bank, idx), SimConfig(), LogAgents()
    state = init(config, agents, scene, 0, jax.random.key(0))
    path = jnp.stack([jnp.arange(20.0), 0.02 * jnp.arange(20.0) ** 2], 1)
    plan = Plan.ahead(path, 1.0, jnp.full(20, target)).anchored(state.ego)
    return step(config, agents, scene, state, plan)


@pytest.mark.slow
def test_jit_changes_nothing():
    bank = jax.device_put(tiny().bank)
    compiled_state, compiled = jax.jit(one_step)(bank, 0, 9.0)
    # Operation by operation but for the loops inside.
    plain_state, plain = one_step(bank, jnp.int32(0), 9.0)
    for first, second in zip(
        jax.tree.leaves((compiled, compiled_state.ego)),
        jax.tree.leaves((plain, plain_state.ego)),
        strict=True,
    ):
        np.testing.assert_allclose(first, second, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_gradients_by_target_speeds_are_finite_while_driving_and_at_rest_and_beside_empty_slots():
    bank = jax.device_put(tiny().bank)

    def loss(speeds, which):
        scene, config, agents = Scene(bank, which), SimConfig(), LogAgents()
        state = init(config, agents, scene, 0, jax.random.key(0))
        path = jnp.stack([jnp.arange(20.0), jnp.zeros(20)], 1)
        plan = Plan.ahead(path, 1.0, speeds).anchored(state.ego)

        def advance(state, _):
            state, outcome = step(config, agents, scene, state, plan)
            return state, outcome.log_distance + outcome.progress + outcome.log_heading_error

        state, values = jax.lax.scan(advance, state, None, length=3)
        return values.sum() + state.ego.x + state.ego.y

    gradient = jax.jit(jax.vmap(jax.grad(loss)))
    # The crash at 10 m/s, and an ego at rest that is told to start: its pedal is down, which has no slope.
    found = np.asarray(gradient(jnp.full((2, 20), jnp.array([[10.1], [0.5]])), jnp.array([0, 2])))
    assert np.isfinite(found).all()
    assert found[0, 0] > 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class UnannouncedLog(LogAgents):
    """Road users that repeat the log without saying so, so that everything about them is computed afresh."""

    replays_log = False


def test_what_befalls_logged_road_users_is_the_same_looked_up_and_computed_afresh():
    # Behind the ego a faster car runs into it; beside it two others meet, one of them over the road's edge.
    meeting = (mover(x=30.0, y=5.0, speed=2.0), mover(x=45.0, y=5.5, heading=np.pi, speed=6.0))
    host = build_bank(
        [scene("met", mover(speed=6.0), mover(x=-12.0, speed=14.0), *meeting), *logs()],
        outcomes_for="all",
        observed_pieces=None,
    )
    config = dataclasses.replace(CONFIG, outcomes_for="all")
    episodes = sample_episodes(host, 12, HORIZON, 1)._replace(start=np.zeros(12, np.int32))
    results = []
    for agents in (LogAgents(), UnannouncedLog()):
        rollout = Rollout(config, agents, ConstantVelocity())
        bank = rollout.put(host.bank)
        assert bank.has_log_events == agents.replays_log
        results.append(np.asarray(rollout(bank, episodes, REWARDS["perlad"]).everyone))
    np.testing.assert_array_equal(*results)
    runner, *pair = np.sort(results[0][np.asarray(episodes.scenario_idx) == 0][0, 1:])[-3:].tolist()
    for events in (runner, *pair):
        assert events & Event.HIT_VEHICLE and events & Event.AT_FAULT
    assert np.bitwise_or.reduce(pair) & Event.OFF_ROAD
