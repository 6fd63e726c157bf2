"""The programs that are timed: rollouts with more and more asked of them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from perlsim import backend
from perlsim.bank import Scene
from perlsim.sim.agents import LogAgents
from perlsim.sim.core import SimConfig, init, step
from perlsim.sim.multi import MultiAction, init_multi, observe_multi, step_multi
from perlsim.sim.observe import ObservationConfig, observe
from perlsim.sim.reward import reward
from perlsim.sim.rollout import Episodes
from perlsim.sim.types import Plan


class Sharded:
    """A function of one episode ``(bank, scenario_idx, start, number) -> pytree``, over all devices in chunks."""

    def __init__(self, episode, bank, episodes: Episodes, chunk: int):
        devices = jax.devices()
        self.mesh = Mesh(np.array(devices), ("episodes",), axis_types=(AxisType.Auto,))
        everywhere, split = PartitionSpec(), PartitionSpec("episodes")
        self.bank = jax.device_put(bank, NamedSharding(self.mesh, everywhere))
        self.episodes = episodes

        def on_device(bank, *episodes):
            chunks = tuple(part.reshape(-1, min(chunk, part.shape[0])) for part in episodes)
            result = lax.map(lambda part: jax.vmap(partial(episode, bank))(*part), chunks)
            return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), result)

        specs = (everywhere, split, split, split)
        self.run = jax.jit(
            jax.shard_map(on_device, mesh=self.mesh, in_specs=specs, out_specs=split, check_vma=False),
            compiler_options=backend.compiler_options(devices[0].platform),
        )

    def __call__(self):
        return jax.block_until_ready(self.run(self.bank, *self.episodes))


def observing_episode(
    observation: ObservationConfig, horizon: int, weights, bank, scenario_idx, start, number
):
    """Plans along the observed route at every step; the last observation leaves the scan, so none is optimised away."""
    sim, agents = SimConfig(past_steps=observation.past_steps), LogAgents()
    scene = Scene(bank, scenario_idx)
    state = init(sim, agents, scene, start, jax.random.fold_in(jax.random.key(0), number))

    def body(carry, _):
        state, seen, total = carry
        plan = Plan.ahead(seen.route, float(observation.route_spacing), seen.ego[:1]).anchored(state.ego)
        state, outcome = step(sim, agents, scene, replace(state, plan_age=jnp.int32(0)), plan)
        return (state, observe(observation, scene, state), total + reward(weights, outcome)), None

    first = observe(observation, scene, state)
    (_, seen, total), _ = lax.scan(body, (state, first, jnp.float32(0.0)), None, length=horizon)
    return seen, total


def multi_episode(observation: ObservationConfig, horizon: int, bank, scenario_idx, start, number):
    """Everyone drives by a rule that reads its observation: keeps its speed and steers along the nearest lane."""
    scene = Scene(bank, scenario_idx)
    state = init_multi(observation, scene, start)

    def body(carry, _):
        state, seen = carry
        lane = seen.lanes[:, 0]
        curvature = jnp.where(
            seen.lanes_valid[:, 0] & (lane[:, 2] > 0.5), 0.1 * lane[:, 3] + 0.02 * lane[:, 1], 0.0
        )
        state = step_multi(scene, state, MultiAction(jnp.zeros_like(curvature), curvature))
        return (state, observe_multi(observation, scene, state)), None

    (state, seen), _ = lax.scan(body, (state, observe_multi(observation, scene, state)), None, length=horizon)
    return state.happened, seen
