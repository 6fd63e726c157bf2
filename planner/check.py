"""Figures of a planner in closed loop, for the look at checkpoints."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from perlsim.bank import HostBank
from perlsim.sim.reward import RewardWeights
from perlsim.sim.rollout import Rollout, RolloutConfig, sample_episodes
from perlsim.sim.types import Event
from planner.network import PlannerConfig
from planner.policy import Planner

# Events whose shares of the episodes are told.
_TOLD = {
    "collisions": Event.COLLISION,
    "at_fault_collisions": Event.AT_FAULT,
    "off_road": Event.OFF_ROAD,
    "red_lights": Event.RED_LIGHT,
}


class ClosedLoopCheck:
    """Drives scenes that are not trained on; compiled once.

    Args:
        planner: configuration of the network.
        host: scenes, built with ``observed_pieces`` (and paths, where the agents need them).
        agents: model of the other road users.
        weights: of the reward.
        config: of the rollouts.
        count: number of episodes.
        seed: of the choice of episodes.
    """

    def __init__(
        self,
        planner: PlannerConfig,
        host: HostBank,
        agents: Any,
        weights: RewardWeights,
        config: RolloutConfig,
        count: int,
        seed: int = 0,
    ):
        self._planner, self._config, self._agents, self._weights = planner, config, agents, weights
        self._episodes = sample_episodes(host, count, config.horizon, seed)
        self._bank = host.bank
        self._rollout: Rollout | None = None

    def __call__(self, params: Any) -> dict[str, float]:
        """Means over the episodes.

        Args:
            params: of the network.

        Returns:
            "score": discounted reward over the first plan's time and on; "progress" [m], "log_distance" [m], and shares
            of the episodes with collisions, those at fault, off the road, over red lights.
        """
        policy = Planner(jax.tree.map(np.asarray, params), self._planner)
        if self._rollout is None:
            self._rollout = Rollout(self._config, self._agents, policy)
            self._bank = self._rollout.put(self._bank)
        self._rollout.policy = policy
        result = self._rollout(self._bank, self._episodes, self._weights)
        figures = {
            "score": float(np.mean(result.reward)),
            "progress": float(np.mean(result.progress)),
            "log_distance": float(np.mean(result.log_distance)),
        }
        happened = np.asarray(result.happened)
        return figures | {name: float(((happened & int(event)) != 0).mean()) for name, event in _TOLD.items()}
