from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.bank import SIN, VALID, VX, Scene, X, Y
from perlsim.errors import PerlsimError
from perlsim.policies.simple import LogReplay
from perlsim.sim.reward import RewardWeights
from perlsim.sim.rollout import Episodes, Rollout, RolloutConfig
from perlsim.trace import agents_along
from world_model.agents import WorldModelAgents, load_agents, save_agents
from world_model.departures import logged_ego
from world_model.evaluate import runs_into_ego

START = 20


@pytest.fixture(scope="module")
def agents(model, params):
    return WorldModelAgents(params, model.config, reencode_every=10).validate()


@pytest.fixture(scope="module")
def along(bank):
    """Road users ``[H + 1, 8, A]`` of the first scene for poses of the ego."""
    run = jax.jit(
        lambda agents, poses, key: agents_along(
            agents, Scene(bank, jnp.int32(0)), jnp.int32(START), poses, key
        )
    )
    return partial(run)


@pytest.fixture(scope="module")
def poses(bank):
    return logged_ego(Scene(bank, jnp.int32(0)), jnp.int32(START), 30)


def test_road_users_start_from_the_log_and_move_smoothly(agents, along, poses, bank):
    rows = np.asarray(along(agents, poses, jax.random.key(0)))
    logged = np.asarray(bank.tracks)[0, START]
    there = logged[VALID] > 0
    there[0] = False
    np.testing.assert_allclose(rows[0][:, there], logged[:, there], atol=1e-5)
    assert np.isfinite(rows).all()
    jump = np.hypot(*np.diff(rows[:, X : Y + 1], axis=0).transpose(1, 0, 2))[:, there]
    speed = np.hypot(*rows[:-1, VX : VX + 2].transpose(1, 0, 2))[:, there]
    assert (np.abs(jump - 0.1 * speed) < 0.09).all()


def test_a_rollout_compiles_once_and_is_the_same_in_another_batch(agents, bank):
    rollout = Rollout(RolloutConfig(horizon=20, replan_every=20), agents, LogReplay())
    put = rollout.put(bank)
    numbers = np.arange(4, dtype=np.int32)
    episodes = Episodes(numbers % 2, 15 + numbers, numbers)
    first = rollout(put, episodes, RewardWeights())
    again = rollout(put, Episodes(*(field[::-1].copy() for field in episodes)), RewardWeights(), 0)
    np.testing.assert_allclose(first.reward, np.asarray(again.reward)[::-1], atol=1e-4)
    assert rollout.num_traces == 1


def test_a_saved_model_drives_as_before(agents, along, poses, tmp_path):
    save_agents(tmp_path, agents.config, agents.params)
    loaded = load_agents(tmp_path, reencode_every=10)
    before, after = (along(model, poses, jax.random.key(0)) for model in (agents, loaded))
    np.testing.assert_array_equal(before, after)


def test_encodings_at_odd_times_are_refused(agents):
    with pytest.raises(PerlsimError, match="multiple"):
        replace(agents, reencode_every=7).validate()


def test_the_likeliest_mode_needs_no_key_and_drawn_modes_do(agents, along, poses):
    draws = replace(agents, sample_modes=True)
    one, two = (along(agents, poses, jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one, two)
    one, two = (along(draws, poses, jax.random.key(seed)) for seed in (0, 1))
    assert np.abs(np.asarray(one) - np.asarray(two)).max() > 0


def test_an_unavoidable_cut_in_still_collides(agents, along, poses, bank):
    """An ego that stands a quarter of a second before the front of a car is hit by it, whatever the car decides."""
    logged = np.asarray(bank.tracks)[0, START]
    speed = np.hypot(logged[VX], logged[VX + 1]) * (logged[VALID] > 0)
    speed[0] = 0.0
    fastest = int(speed.argmax())
    assert speed[fastest] > 6.0
    x, y, _, cos, sin = logged[: SIN + 1, fastest]
    boxes = np.asarray(bank.boxes)[0]
    ahead = boxes[0, fastest] + boxes[0, 0] + 0.25 * speed[fastest]
    pose = jnp.array([x + ahead * cos, y + ahead * sin, np.arctan2(sin, cos)], jnp.float32)
    rows = along(agents, jnp.tile(pose, (30, 1)), jax.random.key(0))
    # From the second step on: in the first the ego is where the log has it.
    assert runs_into_ego(Scene(bank, jnp.int32(0)), rows[1:])[fastest]
