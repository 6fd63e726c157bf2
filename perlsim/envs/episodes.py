"""Which episode an environment runs: what gymnasium's seeds and options of `reset` mean here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from perlsim.bank import VALID
from perlsim.envs.functional import DrivingEnv, EnvParams, EnvState
from perlsim.errors import PerlsimError

# Means "draw it" among the scenarios and starts that a reset asks for.
DRAWN = -1


class Episode(NamedTuple):
    """Determines an episode; of one environment, or ``[num_envs]`` each.

    Attributes:
        seed: uint32.
        number: int32, counts the episodes since the seed was set.
        scenario_idx: int32, `DRAWN` to draw it with seed and number.
        start: int32 step of the log, `DRAWN` likewise.
    """

    seed: Any
    number: Any
    scenario_idx: Any
    start: Any


def begin(env: DrivingEnv, episode: Episode, params: EnvParams) -> EnvState:
    """The state at the start of one episode."""
    seeded = jax.random.fold_in(jax.random.key(episode.seed), episode.number)
    key, idx, start = env.draw(seeded, params)
    idx = jnp.where(episode.scenario_idx == DRAWN, idx, episode.scenario_idx)
    start = jnp.where(episode.start == DRAWN, start, episode.start)
    return env.begin(key, idx, start, params)


def chosen_of(
    options: Mapping[str, Any] | None, params: EnvParams, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scenarios and starts that the options of a reset name, int32 ``[count]`` each; `DRAWN` where none.

    Raises:
        PerlsimError: an unknown option, a scenario without an ego to drive, a step at which it is absent.
    """
    options = dict(options or {})
    idx = np.array(np.broadcast_to(options.pop("scenario_idx", DRAWN), count), np.int32)
    start = np.array(np.broadcast_to(options.pop("start", DRAWN), count), np.int32)
    if options:
        raise PerlsimError(
            f"unknown options {sorted(options)}",
            field="options",
            remedy="known: scenario_idx, start, reset_mask",
        )
    bank, first = params.bank, np.asarray(params.first_start)
    if bad := sorted(set(idx.tolist()) - {DRAWN, *np.asarray(params.usable).tolist()}):
        raise PerlsimError(f"scenarios {bad} have no ego that drives", field="scenario_idx")
    if ((idx == DRAWN) & (start != DRAWN)).any():
        raise PerlsimError(
            "a start is of a scenario, and none is named", field="start", remedy="add scenario_idx"
        )
    named = idx != DRAWN
    start = np.where(named & (start == DRAWN), first[idx], start).astype(np.int32)
    there = np.asarray(bank.tracks[idx, start, VALID, 0]) > 0
    if (bad := named & ((start < 0) | (start > np.asarray(bank.num_steps)[idx] - 2) | ~there)).any():
        raise PerlsimError(
            f"the ego does not drive on from steps {sorted(set(start[bad].tolist()))}", field="start"
        )
    return idx, start


def flat_space(env: DrivingEnv, params: EnvParams) -> spaces.Box:
    """The space of one flat observation (`perlsim.sim.observe.Observation.flat`)."""
    seen = jax.eval_shape(lambda key: env.reset(key, params)[0].flat(), jax.random.key(0))
    return spaces.Box(-np.inf, np.inf, seen.shape, np.float32)
