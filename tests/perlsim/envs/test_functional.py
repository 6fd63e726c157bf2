"""The functional environment: what a reset draws, how an episode ends, and that it is one program."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.bank import VALID
from perlsim.bank_build import build_bank
from perlsim.envs.actions import NUM_SPEEDS
from perlsim.envs.functional import DrivingEnv, EnvConfig, EnvParams, on_data
from perlsim.errors import PerlsimError
from perlsim.policies.simple import PATH_POINTS
from perlsim.readers.synthetic import generate
from perlsim.sim.noise import PerceptionNoise
from perlsim.sim.observe import ObservationConfig
from perlsim.sim.reward import REWARDS
from perlsim.sim.types import Event

SEEN = ObservationConfig(num_agents=4, history=1)
COUNT = 16
CONFIG = EnvConfig(horizon=10, steps_per_action=5, observation=SEEN)


@functools.cache
def host():
    """Three logs of which the second has no ego, the third only up to its 21st step."""
    first, second, third = generate(3, 0, ["roundabout", "multi_lane", "merge"], duration=3.0)
    second = second.replace(ego=dataclasses.replace(second.ego, idx=-1))
    valid = third.tracks.valid.copy()
    valid[third.ego.idx, 21:] = False
    third = third.replace(tracks=dataclasses.replace(third.tracks, valid=valid))
    return build_bank([first, second, third], max_agents=16)


@functools.cache
def compiled(config=CONFIG):
    env = DrivingEnv(config)
    params = env.params(host())
    return (
        env,
        params,
        jax.jit(jax.vmap(env.reset, (0, None))),
        jax.jit(jax.vmap(env.step, (0, 0, 0, None))),
        jax.jit(jax.vmap(env.step_autoreset, (0, 0, 0, None))),
    )


def keys(seed=0):
    return jax.random.split(jax.random.key(seed), COUNT)


def episodes(scenario_idx, start):
    """The same episode in all environments."""
    env, params, *_ = compiled()
    state = jax.jit(env.begin)(jax.random.key(0), jnp.int32(scenario_idx), jnp.int32(start), params)
    return on_data(lambda leaf: jnp.broadcast_to(leaf, (COUNT, *leaf.shape)), state)


def plain(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def same(first, second):
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5),
        *(jax.tree.map(plain, tree) for tree in (first, second)),
    )


def test_a_reset_draws_every_usable_scenario_and_starts_where_its_ego_is():
    _, params, reset, _, _ = compiled()
    states = [reset(keys(seed), params)[1] for seed in range(16)]
    scenario = np.concatenate([state.scenario_idx for state in states])
    start = np.concatenate([state.sim.step for state in states])
    assert set(np.asarray(params.usable).tolist()) == set(scenario.tolist()) == {0, 2}
    assert abs((scenario == 0).mean() - 0.5) < 0.15
    assert (np.asarray(host().bank.tracks)[scenario, start, VALID, 0] > 0).all()
    # So early that the horizon fits, but anywhere before that.
    assert set(start[scenario == 0].tolist()) == set(range(21))
    assert set(start[scenario == 2].tolist()) == set(range(11))


def test_an_episode_depends_on_its_key_alone():
    _, params, reset, step, _ = compiled()
    actions = jnp.arange(COUNT, dtype=jnp.int32) % NUM_SPEEDS
    many = step(keys(1), reset(keys(), params)[1], actions, params)
    again = step(keys(2), reset(keys(), params)[1], actions, params)
    same(many, again)
    starts = [reset(keys(seed), params)[1].sim.step for seed in (0, 4)]
    assert not np.array_equal(*starts)


def test_an_episode_is_truncated_at_the_horizon_and_not_terminated():
    _, params, reset, step, _ = compiled()
    _, state = reset(keys(), params)
    standing = jnp.zeros(COUNT, jnp.int32)
    _, state, _, ended, truncated, _ = step(keys(), state, standing, params)
    assert not np.asarray(truncated).any()
    _, state, _, terminated, truncated, _ = step(keys(), state, standing, params)
    alive = ~np.asarray(ended | terminated)
    assert alive.sum() > 5
    assert np.asarray(truncated)[alive].all()
    assert not np.asarray(truncated & terminated).any()
    np.testing.assert_array_equal(np.asarray(state.steps)[alive], 10)


def test_an_episode_is_truncated_where_the_log_ends_even_within_an_action():
    _, params, _, step, _ = compiled()
    nowhere = jnp.full_like(params.bank.goal_arc, jnp.inf)
    params = params._replace(bank=dataclasses.replace(params.bank, goal_arc=nowhere))
    _, state, _, terminated, truncated, info = step(
        keys(), episodes(0, 28), jnp.full(COUNT, 4, jnp.int32), params
    )
    assert host().bank.num_steps[0] == 31
    assert np.asarray(truncated).all()
    assert not np.asarray(terminated).any()
    assert set(np.asarray(info["log_step"]).tolist()) == {30}
    assert set(np.asarray(state.steps).tolist()) == {2}
    assert (np.asarray(info["events"]) & int(Event.LOG_ENDED)).all()


def test_an_episode_terminates_on_what_ends_its_reward():
    # RAD's deviation from the log ends an episode; PerlAD's reward goes on.
    for name in ("rad", "perlad"):
        env, _, _, step, _ = compiled()
        params = env.params(host(), weights=name)
        _, state, *_ = step(keys(), episodes(2, 5), jnp.zeros(COUNT, jnp.int32), params)
        _, _, reward, terminated, truncated, info = step(keys(), state, jnp.zeros(COUNT, jnp.int32), params)
        happened = int(info["happened"][0])
        assert happened & Event.DEVIATED
        assert not happened & (Event.COLLISION | Event.FINISHED | Event.TURNED_AWAY)
        assert (bool(terminated[0]), bool(truncated[0])) == ((name == "rad"), (name != "rad"))
        if name == "rad":
            assert float(reward[0]) == -1.0


def test_autoreset_returns_the_old_episodes_last_observation_and_the_news_first():
    _, params, reset, step, autoreset = compiled()
    _, state = reset(keys(), params)
    actions = jnp.full(COUNT, 5, jnp.int32)
    _, state, *_ = step(keys(), state, actions, params)
    old = step(keys(), state, actions, params)
    new = autoreset(keys(9), state, actions, params)
    begun = reset(keys(9), params)
    assert np.asarray(old[3] | old[4]).all()
    info = dict(new[5])
    same(info.pop("final_observation"), old[0])
    same(new[0], begun[0])
    same(new[1], begun[1])
    same((*new[2:5], info), old[2:])


def test_an_episode_that_is_not_over_goes_on_under_autoreset():
    _, params, reset, step, autoreset = compiled()
    _, state = reset(keys(), params)
    actions = jnp.full(COUNT, 3, jnp.int32)
    old, new = step(keys(), state, actions, params), autoreset(keys(), state, actions, params)
    on = ~np.asarray(old[3] | old[4])
    assert on.sum() > COUNT // 2
    same(*(jax.tree.map(lambda leaf: leaf[on], tree[:2]) for tree in (old, new)))


def test_steps_of_many_episodes_are_one_program():
    _, params, reset, _, autoreset = compiled()
    _, state = reset(keys(), params)
    for number in range(5):
        _, state, *_ = autoreset(keys(number), state, jnp.full(COUNT, number, jnp.int32), params)
    swept = params._replace(weights=params.weights._replace(vehicle=jnp.float32(-7.0)))
    autoreset(keys(), state, jnp.zeros(COUNT, jnp.int32), swept)
    assert autoreset._cache_size() == 1


def test_a_higher_target_speed_goes_farther_and_a_plan_does_what_its_speed_action_does():
    env, params, _, step, _ = compiled()
    state = episodes(0, 5)
    assert float(state.sim.ego.speed[0]) < NUM_SPEEDS - 1
    actions = jnp.minimum(jnp.arange(COUNT, dtype=jnp.int32), NUM_SPEEDS - 1)
    *_, info = step(keys(), state, actions, params)
    progress = np.asarray(info["progress"])
    assert (np.diff(progress) > -1e-4).all()
    assert progress[-1] > progress[0] + 0.1
    route = np.asarray(jax.jit(env.observe)(jax.tree.map(lambda leaf: leaf[0], state), params).route)
    along = np.arange(len(route)) * SEEN.route_spacing
    path = np.stack([np.interp(np.arange(PATH_POINTS), along, route[:, k]) for k in (0, 1)], 1)
    action = np.append(path.ravel(), 12.0).astype(np.float32)
    planner, _, _, plan_step, _ = compiled(dataclasses.replace(CONFIG, action="plan"))
    assert planner.action_space(params).contains(action)
    *_, planned = plan_step(keys(), state, np.tile(action, (COUNT, 1)), params)
    np.testing.assert_allclose(planned["progress"], progress[-1], atol=0.02)


def test_observations_are_of_the_space_and_finite():
    env, params, reset, *_ = compiled()
    seen = jax.tree.map(lambda leaf: np.asarray(leaf[0]), reset(keys(), params)[0])
    space = env.observation_space(params)
    assert space.contains({name: np.asarray(part) for name, part in seen._asdict().items()})
    assert all(np.isfinite(part).all() for part in seen)


def test_noise_of_the_parameters_changes_which_road_users_are_seen():
    env, params, reset, *_ = compiled()
    seen, state = reset(keys(), params)
    noisy = env.params(host(), noise=PerceptionNoise(position=1.0, misses=0.3))
    view = jax.jit(jax.vmap(env.observe, (0, None)))(state, noisy)
    assert view.agents_valid.sum() < seen.agents_valid.sum()
    np.testing.assert_allclose(view.lanes, seen.lanes, atol=1e-5)


def test_weights_of_a_preset_are_arrays_that_can_be_swept():
    params = compiled()[1]
    assert isinstance(params, EnvParams)
    assert all(isinstance(value, jax.Array) and not value.weak_type for value in params.weights)
    assert float(params.weights.vehicle) == REWARDS["perlad"].vehicle


def test_choices_that_make_no_sense_are_refused_by_name():
    with pytest.raises(PerlsimError, match="speed, plan"):
        DrivingEnv(EnvConfig(action="fly"))
    with pytest.raises(PerlsimError, match="multiple"):
        DrivingEnv(EnvConfig(horizon=12, steps_per_action=5))
    with pytest.raises(PerlsimError, match="no scenario has an ego"):
        nobody = dataclasses.replace(host(), last_steps=host().first_steps)
        DrivingEnv().params(nobody)
