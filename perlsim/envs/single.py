"""One environment in gymnasium's interface, for its checkers, its wrappers and a first look."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import numpy as np

from perlsim.bank import HostBank
from perlsim.envs.episodes import Episode, begin, chosen_of, flat_space
from perlsim.envs.functional import DrivingEnv, EnvConfig, EnvState, info_of, start_info
from perlsim.errors import PerlsimError


class PerlsimEnv(gymnasium.Env):
    """`DrivingEnv` as a `gymnasium.Env`, without autoreset; see `perlsim.envs.vector` for many at once.

    Args:
        host: scenarios.
        config: static choices.
        params: keywords of `DrivingEnv.params`: agents, weights, noise.

    Raises:
        PerlsimError: as `DrivingEnv` and its `params`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it so

    def __init__(self, host: HostBank, config: EnvConfig | None = None, **params: Any):
        self.env = DrivingEnv(config or EnvConfig())
        self.params = self.env.params(host, **params)
        self.observation_space = flat_space(self.env, self.params)
        self.action_space = self.env.action_space(self.params)
        self._episode: Episode | None = None
        self._state: EnvState | None = None
        self._begin = jax.jit(self._begin_one)
        self._step = jax.jit(self._step_one)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode; seed and options as of `perlsim.envs.vector.PerlsimVectorEnv.reset`, for one."""
        super().reset(seed=seed)
        idx, start = chosen_of(options, self.params, 1)
        if seed is not None:
            numbered = np.uint32(seed % 2**32), np.int32(0)
        elif self._episode is None:
            numbered = self.np_random.integers(2**32, dtype=np.uint32), np.int32(0)
        else:
            numbered = self._episode.seed, np.int32(self._episode.number + 1)
        self._episode = Episode(*numbered, idx[0], start[0])
        observation, self._state, info = self._begin(self.params, self._episode)
        return np.array(observation), _plain(info)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes one action.

        Raises:
            PerlsimError: before the first reset.
        """
        if self._state is None:
            raise PerlsimError("step before reset", remedy="call reset first")
        action = np.asarray(action, self.action_space.dtype)
        seen, self._state, reward, terminated, truncated, info = self._step(self.params, self._state, action)
        return np.array(seen), float(reward), bool(terminated), bool(truncated), _plain(info)

    def _begin_one(self, params, episode):
        state = begin(self.env, episode, params)
        return self.env.observe(state, params).flat(), state, start_info(state)

    def _step_one(self, params, state, action):
        driven = self.env.drive(state, action, params)
        seen = self.env.observe(driven.state, params).flat()
        return seen, driven.state, driven.reward, driven.terminated, driven.truncated, info_of(driven)


def _plain(info: dict[str, jax.Array]) -> dict[str, Any]:
    return {name: np.asarray(value)[()] for name, value in info.items()}
