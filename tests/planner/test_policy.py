"""The planner as a policy, and its files."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.bank import Scene
from perlsim.errors import FormatError
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init
from perlsim.sim.observe import observe
from perlsim.sim.reward import reward_of
from perlsim.sim.rollout import Rollout, RolloutConfig, sample_episodes
from planner.imitation import Asked, init_params
from planner.policy import Planner, load_policy, save_policy


@pytest.fixture(scope="module")
def policy(planner, scenes):
    return Planner(init_params(planner, scenes, jax.random.key(0)), planner)


def seen_by(policy, host, start=12):
    scene = Scene(jax.tree.map(jnp.asarray, host.bank), jnp.int32(0))
    sim = SimConfig(past_steps=policy.observation.past_steps)
    state = init(sim, LogAgents(), scene, jnp.int32(start), jax.random.key(0))
    return observe(policy.observation, scene, state)


def test_a_plan_runs_from_the_present_speed_to_one_of_the_target_speeds(policy, host):
    seen = seen_by(policy, host)
    _, plan = jax.jit(policy.act)((), seen, jax.random.key(0))
    speeds = np.asarray(plan.target_speed)
    assert speeds[-1] in policy.config.speeds
    step = (speeds[-1] - float(seen.ego[0])) / 10
    assert speeds[0] == pytest.approx(float(seen.ego[0]) + step, abs=1e-4)
    assert plan.path.shape == (policy.config.shape.num_points, 2)


def test_the_speed_on_a_path_does_not_depend_on_the_other_paths(policy, host):
    net = Asked(policy.config, policy.params, seen_by(policy, host))
    points = net.points(net.paths.waypoints)
    alone = net.speeds(points[1:2]).logits[0]
    np.testing.assert_allclose(net.speeds(points).logits[1], alone, atol=1e-5)
    assert np.abs(np.asarray(net.speeds(points).logits[0] - alone)).max() > 1e-7


def test_a_rollout_shows_a_planner_what_it_was_trained_on(policy, host):
    assert policy.observation.num_agents == 8
    # The rollout's own observations have 32 road users: the network would see them as other numbers of tokens.
    rollout = Rollout(RolloutConfig(horizon=10, replan_every=5), LogAgents(), policy)
    episodes = sample_episodes(host, 4, 10, 0)
    result = rollout(rollout.put(host.bank), episodes, reward_of("perlad"))
    assert np.isfinite(np.asarray(result.reward)).all() and (np.asarray(result.steps) > 0).all()
    assert rollout.num_traces == 1


def test_a_planner_comes_back_from_its_files_as_it_was(policy, host, tmp_path):
    save_policy(tmp_path, policy)
    loaded = load_policy(tmp_path)
    assert loaded.config == policy.config and hash(loaded.config) == hash(policy.config)
    seen = seen_by(policy, host)
    want, got = (one.act((), seen, jax.random.key(0))[1] for one in (policy, loaded))
    np.testing.assert_array_equal(want.path, got.path)
    np.testing.assert_array_equal(want.target_speed, got.target_speed)


def test_a_damaged_configuration_is_named(policy, tmp_path):
    save_policy(tmp_path, policy)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace('"num_waypoints"', '"waypoints"'))
    with pytest.raises(FormatError, match="configuration"):
        load_policy(tmp_path)


def test_a_sampled_policy_does_not_always_choose_the_same_speed(policy, host):
    seen = seen_by(policy, host)
    drawn = dataclasses.replace(policy, sampled=True)
    speeds = {
        float(drawn.act((), seen, key)[1].target_speed[-1]) for key in jax.random.split(jax.random.key(0), 20)
    }
    assert len(speeds) > 3
