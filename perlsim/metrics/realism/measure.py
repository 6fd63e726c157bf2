"""Measures how real an agent model's traffic is."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import STEP, VALID, HostBank, Scene
from perlsim.bank_build import build_bank
from perlsim.errors import PerlsimError
from perlsim.loading import group
from perlsim.metrics.displacement import average_error
from perlsim.metrics.realism.edges import EdgeDistance
from perlsim.metrics.realism.features import LEAD_IN, Features, features_of, with_edges
from perlsim.metrics.realism.score import Realism, SceneRealism, score_scene, summarise
from perlsim.metrics.realism.settings import RealismSettings
from perlsim.metrics.realism.simulate import distinct, logged_of, rollout_of
from perlsim.scenario import Scenario
from perlsim.sim.agents import agents_of
from perlsim.vocabulary import AgentType, LightState

# Rollouts simulated at once: bounds the memory at some hundred MB for the largest scenes.
_CHUNK = 8


def realism_of(
    scenarios: Iterable[Scenario],
    agents_name: str,
    num_rollouts: int = 32,
    seed: int = 0,
    settings: RealismSettings | None = None,
) -> Realism:
    """Realism of the agent model of a name, see `realism`.

    Raises:
        PerlsimError: an unknown name (`perlsim.sim.agents.agents_of`).
    """
    return realism(scenarios, agents_of(agents_name), num_rollouts, seed, settings)


def realism(
    scenarios: Iterable[Scenario],
    agents: Any,
    num_rollouts: int = 32,
    seed: int = 0,
    settings: RealismSettings | None = None,
) -> Realism:
    """How likely the logs are under an agent model, in the manner of the Waymo Open Sim Agents Challenge.

    Every road user but the ego that is there at `RealismSettings.start` is simulated ``num_rollouts`` times for 8 s and
    scored where the log knows it; static obstacles are not scored. See `docs/scores.md` for how this differs from the
    challenge.

    Args:
        scenarios: finalized scenarios, with or without an ego.
        agents: agent model (`perlsim.sim.agents.AgentModel`).
        num_rollouts: of each scene.
        seed: keys all randomness, with the place of a scene among ``scenarios`` and the number of a rollout.
        settings: None takes those of the challenge of 2025.

    Raises:
        PerlsimError: no rollouts, a start without history, or no scenario is long enough.
    """
    settings = settings or RealismSettings()
    if num_rollouts < 1:
        raise PerlsimError(f"{num_rollouts} rollouts", field="num_rollouts", remedy="take at least 1")
    if settings.start < LEAD_IN - 1:
        raise PerlsimError(
            f"a start at step {settings.start} leaves no history for differences",
            field="start",
            remedy=f"start at step {LEAD_IN - 1} or later",
        )
    scenarios = list(scenarios)
    places = {id(scenario): place for place, scenario in enumerate(scenarios)}
    enough = [scenario for scenario in scenarios if _long_enough(settings, scenario)]
    left_out = [scenario.scenario_id for scenario in scenarios if not _long_enough(settings, scenario)]
    if not enough:
        needed = (settings.start + settings.horizon) * STEP
        raise PerlsimError(
            f"none of {len(scenarios)} scenarios is about {needed:g} s long",
            remedy="choose longer ones, or a shorter horizon",
        )
    found: dict[int, SceneRealism] = {}
    key = jax.random.key(seed)
    for bucket in group(enough, None):
        host = build_bank(bucket, observed_pieces=None, agent_paths=agents.requires_paths)
        bank = jax.device_put(host.bank)
        for idx, scenario in enumerate(bucket):
            place = places[id(scenario)]
            keys = jax.random.split(jax.random.fold_in(key, place), num_rollouts)
            scene = _one_scene(settings, agents, scenario, host, Scene(bank, jnp.int32(idx)), keys)
            if scene is None:
                left_out.append(scenario.scenario_id)
            else:
                found[place] = scene
    return summarise(settings, [found[place] for place in sorted(found)], num_rollouts, left_out)


def _long_enough(settings: RealismSettings, scenario: Scenario) -> bool:
    # Logs of 91 steps are a little shorter than 9 s where they are not sampled at exactly 10 Hz.
    return scenario.duration > (settings.start + settings.horizon - 1) * STEP


def _one_scene(
    settings: RealismSettings, agents: Any, scenario: Scenario, host: HostBank, scene: Scene, keys: jax.Array
) -> SceneRealism | None:
    """Realism of one scene; None where nobody can be scored."""
    start, horizon = jnp.int32(settings.start), settings.horizon
    logged = np.asarray(_logged(horizon, scene, start))
    sizes = np.asarray(scene.bank.boxes[scene.idx])
    there = logged[LEAD_IN:, VALID] > 0
    scored = _scored(settings, logged, sizes[2])
    if not scored.any():
        return None
    chunks = [keys[first : first + _CHUNK] for first in range(0, len(keys), _CHUNK)]
    rollouts = np.concatenate(
        [np.asarray(_simulated(horizon, agents, scene, start, part)) for part in chunks]
    )
    which, weights = distinct(rollouts)
    rollouts = rollouts[which]
    edges = EdgeDistance(scenario.road.edges) if len(scenario.road.edges) else None
    lights = bool((scenario.lights.state != LightState.UNKNOWN).any())

    def features(tracks: np.ndarray) -> Features:
        found = jax.tree.map(np.asarray, _features(scene, start, tracks))
        if not lights:
            found = found._replace(
                traffic_light_violation=np.full_like(found.traffic_light_violation, np.nan)
            )
        return with_edges(found, edges, tracks[LEAD_IN:], sizes)

    simulated = Features(*map(np.stack, zip(*map(features, rollouts), strict=True)))
    errors = _average_error(
        jnp.asarray(rollouts[:, LEAD_IN:, :2].transpose(0, 3, 1, 2)),
        jnp.asarray(logged[LEAD_IN:, :2].transpose(2, 0, 1)),
        jnp.asarray(there.T),
    )
    return score_scene(
        settings,
        scenario.scenario_id,
        features(logged),
        simulated,
        weights,
        scored,
        sizes[2],
        np.asarray(errors),
    )


def _scored(settings: RealismSettings, logged: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Who counts, bool ``[A]``: see `realism` and `RealismSettings.least_driven`."""
    future = logged[LEAD_IN - 1 :]
    there = future[:, VALID] > 0
    moved = np.hypot(*np.diff(future[:, :2], axis=0).swapaxes(0, 1))
    driven = (moved * (there[1:] & there[:-1])).sum(0)
    scored = there[0] & there[1:].any(0) & (driven >= settings.least_driven) & (kind != AgentType.STATIC)
    scored[0] = False
    return scored


@partial(jax.jit, static_argnums=0)
def _logged(horizon: int, scene: Scene, start: jax.Array) -> jax.Array:
    return logged_of(horizon, scene, start)


@partial(jax.jit, static_argnums=0)
def _simulated(horizon: int, agents: Any, scene: Scene, start: jax.Array, keys: jax.Array) -> jax.Array:
    return jax.vmap(partial(rollout_of, agents, horizon, scene, start))(keys)


_features = jax.jit(features_of)
_average_error = jax.jit(average_error)
