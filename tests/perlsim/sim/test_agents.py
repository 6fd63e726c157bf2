import jax
import jax.numpy as jnp
import numpy as np
import pytest
from idm_scenes import LONG, bank_of, run
from made_scenes import mover, scene

from perlsim.bank import Scene, X
from perlsim.errors import PerlsimError
from perlsim.policies import policy_of
from perlsim.sim.agents import ConstantVelocityAgents, LogAgents, MixedAgents, agents_of
from perlsim.sim.idm import IdmAgents
from perlsim.sim.reward import reward_of
from perlsim.sim.rollout import Episodes, Rollout, RolloutConfig


def car(*place, **options):
    return mover(*place, steps=LONG, **options)


def slowing():
    """A car that brakes from 10 to 0 m/s in 5 s."""
    one = car(10, 3.5, 0, 10.0)
    speed = np.maximum(10.0 - 2.0 * 0.1 * np.arange(LONG), 0.0)
    one["position"][:, 0] = 10 + np.concatenate([[0], np.cumsum(0.05 * (speed[1:] + speed[:-1]))])
    one["velocity"][:, 0] = speed
    return one


def test_log_agents_repeat_the_log():
    bank = bank_of(scene("log", car(0, 0), slowing()))
    rows, _ = run(bank, steps=150, agents=LogAgents())
    logged = bank.bank.tracks[0, 1:]
    np.testing.assert_array_equal(rows[:, :, 1:], logged[:, :, 1:])


def test_constant_velocity_agents_go_on_as_they_are():
    rows, _ = run(scene("cv", car(0, 0), slowing()), steps=60, agents=ConstantVelocityAgents())
    np.testing.assert_allclose(rows[:, X, 1], 10 + np.arange(1, 61), rtol=1e-5)


def test_names_give_models_and_their_needs():
    assert isinstance(agents_of("log"), LogAgents)
    assert isinstance(agents_of("constant_velocity"), ConstantVelocityAgents)
    assert isinstance(agents_of("idm"), IdmAgents)
    assert agents_of("idm").requires_paths
    assert agents_of("log:1,idm:2").requires_paths
    assert not agents_of("log,constant_velocity").requires_paths


@pytest.mark.parametrize(
    "name",
    ["idn", "", "log,,idm", "idm:x", "idm:-1,log:1", "idm:nan,log:1", "idm:0", "log:1:2", "idm:,log:1"],
)
def test_an_unknown_name_or_weight_gives_a_clear_error(name):
    with pytest.raises(PerlsimError, match=r"unknown agent model|is not a positive number"):
        agents_of(name)


def test_a_mixture_draws_by_the_given_shares():
    bank = bank_of(scene("mix", car(0, 0), car(-20, 0, 0, 8.0)))
    here = Scene(jax.device_put(bank.bank), jnp.int32(0))
    mixed = agents_of("idm:0.7,log:0.3")
    keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.key(0), k))(jnp.arange(2000))
    choices = jax.vmap(lambda key: mixed.init(here, jnp.int32(0), key)[0])(keys)
    assert float((choices == 0).mean()) == pytest.approx(0.7, abs=0.04)


def test_each_episode_of_a_mixture_is_of_one_model():
    bank = bank_of(scene("mix", car(0, 0), car(-30, 0, 0, 8.0)))
    log = run(bank, steps=20, agents=LogAgents())[0]
    idm = run(bank, steps=20, agents=IdmAgents())[0]
    for agents, expected in (("idm:1,log:1e-9", idm), ("idm:1e-9,log:1", log)):
        np.testing.assert_allclose(run(bank, steps=20, agents=agents_of(agents))[0], expected, atol=1e-5)
    assert not np.allclose(log, idm)


def test_what_a_mixture_draws_does_not_depend_on_the_batch():
    host = bank_of(scene("mix", car(0, 0), car(-14, 0, 0, 9.0)))
    rollout = Rollout(
        RolloutConfig(horizon=20),
        agents_of("idm:0.5,log:0.5"),
        policy_of("constant_velocity"),
        jax.devices()[:1],
    )
    bank = rollout.put(host.bank)

    def happened(numbers):
        zeros = np.zeros(len(numbers), np.int32)
        episodes = Episodes(zeros, zeros, np.asarray(numbers, np.int32))
        return np.asarray(rollout(bank, episodes, reward_of("perlad")).happened)

    whole = happened(range(16))
    assert len(set(whole.tolist())) == 2
    np.testing.assert_array_equal(happened([5, 3, 12, 9]), whole[[5, 3, 12, 9]])


def test_a_mixture_is_a_pytree_of_its_models_and_shares():
    mixed = agents_of("idm:0.5,log:0.5")
    assert isinstance(mixed, MixedAgents)
    leaves, tree = jax.tree.flatten(mixed)
    assert jax.tree.unflatten(tree, leaves).models[0] == mixed.models[0]
