"""From features to the realism of a scene and of many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perlsim.metrics.realism.features import Features
from perlsim.metrics.realism.likelihood import log_likelihoods, once
from perlsim.metrics.realism.settings import GROUPS, RealismSettings
from perlsim.vocabulary import AgentType

Array = np.ndarray
# The challenge's class "vehicle"; only of these the object followed and red lights are looked at.
_VEHICLES = [int(k) for k in (AgentType.VEHICLE, AgentType.MOTORCYCLIST, AgentType.BUS, AgentType.TRUCK)]
_OF_VEHICLES = ("time_to_collision", "traffic_light_violation")


class SceneRealism(NamedTuple):
    """Realism of one scene.

    Attributes:
        scene_id: name of the scenario.
        likelihoods: of each feature, 0 to 1; NaN where it cannot be known.
        counts: logged values that each is a mean of.
        meta: mean of the known likelihoods by the weights of `Feature.weight`; NaN without any.
        coverage: share of the weights whose likelihoods are known.
        ade, min_ade: m, mean displacement of all rollouts, and of the best rollout of the scene.
        collision_rate, offroad_rate, red_light_rate: shares of simulated road users that ever did.
        num_agents: road users that were scored.
        num_distinct: rollouts that differ.
    """

    scene_id: str
    likelihoods: dict[str, float]
    counts: dict[str, int]
    meta: float
    coverage: float
    ade: float
    min_ade: float
    collision_rate: float
    offroad_rate: float
    red_light_rate: float
    num_agents: int
    num_distinct: int


class Realism(NamedTuple):
    """Realism of an agent model: means over the scenes in which each number is known, NaN where it is in none.

    Attributes:
        likelihoods: of each feature.
        counts: logged values behind each, of all scenes.
        num_scenes: scenes behind each.
        groups: means of the likelihoods of each of `GROUPS`, by their weights; NaN members are left out.
        meta: mean of the scenes' meta metrics.
        coverage: mean share of the weights whose likelihoods were known.
        ade, min_ade, collision_rate, offroad_rate, red_light_rate: means of the scenes' numbers.
        num_rollouts: rollouts of each scene.
        scenes: each scene.
        left_out: names of scenes that are too short, or in which no road user but the ego could be scored.
    """

    likelihoods: dict[str, float]
    counts: dict[str, int]
    num_scenes: dict[str, int]
    groups: dict[str, float]
    meta: float
    coverage: float
    ade: float
    min_ade: float
    collision_rate: float
    offroad_rate: float
    red_light_rate: float
    num_rollouts: int
    scenes: tuple[SceneRealism, ...]
    left_out: tuple[str, ...]


def score_scene(
    settings: RealismSettings,
    scene_id: str,
    logged: Features,
    simulated: Features,
    weights: Array,
    scored: Array,
    kind: Array,
    errors: Array,
) -> SceneRealism:
    """Scores one scene.

    Args:
        settings: features, bins and weights.
        scene_id: its name.
        logged: features ``[H, A]``.
        simulated: features ``[R, H, A]``.
        weights: ``[R]``, rollouts that each stands for.
        scored: bool ``[A]``, who counts.
        kind: `AgentType` ``[A]``.
        errors: ``[R, A]`` m, average displacement; NaN unknown.
    """
    # A logged road user is there where its distance to others is known, be it infinite.
    there = ~np.isnan(logged.distance_to_nearest_object) & scored
    is_vehicle = np.isin(kind, _VEHICLES)
    likelihoods, counts, ever = {}, {}, {}
    for feature in settings.features:
        log_values, values = getattr(logged, feature.name), getattr(simulated, feature.name)
        counted = there & is_vehicle if feature.name in _OF_VEHICLES else there
        if feature.once:
            log_values, values = once(log_values, counted), once(values, counted)
            ever[feature.name] = _weighted_mean(values[:, 0], weights)
        else:
            log_values = np.where(counted, log_values, np.nan)
        # An object infinitely far is one in the last bin.
        log_values, values = (np.minimum(v, feature.high) for v in (log_values, values))
        found = log_likelihoods(feature, log_values, values, weights)
        counts[feature.name] = int(np.isfinite(found).sum())
        likelihoods[feature.name] = float(np.exp(_mean(found)))
    meta, coverage = _meta(settings, likelihoods)
    errors = np.where(scored, errors, np.nan)
    of_rollout = [_mean(row) for row in errors]
    return SceneRealism(
        scene_id=scene_id,
        likelihoods=likelihoods,
        counts=counts,
        meta=meta,
        coverage=coverage,
        ade=_weighted_mean(errors, weights),
        min_ade=float(np.min(of_rollout)),
        collision_rate=ever.get("collision_indication", np.nan),
        offroad_rate=ever.get("offroad_indication", np.nan),
        red_light_rate=ever.get("traffic_light_violation", np.nan),
        num_agents=int(scored.sum()),
        num_distinct=len(weights),
    )


def summarise(
    settings: RealismSettings, scenes: list[SceneRealism], num_rollouts: int, left_out: list[str]
) -> Realism:
    """The realism over scenes."""
    names = [feature.name for feature in settings.features]
    likelihoods = {name: _mean([scene.likelihoods[name] for scene in scenes]) for name in names}
    weight = {feature.name: feature.weight for feature in settings.features}
    groups = {}
    for group, members in GROUPS.items():
        known = [name for name in members if name in weight and np.isfinite(likelihoods[name])]
        groups[group] = _weighted_mean(
            np.array([likelihoods[name] for name in known]), np.array([weight[name] for name in known])
        )
    means = {
        name: _mean([getattr(scene, name) for scene in scenes])
        for name in ("meta", "coverage", "ade", "min_ade", "collision_rate", "offroad_rate", "red_light_rate")
    }
    return Realism(
        likelihoods=likelihoods,
        counts={name: sum(scene.counts[name] for scene in scenes) for name in names},
        num_scenes={name: int(np.isfinite([s.likelihoods[name] for s in scenes]).sum()) for name in names},
        groups=groups,
        num_rollouts=num_rollouts,
        scenes=tuple(scenes),
        left_out=tuple(left_out),
        **means,
    )


def _meta(settings: RealismSettings, likelihoods: dict[str, float]) -> tuple[float, float]:
    """Weighted mean of the known likelihoods, and the share of the weights that they have."""
    weights = np.array([feature.weight for feature in settings.features])
    values = np.array([likelihoods[feature.name] for feature in settings.features])
    return _weighted_mean(values, weights), float(weights[np.isfinite(values)].sum() / weights.sum())


def _mean(values) -> float:
    """Mean of the known values; NaN where none is."""
    values = np.asarray(values, np.float64)
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _weighted_mean(values: Array, weights: Array) -> float:
    """Mean of the known values ``[N, ...]`` with a weight for each of the first axis; NaN where none is known."""
    weights = np.broadcast_to(weights.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
    known = np.isfinite(values)
    total = weights[known].sum()
    return float((weights[known] * values[known]).sum() / total) if total > 0 else float("nan")
