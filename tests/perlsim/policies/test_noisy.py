"""A policy that errs on purpose for stretches of time."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perlsim.policies.noisy import NoisyPolicy, disturbed
from perlsim.sim.types import Plan


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Straight:
    """Drives straight on at 10 m/s; counts its plans."""

    privileged: ClassVar[bool] = True
    replays_log: ClassVar[bool] = False
    observation: ClassVar[str] = "what it sees"

    def init(self, scene, start, key):
        return jnp.int32(0)

    def act(self, carry, observation, key):
        path = jnp.stack([2.0 * jnp.arange(10.0), jnp.zeros(10)], 1)
        return carry + 1, Plan.ahead(path, 2.0, jnp.full(5, 10.0))


def plans_of(policy, count, seed=0):
    act = jax.jit(lambda carry, key: policy.act(carry, None, key))
    carry, aside, speed = policy.init(None, None, None), [], []
    for number in range(count):
        carry, plan = act(carry, jax.random.fold_in(jax.random.key(seed), number))
        np.testing.assert_allclose(plan.path[:, 0], 2.0 * np.arange(10.0))
        assert np.ptp(plan.path[:, 1]) < 1e-6
        aside.append(float(plan.path[0, 1]))
        speed.append(float(plan.target_speed[0]))
    assert carry[0] == count
    return np.array(aside), np.array(speed)


def test_noise_comes_in_stretches_within_its_bounds():
    aside, speed = plans_of(NoisyPolicy(Straight(), 0.5, 0.2, 5), 400)
    quiet = aside == 0
    assert 0.3 < quiet.mean() < 0.7 and quiet[:5].all()
    np.testing.assert_array_equal(quiet, speed == 10.0)
    assert 0.07 < np.abs(aside).max() <= 0.1  # five plans of them lead 0.5 m aside
    assert 1.5 < np.abs(speed - 10.0).max() <= 2.0
    assert aside.min() < 0 < aside.max()
    changes = np.flatnonzero(np.diff(aside)) + 1
    assert set(np.diff(changes).tolist()) == {3, 4, 5, 6, 7}


def test_noise_depends_on_the_key_alone():
    policy = NoisyPolicy(Straight(), 0.5, 0.2, 5)
    np.testing.assert_array_equal(plans_of(policy, 30)[0], plans_of(policy, 30)[0])
    assert (plans_of(policy, 30)[0] != plans_of(policy, 30, seed=1)[0]).any()


def test_a_disturbed_policy_says_of_itself_what_the_policy_says():
    policy = disturbed(Straight(), 0.5, 0.2, 5)
    assert policy.privileged and not policy.replays_log and policy.observation == "what it sees"
    assert policy.plans == 5 and disturbed(Straight(), 0.5, 0.2, 10).plans == 2
    with pytest.raises(AttributeError):
        _ = policy.observed_pieces
    leaves, tree = jax.tree.flatten(policy)
    assert jax.tree.unflatten(tree, leaves) == policy
