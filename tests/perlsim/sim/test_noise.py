"""Perception that errs: how often, how much, and that it depends on episode and step alone."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.bank import STEP, Scene
from perlsim.bank_build import build_bank
from perlsim.geometry.numerics import wrap_angle
from perlsim.readers.synthetic import generate
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init
from perlsim.sim.noise import GHOST_FARTHEST, GHOST_NEAREST, PerceptionNoise, perceive, perturbed
from perlsim.sim.observe import Observation, ObservationConfig, observe
from perlsim.sim.reward import REWARDS
from perlsim.sim.rollout import Episodes, Rollout, RolloutConfig
from perlsim.sim.types import Plan

DRAWS, SLOTS, PRESENT, FRAMES = 2000, 12, 6, 2


def simple_view():
    """Six road users 10 m apart, ahead of each other, that head to the left at 3 m/s, all with a past."""
    agents, past = np.zeros((SLOTS, 9), np.float32), np.zeros((SLOTS, FRAMES, 4), np.float32)
    agents[:PRESENT, 0] = 10 * (1 + np.arange(PRESENT))
    agents[:PRESENT, [3, 5]] = 1.0, 3.0
    agents[:PRESENT, 6:] = 4.0, 2.0, 1.0
    past[:PRESENT, :, :4] = agents[:PRESENT, None, :4]
    there = np.arange(SLOTS) < PRESENT
    nothing = jnp.zeros(0)
    return Observation(
        nothing, agents, there, past, np.repeat(there[:, None], FRAMES, 1), *(nothing for _ in range(7))
    )


@jax.jit
def draw(noise):
    keys = jax.random.split(jax.random.key(1), DRAWS)
    return jax.vmap(lambda key: perturbed(noise, simple_view(), key))(keys)


def drawn(**values):
    """The view, seen `DRAWS` times."""
    return jax.tree.map(np.asarray, draw(jax.tree.map(jnp.float32, PerceptionNoise(**values))))


def test_jitter_has_the_spread_that_is_asked_for():
    view = drawn(position=0.3, heading=0.1, velocity=0.5)
    rows, past = view.agents[:, :PRESENT], view.past[:, :PRESENT]
    exact = simple_view()
    assert view.agents_valid.sum() == DRAWS * PRESENT
    place = rows[..., :2] - exact.agents[:PRESENT, :2]
    turn = np.asarray(wrap_angle(np.arctan2(rows[..., 3], rows[..., 2]) - np.pi / 2))
    past_place = past[..., :2] - exact.past[:PRESENT, :, :2]
    past_turn = np.asarray(wrap_angle(np.arctan2(past[..., 3], past[..., 2]) - np.pi / 2))
    velocity = rows[..., 4:6] - exact.agents[:PRESENT, 4:6]
    for errors, spread in ((place, 0.3), (turn, 0.1), (velocity, 0.5), (past_place, 0.3), (past_turn, 0.1)):
        assert errors.std() == pytest.approx(spread, rel=0.03)
        assert abs(errors.mean()) < 0.03 * spread
    # x and y, now and before, one road user and the next: all err on their own.
    errors = np.concatenate([place, past_place[:, :, 0]], -1).reshape(DRAWS, -1)
    correlation = np.corrcoef(errors.T) - np.eye(errors.shape[1])
    assert abs(correlation).max() < 0.12
    np.testing.assert_allclose(np.hypot(rows[..., 2], rows[..., 3]), 1.0, atol=1e-5)
    np.testing.assert_array_equal(
        rows[..., 6:], np.broadcast_to(exact.agents[:PRESENT, 6:], rows[..., 6:].shape)
    )


def test_road_users_are_missed_as_often_as_asked_for_and_leave_no_gap():
    view = drawn(misses=0.2)
    count = view.agents_valid.sum(1)
    assert count.mean() == pytest.approx(0.8 * PRESENT, rel=0.02)
    assert count.var() == pytest.approx(0.16 * PRESENT, rel=0.15)
    np.testing.assert_array_equal(view.agents_valid, np.arange(SLOTS) < count[:, None])
    assert (view.agents[~view.agents_valid] == 0).all()
    # A frame of the past is missed as often, and never seen of someone who is not seen now.
    assert view.past_valid.sum() == pytest.approx(0.64 * PRESENT * FRAMES * DRAWS, rel=0.02)
    assert not view.past_valid[~view.agents_valid].any()
    assert (view.past[~view.past_valid] == 0).all()


def test_ghosts_appear_in_free_slots_as_often_as_asked_for():
    view = drawn(ghosts=1.5)
    ghosts = view.agents_valid & (view.agents[..., 6] > 4.2)
    count = ghosts.sum(1)
    assert (view.agents_valid.sum(1) == PRESENT + count).all()
    assert count.mean() == pytest.approx(1.5, rel=0.05)
    assert count.var() == pytest.approx(1.5, rel=0.1)
    rows = view.agents[ghosts]
    distance = np.hypot(rows[:, 0], rows[:, 1])
    assert distance.min() >= GHOST_NEAREST - 1e-4
    assert distance.max() <= GHOST_FARTHEST + 1e-4
    # As many in each square metre: half of them beyond the radius that halves the area.
    half = np.sqrt((GHOST_NEAREST**2 + GHOST_FARTHEST**2) / 2)
    assert (distance > half).mean() == pytest.approx(0.5, abs=0.03)
    assert abs(rows[:, :2].mean(0)).max() < 2.0
    np.testing.assert_allclose(rows[:, 4] * rows[:, 3], rows[:, 5] * rows[:, 2], atol=1e-4)
    assert not view.past_valid[ghosts].any()


def test_more_ghosts_than_slots_fill_the_slots():
    view = drawn(ghosts=50.0)
    assert view.agents_valid.all()
    assert ((view.agents[..., 6] > 4.2).sum(1) == SLOTS - PRESENT).all()


def test_what_is_seen_with_errors_is_ordered_nearest_first():
    view = drawn(position=8.0, misses=0.3, ghosts=2.0)
    distance = np.where(view.agents_valid, np.hypot(view.agents[..., 0], view.agents[..., 1]), np.inf)
    assert (distance[:, 1:] >= distance[:, :-1]).all()


def test_no_error_changes_nothing():
    jax.tree.map(lambda now, exact: np.testing.assert_array_equal(now[0], exact), drawn(), simple_view())


CONFIG = ObservationConfig(num_agents=8, history=2)
NOISE = PerceptionNoise(0.3, 0.05, 0.5, 0.2, 1.0)


@functools.cache
def host():
    return build_bank(list(generate(1, 3, ["roundabout"], duration=3.0)))


@functools.partial(jax.jit, static_argnums=(0,))
def look_all(config, noise, bank, numbers, steps):
    here = Scene(bank, jnp.int32(0))

    def look(number, step):
        key = jax.random.fold_in(jax.random.key(0), number)
        sim = SimConfig(past_steps=config.past_steps)
        return perceive(config, noise, here, init(sim, LogAgents(), here, step, key))

    return jax.vmap(look)(numbers, steps)


def looks(*episodes, noise=NOISE, config=CONFIG):
    """What is seen in episodes of a number at a step; five at a time, so that it is one program."""
    numbers, steps = np.resize(np.array(episodes, np.int32), (5, 2)).T
    return jax.tree.map(np.asarray, look_all(config, noise, host().bank, numbers, steps))


def test_errors_depend_on_episode_and_step_and_not_on_the_batch():
    batch = looks((0, 9), (1, 9), (2, 9), (0, 9), (1, 10))
    others = looks((2, 9), (7, 3), (8, 9))
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one[2], other[0]), batch, others)
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf[0], leaf[3]), batch)
    assert not np.array_equal(batch.agents[0], batch.agents[1])
    exact = looks((1, 9), (1, 10), noise=None)
    errors = batch.agents[1] - exact.agents[0], batch.agents[4] - exact.agents[1]
    assert abs(errors[0] - errors[1]).max() > 0.1


def test_without_noise_observations_are_exact_and_with_it_only_road_users_differ():
    exact, noisy = looks((0, 9), noise=None), looks((0, 9))
    here = Scene(jax.device_put(host().bank), jnp.int32(0))
    sim = SimConfig(past_steps=CONFIG.past_steps)
    state = init(sim, LogAgents(), here, jnp.int32(9), jax.random.key(4))
    direct = jax.jit(lambda state: observe(CONFIG, here, state))(state)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one[0], other, atol=1e-5), exact, direct)
    for name, values in exact._asdict().items():
        if not name.startswith(("agents", "past")):
            np.testing.assert_array_equal(values, getattr(noisy, name), name)
    assert abs(exact.agents - noisy.agents).max() > 0.1
    assert abs(exact.past - noisy.past).max() > 0.1


def test_late_road_users_are_where_they_were():
    latency, now = 3, 12
    late = looks((0, now), noise=None, config=dataclasses.replace(CONFIG, latency=latency))
    scenario = next(iter(generate(1, 3, ["roundabout"], duration=3.0)))
    tracks, ego = scenario.tracks, scenario.ego.idx
    heading = tracks.heading[ego, now]
    turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    place = (tracks.position[:, :, :2] - tracks.position[ego, now, :2]) @ turn
    seen = now - latency
    distance = np.hypot(*place[:, seen].T)
    there = tracks.valid[:, seen] & (distance < CONFIG.radius)
    who = [k for k in np.argsort(distance) if there[k] and k != ego][: CONFIG.num_agents]
    assert late.agents_valid[0].sum() == len(who) > 4
    rows, past = late.agents[0, : len(who)], late.past[0, : len(who)]
    np.testing.assert_allclose(rows[:, :2], place[who, seen], atol=2e-3)
    np.testing.assert_allclose(rows[:, 2], np.cos(tracks.heading[who, seen] - heading), atol=1e-4)
    moved = tracks.valid[who, seen - 1]
    assert moved.sum() > 3
    velocity = (place[who, seen] - place[who, seen - 1]) / STEP
    np.testing.assert_allclose(rows[moved, 4:6], velocity[moved], atol=5e-3)
    for frame in range(CONFIG.history):
        then = seen - CONFIG.history_stride * (frame + 1)
        valid = tracks.valid[who, then]
        np.testing.assert_array_equal(late.past_valid[0, : len(who), frame], valid)
        np.testing.assert_allclose(past[valid, frame, :2], place[who, then][valid], atol=2e-3)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Superstitious:
    """Follows the route while it sees an even number of road users."""

    privileged: ClassVar[bool] = False

    def init(self, scene, start, key):
        return ()

    def act(self, carry, seen, key):
        speed = jnp.where(seen.agents_valid.sum() % 2 == 0, 8.0, 0.0)
        return carry, Plan.ahead(seen.route, 2.0, speed[None])


def test_a_policy_in_a_rollout_sees_noise_that_the_batch_does_not_change():
    config = RolloutConfig(horizon=15, replan_every=5, observation=CONFIG, noise=NOISE, chunk=2)
    rollout = Rollout(config, LogAgents(), Superstitious(), jax.devices()[:1])
    bank = rollout.put(host().bank)

    def run(*numbers):
        start = np.full(4, 5, np.int32)
        episodes = Episodes(np.zeros(4, np.int32), start, np.array(numbers, np.int32))
        return np.asarray(rollout(bank, episodes, REWARDS["perlad"]).progress)

    noisy = run(0, 1, 2, 3)
    np.testing.assert_allclose(run(7, 2, 8, 0)[[1, 3]], noisy[[2, 0]], atol=1e-5)
    assert np.ptp(noisy) > 1e-3
