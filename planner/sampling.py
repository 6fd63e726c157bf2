"""Which steps of logs are worth training on: those where the choice of speed matters."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.sim.agents import LogAgents
from perlsim.sim.reward import RewardWeights
from planner.network import PlannerConfig
from planner.plans import drive_candidates, extended
from planner.reinforcement import ReinforcementConfig
from planner.scenes import Perturbation, TrainingData, sample_at, seen_at_start, start_state

# Steps driven at once: what stays in the cache of a CPU core.
_GROUP = 4


def reward_spread(
    planner: PlannerConfig, scenes: TrainingData, weights: RewardWeights, config: ReinforcementConfig
) -> np.ndarray:
    """Standard deviation of the rewards of all target speeds on the logged path, at each step.

    Scenes drawn in its proportion teach more (FACTS §7: by difficulty alone training collapses). Drawn shares are
    ``floor + spread`` for `planner.scenes.training_data`, so that no step is left out.

    Args:
        planner: configuration.
        scenes: with all their steps.
        weights: of the reward.
        config: of the reinforcement.

    Returns:
        float32 ``[E]``, in the order of ``scenes.start``.
    """
    shape, speeds = planner.shape, jnp.asarray(planner.speeds, jnp.float32)

    def one(scenes: TrainingData, weights: RewardWeights, place: jax.Array) -> jax.Array:
        sample = sample_at(scenes, Perturbation(0.0), shape, place, jnp.zeros(4), scenes.key)
        seen = seen_at_start(config.sim, planner.observation, sample)
        state = start_state(config.sim, planner.observation, LogAgents(), sample)
        spacing = float(planner.observation.route_spacing)
        points = extended(shape, sample.target.waypoints, seen.route, spacing)
        along = jnp.broadcast_to(points, (len(speeds), *points.shape))
        driven = drive_candidates(
            shape, config.sim, LogAgents(), weights, config.discount, sample.scene, state, along, speeds
        )
        return driven.reward.std()

    @jax.jit
    def all_of(scenes: TrainingData, weights: RewardWeights, places: jax.Array) -> jax.Array:
        return jax.lax.map(partial(one, scenes, weights), places, batch_size=_GROUP)

    return np.asarray(all_of(scenes, weights.typed(), jnp.arange(len(scenes.start), dtype=jnp.int32)))
