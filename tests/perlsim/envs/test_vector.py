"""Gymnasium's interfaces: its checker, and the vector environment against single ones."""

import functools
import warnings

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from perlsim.bank_build import build_bank
from perlsim.envs.functional import EnvConfig
from perlsim.envs.single import PerlsimEnv
from perlsim.envs.vector import PerlsimVectorEnv, make
from perlsim.errors import PerlsimError
from perlsim.readers.synthetic import generate
from perlsim.sim.observe import ObservationConfig

CONFIG = EnvConfig(horizon=8, steps_per_action=2, observation=ObservationConfig(num_agents=4, history=1))
NUM_ENVS, STEPS = 3, 11


@functools.cache
def host():
    return build_bank(list(generate(2, 0, ["roundabout", "merge"], duration=3.0)), max_agents=16)


@pytest.fixture(scope="module")
def single():
    return PerlsimEnv(host(), CONFIG)


@pytest.fixture(scope="module")
def vector():
    return PerlsimVectorEnv(NUM_ENVS, host(), CONFIG)


class Shared(gymnasium.Wrapper):
    """An environment with a state of its own that runs the compiled programs of another."""

    def __init__(self, env):
        own = object.__new__(PerlsimEnv)
        own.__dict__.update(env.__dict__, _episode=None, _state=None, _np_random=None)
        super().__init__(own)


def test_the_single_environment_passes_gymnasiums_checker(single):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(single)
    # Observations have no bounds, and there is nothing to render.
    known = ("-infinity", "is infinity", "render modes")
    assert [str(w.message) for w in caught if not any(text in str(w.message) for text in known)] == []


def test_the_vector_environment_is_single_ones_side_by_side(single, vector):
    assert isinstance(vector, gymnasium.vector.VectorEnv)
    reference = SyncVectorEnv([lambda: Shared(single)] * NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP)
    assert vector.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert vector.observation_space == reference.observation_space
    assert vector.action_space == reference.action_space
    results = [env.reset(seed=5) for env in (vector, reference)]
    assert_same(*results)
    vector.action_space.seed(0)
    ends = 0
    for _ in range(STEPS):
        actions = vector.action_space.sample()
        results = [env.step(actions) for env in (vector, reference)]
        assert results[0][0] in vector.observation_space
        assert_same(*results)
        ends += results[0][4].get("_final_obs", np.zeros(1)).sum()
    assert ends >= 2 * NUM_ENVS
    assert vector.num_traces == 1


def assert_same(first, second):
    """Results of a reset or a step are alike: arrays, and infos by key."""
    if isinstance(first, dict):
        assert set(first) == set(second)
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, np.ndarray) and first.dtype == object:
        for one, other in zip(first, second, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert_same(one, other)
    else:
        np.testing.assert_allclose(first, second, atol=1e-4, rtol=1e-4)


def test_a_seed_determines_all_episodes_that_follow(vector):
    def run(seed):
        seen = [vector.reset(seed=seed)[0]]
        for _ in range(5):
            observation, reward, *_ = vector.step(np.full(NUM_ENVS, 6))
            seen += [observation, reward]
        return [*seen, vector.reset()[0]]

    first = run(3)
    for one, other in zip(first, run(3), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], run(4)[0])
    # The next episode is another one, and seeds count up from environment to environment.
    assert not np.array_equal(first[0], first[-1])
    np.testing.assert_array_equal(vector.reset(seed=[4, 5, 9])[0][:2], run(3)[0][1:])


def test_results_are_the_callers_own(vector):
    first, _ = vector.reset(seed=1)
    kept = first.copy()
    second, *_ = vector.step(np.zeros(NUM_ENVS, int))
    assert not np.shares_memory(first, second)
    second[:] = 7.0
    np.testing.assert_array_equal(first, kept)


def test_a_mask_resets_some_environments_only(vector):
    before, _ = vector.reset(seed=1)
    vector.step(np.full(NUM_ENVS, 8))
    untouched = np.asarray(vector._state.steps).copy()
    mask = np.array([True, False, False])
    observation, infos = vector.reset(seed=1, options={"reset_mask": mask})
    np.testing.assert_array_equal(observation[0], before[0])
    assert np.abs(observation[1] - before[1]).max() > 1e-3
    np.testing.assert_array_equal(np.asarray(vector._state.steps), np.where(mask, 0, untouched))
    np.testing.assert_array_equal(infos["_log_step"], mask)


def test_options_choose_scenario_and_start(vector, single):
    _, infos = vector.reset(seed=1, options={"scenario_idx": [1, 0, -1], "start": [4, -1, -1]})
    assert infos["scenario_idx"][:2].tolist() == [1, 0]
    assert infos["log_step"][:2].tolist() == [4, 0]
    _, info = single.reset(seed=1, options={"scenario_idx": 1, "start": 4})
    assert (info["scenario_idx"], info["log_step"]) == (1, 4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"scenario": 1}, "scenario_idx"),
        ({"scenario_idx": 2}, "no ego"),
        ({"scenario_idx": 0, "start": 30}, "does not drive on"),
        ({"scenario_idx": 0, "start": 3000}, "does not drive on"),
        ({"start": 3}, "none is named"),
        ({"reset_mask": np.ones(2, bool)}, "booleans"),
    ],
)
def test_options_that_make_no_sense_are_refused(vector, options, named):
    vector.reset(seed=0)
    with pytest.raises(PerlsimError, match=named):
        vector.reset(options=options)


def test_a_step_before_the_first_reset_is_refused():
    env = PerlsimVectorEnv(2, host(), CONFIG)
    with pytest.raises(PerlsimError, match="reset"):
        env.step(np.zeros(2, int))
    with pytest.raises(PerlsimError, match="first reset"):
        env.reset(options={"reset_mask": np.array([True, False])})


def test_make_takes_a_store_or_embedded_logs_and_names(tmp_path, monkeypatch):
    from perlsim import loading
    from perlsim.store import ScenarioStore

    logs = list(generate(2, 1, ["merge"], duration=2.0))
    store = ScenarioStore.create(tmp_path / "store")
    store.append(logs)
    env = make(2, store=tmp_path / "store", config=CONFIG, reward="rad", max_agents=8)
    assert env.params.bank.num_scenarios == 2
    assert float(env.params.weights.deviation) == -1.0
    monkeypatch.setattr(loading, "EMBEDDED_SCENARIOS", 3)
    assert make(2, config=CONFIG, max_agents=8).params.bank.num_scenarios == 3
    with pytest.raises(PerlsimError, match="unknown agent model"):
        make(2, store=tmp_path / "store", agents="nobody")
    assert jax.tree.leaves(env.params.agents) == []
