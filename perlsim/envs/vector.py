"""Many environments at once in gymnasium's interface: numpy in, numpy out, one compiled program between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from perlsim.bank import HostBank
from perlsim.envs.episodes import DRAWN, Episode, begin, chosen_of, flat_space
from perlsim.envs.functional import (
    DrivingEnv,
    EnvConfig,
    EnvParams,
    EnvState,
    info_of,
    on_data,
    select,
    start_info,
)
from perlsim.errors import PerlsimError

# Episodes that are begun in one call of the compiled program, when others are over.
_RENEWED_AT_ONCE = 64


class PerlsimVectorEnv(gymnasium.vector.VectorEnv):
    """`DrivingEnv` as a `gymnasium.vector.VectorEnv` with autoreset in the same step.

    Observations are flat float32 vectors. ``infos`` holds what the data
    sheet of `DrivingEnv` lists; where an episode is over, ``final_obs`` and ``final_info`` are its end, the
    rest is the beginning of the next, as gymnasium defines.

    Args:
        num_envs: number of environments.
        host: scenarios.
        config: static choices.
        params: keywords of `DrivingEnv.params`: agents, weights, noise.

    Raises:
        PerlsimError: as `DrivingEnv` and its `params`.
    """

    def __init__(self, num_envs: int, host: HostBank, config: EnvConfig | None = None, **params: Any):
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.env = DrivingEnv(config or EnvConfig())
        self.params = self.env.params(host, **params)
        self.single_observation_space = flat_space(self.env, self.params)
        self.single_action_space = self.env.action_space(self.params)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episodes: Episode | None = None
        self._state: EnvState | None = None
        self._begin = jax.jit(self._begin_all)
        self._merge = jax.jit(jax.vmap(select))
        self._look = jax.jit(self._look_all)
        self._step: Any = jax.jit(self._step_all, donate_argnames=("state",))
        self._replace = jax.jit(self._replace_some, donate_argnames=("state",))

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode in every environment.

        Args:
            seed: environment ``i`` gets ``seed + i``, or the ``i``-th of a sequence; where it is None, the
                environment goes on with the next episode of the seed it has.
            options: ``scenario_idx`` and ``start`` (one for all, or one each; −1 draws) choose the episodes;
                ``reset_mask``, bool ``[num_envs]``, resets those environments only.

        Returns:
            Observations ``[num_envs, F]``, infos.

        Raises:
            PerlsimError: options or seeds that make no sense.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not (mask.all() or self._state):
            raise PerlsimError(
                f"expected {self.num_envs} booleans, and a first reset of all", field="reset_mask"
            )
        numbers = self._numbered(seed, mask)
        episodes = Episode(*numbers, *chosen_of(options, self.params, self.num_envs))
        state = self._begin(self.params, episodes)
        if not mask.all():
            state = self._merge(mask, state, self._state)
        self._episodes, self._state = episodes, state
        observations, infos = self._look(self.params, state)
        return np.array(observations), _with_masks(infos, mask)

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one action in every environment.

        Args:
            actions: in ``action_space``.

        Returns:
            Observations ``[num_envs, F]``, rewards, terminated, truncated ``[num_envs]``, infos.

        Raises:
            PerlsimError: before the first reset.
        """
        if self._state is None or self._episodes is None:
            raise PerlsimError("step before reset", remedy="call reset first")
        actions = np.asarray(actions, self.action_space.dtype)
        self._state, *results = self._step(self.params, self._state, actions)
        seen, rewards, terminated, truncated, info = jax.tree.map(np.array, results)
        over = terminated | truncated
        infos = _with_masks(info, np.ones(self.num_envs, bool))
        if over.any():
            ends = np.full(self.num_envs, None, object)
            for idx in np.flatnonzero(over):
                ends[idx] = seen[idx].copy()
            infos |= {"final_obs": ends, "_final_obs": over}
            infos |= {"final_info": _with_masks(info, over), "_final_info": over}
            self._renew(over, seen, infos)
        return seen, rewards, terminated, truncated, infos

    @property
    def num_traces(self) -> int:
        """How often a step has been compiled."""
        return self._step._cache_size()

    def _numbered(
        self, seed: int | Sequence[int | None] | None, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Seeds and numbers of the episodes that a reset begins."""
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + i for i in range(self.num_envs)]
        given = [None] * self.num_envs if seed is None else list(seed)
        if len(given) != self.num_envs:
            raise PerlsimError(f"expected {self.num_envs} seeds, found {len(given)}", field="seed")
        if self._episodes is None:
            seeds = self.np_random.integers(2**32, size=self.num_envs, dtype=np.uint32)
            numbers = np.zeros(self.num_envs, np.int32)
        else:
            seeds, numbers = self._episodes.seed.copy(), self._episodes.number + mask.astype(np.int32)
        for idx, value in enumerate(given):
            if value is not None and mask[idx]:
                seeds[idx], numbers[idx] = value % 2**32, 0
        return seeds, numbers

    def _begin_all(self, params: EnvParams, episodes: Episode) -> EnvState:
        return jax.vmap(lambda episode: begin(self.env, episode, params))(episodes)

    def _flat(self, params: EnvParams, state: EnvState) -> jax.Array:
        return jax.vmap(lambda one: self.env.observe(one, params).flat())(state)

    def _look_all(self, params: EnvParams, state: EnvState) -> tuple[jax.Array, dict[str, jax.Array]]:
        return self._flat(params, state), jax.vmap(start_info)(state)

    def _renew(self, over: np.ndarray, seen: np.ndarray, infos: dict[str, Any]) -> None:
        """Begins the next episode where one is over; writes its first observations and infos into those given."""
        assert self._episodes is not None
        drawn = np.full(self.num_envs, DRAWN, np.int32)
        number = self._episodes.number + over.astype(np.int32)
        self._episodes = Episode(self._episodes.seed, number, drawn, drawn)
        # In groups of one size, so that a step costs what ends in it and there is one program. The last group is
        # filled up with an index out of range, which reads anything and writes nothing.
        size = min(_RENEWED_AT_ONCE, self.num_envs)
        indices = np.flatnonzero(over).astype(np.int32)
        for group in np.split(indices, range(size, len(indices), size)):
            padded = np.append(group, np.full(size - len(group), self.num_envs, np.int32))
            self._state, first, info = self._replace(self.params, self._state, self._episodes, padded)
            seen[group] = np.asarray(first)[: len(group)]
            for name, value in info.items():
                infos[name][group] = np.asarray(value)[: len(group)]

    def _step_all(self, params: EnvParams, state: EnvState, actions: jax.Array):
        driven = jax.vmap(self.env.drive, (0, 0, None))(state, actions, params)
        seen, info = self._flat(params, driven.state), jax.vmap(info_of)(driven)
        return driven.state, seen, driven.reward, driven.terminated, driven.truncated, info

    def _replace_some(self, params: EnvParams, state: EnvState, episodes: Episode, indices: jax.Array):
        own = jax.tree.map(lambda leaf: jnp.asarray(leaf)[indices], episodes)
        fresh = self._begin_all(params, own)
        state = on_data(lambda old, new: old.at[indices].set(new, mode="drop"), state, fresh)
        return state, *self._look_all(params, fresh)


def make(
    num_envs: int,
    *,
    store: str | Path | None = None,
    split: str | None = None,
    max_agents: int | None = None,
    config: EnvConfig | None = None,
    agents: str = "log",
    reward: str = "perlad",
    **params: Any,
) -> PerlsimVectorEnv:
    """A vector environment over a store, or over embedded synthetic logs.

    Args:
        num_envs: number of environments.
        store: folder of a store; None makes embedded logs.
        split: of the store; None takes all.
        max_agents: slots for road users, those nearest to the ego's path; None takes as many as the fullest
            scenario needs.
        config: static choices.
        agents: name of the model of the other road users (`perlsim.sim.agents.agents_of`).
        reward: name of a preset (`perlsim.sim.reward.REWARDS`).
        params: further keywords of `DrivingEnv.params`: noise.

    Raises:
        PerlsimError: an unknown name, a store that is not one, no scenario with an ego.
    """
    from perlsim.bank_build import build_bank
    from perlsim.loading import load
    from perlsim.sim.agents import agents_of

    scenarios, _ = load(None if store is None else Path(store), split)
    model = agents_of(agents)
    host = build_bank(scenarios, max_agents=max_agents, agent_paths=model.requires_paths)
    return PerlsimVectorEnv(num_envs, host, config, agents=model, weights=reward, **params)


def _with_masks(infos: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """Infos as gymnasium batches them: beside each the mask of the environments that it is of."""
    infos = {name: np.where(mask, value, np.zeros_like(value)) for name, value in infos.items()}
    return infos | {f"_{name}": mask.copy() for name in infos}
