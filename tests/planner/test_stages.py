"""Stages: what they learn in scenes whose answer is known, and how they use their samples."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perlsim.bank_build import build_bank
from perlsim.errors import PerlsimError
from perlsim.sim.agents import ConstantVelocityAgents, LogAgents
from perlsim.sim.reward import reward_of
from perlsim.sim.rollout import RolloutConfig
from planner.anchors import as_tuple
from planner.check import ClosedLoopCheck
from planner.closed_loop import Rounds
from planner.curricula import Curricula
from planner.imitation import Asked, ImitationStage, init_params
from planner.plans import PathShape
from planner.reinforcement import ReinforcementConfig, ReinforcementStage
from planner.scenes import Perturbation, anchors_of, draw, training_data

NUMBERS = jnp.arange(4, dtype=jnp.int32)
# These programs take far longer to compile than to run.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def compiled(stage):
    return jax.jit(jax.value_and_grad(stage.loss, has_aux=True), compiler_options=QUICKLY)


def gradient_of(stage, params, numbers=NUMBERS, update=0):
    (loss, metrics), gradient = compiled(stage)(params, stage.data(), numbers, jnp.int32(update))
    return float(loss), {name: float(value) for name, value in metrics.items()}, gradient


def finite(tree):
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def params(planner, scenes):
    return init_params(planner, scenes, jax.random.key(0))


def reinforcement(planner, scenes, params, **options):
    agents = options.pop("agents", None)
    config = ReinforcementConfig(**{"group": 2, **options})
    weights = reward_of("perlad")
    return ReinforcementStage(planner, scenes, weights, params, 30, 4, optax.adam(3e-3), config, agents)


def test_imitation_has_finite_gradients_everywhere(planner, scenes, params):
    loss, metrics, gradient = gradient_of(ImitationStage(planner, scenes, 10, 4, optax.adam(1e-3)), params)
    assert np.isfinite(loss) and finite(gradient)
    assert metrics["choice"] == pytest.approx(np.log(3), abs=0.2)


@pytest.mark.parametrize("mode", ["samples", "exact"])
def test_plan_rollouts_reach_the_speed_head_and_not_the_paths(planner, scenes, params, mode):
    stage = reinforcement(planner, scenes, params, mode=mode, imitation=0.0)
    run, data = compiled(stage), stage.data()
    for update in (0, 29):
        (loss, metrics), gradient = run(params, data, NUMBERS, jnp.int32(update))
        assert np.isfinite(loss) and finite(gradient) and set(metrics) >= {"reward", "collisions", "entropy"}
        assert float(optax.tree.norm(gradient["lateral"])) == 0.0
        for part in ("longitudinal", "encoder"):
            assert float(optax.tree.norm(gradient[part])) > 1e-4, part
    # Curricula are no reason to compile again.
    assert run._cache_size() == 1


@pytest.mark.slow
def test_the_loss_of_a_sample_does_not_depend_on_the_others(planner, scenes, params):
    agents = ConstantVelocityAgents()
    options = {"agents": agents, "curricula": Curricula(react=True)}
    stage = reinforcement(planner, scenes, params, **options)
    run = jax.jit(stage.loss, compiler_options=QUICKLY)

    def metrics(first, count):
        return run(params, stage.data(), first + jnp.arange(count, dtype=jnp.int32), jnp.int32(29))[1]

    whole, halves = metrics(8, 4), [metrics(8, 2), metrics(10, 2)]
    for name, value in whole.items():
        assert float(value) == pytest.approx(0.5 * float(halves[0][name] + halves[1][name]), abs=2e-4), name


@pytest.mark.slow
def test_closed_loop_training_has_finite_gradients_and_a_value(planner, scenes):
    planner = dataclasses.replace(planner, value=True)
    params = init_params(planner, scenes, jax.random.key(0))
    stage = reinforcement(planner, scenes, params, mode="closed_loop", rounds=Rounds(count=3))
    loss, _, gradient = gradient_of(stage, params)
    assert np.isfinite(loss) and finite(gradient)
    assert float(optax.tree.norm(gradient["longitudinal"]["value"])) > 0


def test_what_does_not_fit_together_is_told(planner, scenes, params):
    with pytest.raises(PerlsimError, match="value head"):
        reinforcement(planner, scenes, params, mode="closed_loop")
    with pytest.raises(PerlsimError, match="react"):
        reinforcement(planner, scenes, params, curricula=Curricula(react=True))
    with pytest.raises(PerlsimError, match="mode"):
        reinforcement(planner, scenes, params, mode="ppo")
    with pytest.raises(PerlsimError, match="multiple"):
        reinforcement(planner, scenes, params, group=3)


def parked(gap):
    """An ego at 6 m/s behind a car that stands; the log drives through it, so that imitation would."""
    from made_scenes import mover, scene

    return scene(f"parked {gap}", mover(speed=6.0), mover(x=gap))


def test_rewards_teach_to_brake_before_a_parked_car_and_to_drive_on_without_one(planner):
    from made_scenes import mover, scene

    shape = PathShape(steps=15)
    free = scene("free", mover(speed=6.0), mover(x=10.0, y=40.0))
    # Of 5 m to the bumper, 3 m are driven with the target 0, 6 m with 3 m/s.
    host = build_bank([parked(9.5), free], max_agents=4)
    planner = dataclasses.replace(
        planner, shape=shape, anchors=as_tuple(anchors_of(host, shape, 1)), speeds=(0.0, 3.0, 6.0)
    )
    data = training_data(host, shape.steps, jax.random.key(0))
    data = data._replace(scenario_idx=jnp.array([0, 1]), start=jnp.array([0, 0]), until=jnp.array([0.5, 1.0]))
    params = init_params(planner, data, jax.random.key(1))
    config = ReinforcementConfig(mode="exact", perturbation=Perturbation(0.0), entropy=0.0, group=4)
    stage = ReinforcementStage(planner, data, reward_of("perlad"), params, 40, 8, optax.adam(5e-3), config)
    params = trained(stage, params)
    speeds = chosen_speeds(planner, data, params)
    assert speeds[0] == 0.0 and speeds[1] == 6.0


def trained(stage, params):
    @partial(jax.jit, compiler_options=QUICKLY)
    def step(params, optimiser, data, update):
        numbers = update * stage.batch_size + jnp.arange(stage.batch_size, dtype=jnp.int32)
        gradient = jax.grad(lambda p: stage.loss(p, data, numbers, update)[0])(params)
        changes, optimiser = stage.optimiser.update(gradient, optimiser)
        return optax.apply_updates(params, changes), optimiser

    optimiser, data = stage.optimiser.init(params), stage.data()
    for update in range(stage.num_updates):
        params, optimiser = step(params, optimiser, data, jnp.int32(update))
    return params


def chosen_speeds(planner, data, params):
    """The most probable target speed at each step of the list."""
    from perlsim.sim.core import SimConfig
    from planner.scenes import sample_at, seen_at_start

    @partial(jax.jit, compiler_options=QUICKLY)
    def one(data, place):
        sample = sample_at(data, Perturbation(0.0), planner.shape, place, jnp.zeros(4), data.key)
        net = Asked(planner, params, seen_at_start(SimConfig(), planner.observation, sample))
        logits = net.speeds(net.points(net.paths.waypoints[:1])).logits[0]
        return jnp.asarray(planner.speeds)[jnp.argmax(logits)]

    return [float(one(data, jnp.int32(place))) for place in range(len(data.start))]


def test_the_check_drives_each_time_with_the_parameters_it_is_given(planner, host, params):
    config = RolloutConfig(horizon=10, replan_every=5)
    check = ClosedLoopCheck(planner, host, LogAgents(), reward_of("perlad"), config, 8)
    first = check(params)
    assert first.keys() >= {"score", "collisions", "progress"}
    assert check(params) == first

    def standing(path, leaf):
        wanted = jax.tree_util.keystr(path).endswith("['longitudinal']['logits']['bias']")
        return leaf.at[0].add(100.0) if wanted else leaf

    assert check(jax.tree_util.tree_map_with_path(standing, params))["progress"] < first["progress"]


def test_steps_at_which_speeds_matter_have_the_greater_spread_and_are_drawn_more_often(planner):
    from made_scenes import mover, scene

    from planner.sampling import reward_spread

    shape = PathShape(steps=10)
    free = scene("free", mover(speed=6.0), mover(x=10.0, y=40.0))
    host = build_bank([parked(9.0), free], max_agents=4)
    planner = dataclasses.replace(planner, shape=shape, speeds=(0.0, 3.0, 6.0))
    data = training_data(host, shape.steps, jax.random.key(0))
    first = np.array([np.flatnonzero(np.asarray(data.scenario_idx) == k)[0] for k in (0, 1)])
    few = data._replace(scenario_idx=data.scenario_idx[first], start=data.start[first])
    spread = reward_spread(planner, few, reward_of("perlad"), ReinforcementConfig())
    assert spread[0] > 5 * spread[1] > 0
    shares = np.where(np.asarray(data.scenario_idx) == 0, 3.0, 1.0)
    weighted = training_data(host, shape.steps, jax.random.key(0), shares)

    @jax.jit
    def drawn(data, numbers):
        return jax.vmap(lambda number: draw(data, Perturbation(0.0), shape, number).scene.idx)(numbers)

    share = 1.0 - float(drawn(weighted, jnp.arange(2000, dtype=jnp.int32)).mean())
    assert share == pytest.approx(0.75, abs=0.03)
