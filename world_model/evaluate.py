"""How good a world model is: forecasts, free rollouts, and whether it reacts to an ego that departs from its log.

The reactivity test is PerlAD's (arXiv 2603.14908: 166 of 200 egos are run into by logged road users, 147 by an
unconditioned prediction, 70 by a conditioned one): in scenes in which somebody follows the ego, the ego brakes, stops,
creeps or swerves, and it is counted in how many of them a road user's front meets it. In a rule-based world there is a
truth beside it: the same scene driven again by the rules with the departed ego.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, HostBank, ScenarioBank, Scene, X, Y
from perlsim.geometry.boxes import Box, box_gap, segment_touches_box
from perlsim.geometry.numerics import safe_norm
from perlsim.metrics.displacement import displacement
from perlsim.sim.everyone import everyone_outcome
from perlsim.sim.outcomes import STANDING_SPEED
from perlsim.sim.rollout import Episodes
from perlsim.sim.types import Event, has
from perlsim.trace import OverEpisodes, agents_along
from world_model.agents import WorldModelAgents
from world_model.data import NO_AUGMENTATION, SPAN, Sample, sample_at, starts_of
from world_model.departures import KINDS, departed_ego, draw_departure, logged_ego
from world_model.kinematics import MAX_ACCELERATION, SUBSTEPS
from world_model.losses import forecast
from world_model.model import WorldModel

# Who follows [S]: within this distance behind [m], about in the same lane [m] and direction, and moving [m/s].
_BEHIND, _BESIDE, _SAME_WAY, _MOVING = 30.0, 1.5, 0.9, 2.0
# The least speed of an ego whose departure means something [m/s].
_LEAST_SPEED = 3.0
# A road user farther than this from the ego is out of its reach [m]; one is affected by a departure if the truth moves
# it by this [m] in 3 s.
_REACH, _AFFECTED = 60.0, 1.0
_BINS = 10


def forecast_errors(
    agents: WorldModelAgents, others: dict[str, Any], bank: ScenarioBank, count: int, seed: int
):
    """Errors of forecasts over 3 s with the logged ego.

    Args:
        agents: the world model.
        others: agent models to compare with, by name.
        bank: unseen scenes, with what the others need.
        count: scenes.
        seed: of their choice.

    Returns:
        Figures by model: ``min_ade``, ``min_fde``, ``miss_rate`` (of all modes), ``top_ade`` (of the likeliest) and
        ``calibration_error`` (expected, of the probability that the likeliest mode is the best) of the world model;
        ``top_ade`` of the others. Means over road users, in m.
    """
    episodes = _drawn(starts_of(bank), count, seed)
    over = OverEpisodes(partial(_forecast_one, agents.config, tuple(others)))
    result = over((agents.params, others, over.put(bank), jax.random.key(seed)), episodes)
    counted = result.pop("counted")
    figures = {name: {"top_ade": float(result[name][counted].mean())} for name in others}
    own = {
        name: float(result[name][counted].mean()) for name in ("min_ade", "min_fde", "miss_rate", "top_ade")
    }
    own["calibration_error"] = _calibration_error(result["confidence"][counted], result["hit"][counted])
    return {"world_model": own} | figures


def _forecast_one(config, names, constants, episode) -> dict[str, jax.Array]:
    params, others, bank, key = constants
    idx, start, number = episode
    scene, key = Scene(bank, idx), jax.random.fold_in(key, number)
    sample_key, other_key = jax.random.split(key)
    sample = sample_at(config.network.observation, NO_AUGMENTATION, scene, start, sample_key)
    future = forecast(WorldModel(config), params, sample)
    predicted = jnp.stack([future.motion.x, future.motion.y], -1).transpose(2, 0, 1, 3)
    logged = jnp.stack([sample.future.x, sample.future.y], -1).transpose(1, 0, 2)
    valid = sample.future_valid.T
    errors = displacement(predicted, logged, valid)
    ade = jax.vmap(lambda one: displacement(one[:, None], logged, valid).ade, 1, 1)(predicted)
    likeliest = future.logits.argmax(-1)
    result = {
        "min_ade": errors.min_ade,
        "min_fde": errors.min_fde,
        "miss_rate": errors.missed.astype(jnp.float32),
        "top_ade": jnp.take_along_axis(ade, likeliest[:, None], 1)[:, 0],
        "confidence": jax.nn.softmax(future.logits).max(-1),
        "hit": ade.argmin(-1) == likeliest,
        "counted": valid.any(-1),
    }
    poses = logged_ego(scene, start, SPAN)
    for name in names:
        rows = agents_along(others[name], scene, start, poses, other_key)[SUBSTEPS::SUBSTEPS]
        result[name] = displacement(_of_sample(scene, sample, start, rows), logged, valid).ade
    return result


def _of_sample(scene: Scene, sample: Sample, start, rows: jax.Array) -> jax.Array:
    """Places ``[K, 1, S, 2]`` of the road users of a sample in rows ``[S, 8, A]``: found by where they began."""
    now = scene.agents_at(start)
    distance = (now[X] - sample.motion.x[:, None]) ** 2 + (now[Y] - sample.motion.y[:, None]) ** 2
    distance = jnp.where((now[VALID] > 0) & (jnp.arange(now.shape[1]) > 0), distance, jnp.inf)
    slots = distance.argmin(-1)
    return jnp.stack([rows[:, X][:, slots], rows[:, Y][:, slots]], -1).transpose(1, 0, 2)[:, None]


def _calibration_error(confidence: np.ndarray, hit: np.ndarray) -> float:
    """Expected calibration error: mean over bins of |share of hits − mean confidence|, weighted by their counts."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [
        abs(hit[bins == k].mean() - confidence[bins == k].mean()) * (bins == k).mean()
        for k in range(_BINS)
        if (bins == k).any()
    ]
    return float(sum(gaps))


def free_rollouts(models: dict[str, Any], bank: ScenarioBank, count: int, seed: int, horizon: int = 40):
    """What goes wrong when everyone but the ego is simulated and the ego repeats its log.

    Args:
        models: agent models by name.
        bank: unseen scenes, built with ``outcomes_for="all"`` and what the models need.
        count: scenes.
        seed: of their choice.
        horizon: steps of 0.1 s.

    Returns:
        For each model the share of road users that collide with another one, that leave the road, and of
        accelerations beyond 8 m/s²; those who begin so are left out.
    """
    episodes = _drawn(starts_of(bank, span=horizon), count, seed)
    over = OverEpisodes(partial(_free_one, horizon))
    put = over.put(bank)
    figures = {}
    for name, agents in models.items():
        result = over((agents, put, jax.random.key(seed)), episodes)
        road_users, moments = result["present"].sum(), result["moments"].sum()
        figures[name] = {
            "collisions": float(result["collided"].sum() / road_users),
            "off_road": float(result["off_road"].sum() / road_users),
            "infeasible": float(result["infeasible"].sum() / moments),
        }
    return figures


def _free_one(horizon, constants, episode) -> dict[str, jax.Array]:
    agents, bank, key = constants
    idx, start, number = episode
    scene = Scene(bank, idx)
    rows = agents_along(
        agents, scene, start, logged_ego(scene, start, horizon), jax.random.fold_in(key, number)
    )
    rows = rows.at[:, VALID, 0].set(0.0)
    lights = scene.lights_at(start)

    def events_of(before, after):
        return everyone_outcome(scene, before, after, lights)[0]

    first = events_of(rows[0], rows[0])
    later = jax.lax.map(lambda pair: events_of(*pair), (rows[:-1], rows[1:]))
    present = rows[0, VALID] > 0
    result = {"present": present}
    for name, event in (("collided", Event.COLLISION), ("off_road", Event.OFF_ROAD)):
        result[name] = present & ~has(first, event) & has(later, event).any(0)
    acceleration, known = _accelerations(rows)
    return result | {
        "infeasible": ((acceleration > MAX_ACCELERATION + 0.1) & known).sum(),
        "moments": known.sum(),
    }


def _accelerations(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sizes of accelerations between steps ``[H, A]`` m/s², and whether both ends are known and simulated."""
    size = safe_norm(jnp.diff(rows[:, VX], axis=0), jnp.diff(rows[:, VY], axis=0)) / STEP
    there = rows[:, VALID] > 0
    return size[1:], (there[1:-1] & there[2:] & there[0]) & (jnp.arange(rows.shape[2]) > 0)


def followed(host: HostBank, count: int, seed: int, span: int = SPAN) -> Episodes:
    """Scenes in which somebody follows a moving ego: at most one more for each scenario than for any other.

    Args:
        host: the bank.
        count: most scenes.
        seed: of the choice.
        span: steps that have to be logged after the start.
    """
    tracks = np.asarray(host.bank.tracks)
    starts = starts_of(host.bank, 5, span)
    rows = tracks[starts.scenario_idx, starts.step]
    ego = rows[:, :, :1]
    dx, dy = rows[:, X] - ego[:, X], rows[:, Y] - ego[:, Y]
    along, across = dx * ego[:, COS] + dy * ego[:, SIN], dy * ego[:, COS] - dx * ego[:, SIN]
    same = rows[:, COS] * ego[:, COS] + rows[:, SIN] * ego[:, SIN] > _SAME_WAY
    follows = (rows[:, VALID] > 0) & (along < 0) & (along > -_BEHIND) & (np.abs(across) < _BESIDE) & same
    follows &= np.hypot(rows[:, VX], rows[:, VY]) > _MOVING
    fit = follows.any(1) & (np.hypot(ego[:, VX, 0], ego[:, VY, 0]) > _LEAST_SPEED)
    scenario, step = np.asarray(starts.scenario_idx)[fit], np.asarray(starts.step)[fit]
    order = np.random.default_rng(seed).permutation(len(scenario))
    turn = np.zeros(len(scenario), int)
    seen: dict[int, int] = {}
    for k in order:
        own = int(scenario[k])
        turn[k] = seen[own] = seen.get(own, -1) + 1
    chosen = order[np.argsort(turn[order], kind="stable")][:count]
    return Episodes(scenario[chosen], step[chosen], np.arange(len(chosen), dtype=np.int32))


def reactivity(
    models: dict[str, Any], truth: Any, host: HostBank, episodes: Episodes, seed: int, horizon: int = SPAN
) -> dict[str, dict[str, float]]:
    """How road users take it that the ego departs from its log.

    Args:
        models: agent models by name.
        truth: agent model that the scenes' world follows; its reaction is the truth.
        host: bank of unseen scenes, built with ``agent_paths=True`` if the truth needs it.
        episodes: scenes, such as `followed` gives.
        seed: of the departures.
        horizon: steps of 0.1 s.

    Returns:
        For each model: ``struck``, in how many scenes a road user runs into the departed ego; the same by kind of
        departure; ``ade`` against the truth [m] and that of the road users whom the departure affects;
        ``out_of_reach`` [m], the most that the departure moves anyone farther than 60 m away; ``infeasible``, the share
        of accelerations beyond 8 m/s².
    """
    over = OverEpisodes(partial(_react_one, horizon))
    bank = over.put(host.bank)
    figures = {}
    for name, agents in models.items():
        result = over((agents, truth, bank, jax.random.key(seed)), tuple(episodes))
        kind, struck = result["kind"], result["struck"]
        own = {"scenes": float(len(struck)), "struck": float(struck.sum())}
        own |= {f"struck_{label}": float(struck[kind == k].sum()) for k, label in enumerate(KINDS)}
        own |= {
            "ade": float(result["error"].sum() / result["counted"].sum()),
            "affected_ade": float(result["affected_error"].sum() / max(result["affected"].sum(), 1)),
            "out_of_reach": float(result["out_of_reach"].max()),
            "infeasible": float(result["infeasible"].sum() / result["moments"].sum()),
        }
        figures[name] = own
    return figures


def _react_one(horizon, constants, episode) -> dict[str, jax.Array]:
    agents, truth, bank, key = constants
    idx, start, number = episode
    scene = Scene(bank, idx)
    departure_key, agents_key = jax.random.split(jax.random.fold_in(key, number))
    departure = draw_departure(departure_key)
    away = departed_ego(scene, start, departure, horizon)
    logged = logged_ego(scene, start, horizon)
    rows, calm = (agents_along(agents, scene, start, poses, agents_key) for poses in (away, logged))
    true, true_calm = (agents_along(truth, scene, start, poses, agents_key) for poses in (away, logged))

    others = jnp.arange(rows.shape[2]) > 0
    known = (rows[1:, VALID] > 0) & (true[1:, VALID] > 0) & (rows[0, VALID] > 0) & others
    error = _apart(rows[1:], true[1:])
    reacts = scene.bank.agent_reacts[idx] if scene.bank.has_agent_paths else others
    counted = known.any(0) & reacts
    mean = jnp.where(known, error, 0.0).sum(0) / jnp.maximum(known.sum(0), 1)
    affected = counted & (_apart(true, true_calm)[-1] > _AFFECTED)
    far = jnp.minimum(_to_ego(rows), _to_ego(calm)).min(0) > _REACH
    acceleration, there = _accelerations(rows)
    return {
        "kind": departure.kind,
        "struck": runs_into_ego(scene, rows).any(),
        "error": jnp.where(counted, mean, 0.0).sum(),
        "counted": counted.sum(),
        "affected_error": jnp.where(affected, mean, 0.0).sum(),
        "affected": affected.sum(),
        "out_of_reach": jnp.where(known.any(0) & far, _apart(rows, calm).max(0), 0.0).max(),
        "infeasible": ((acceleration > MAX_ACCELERATION + 0.1) & there).sum(),
        "moments": there.sum(),
    }


def _apart(first: jax.Array, second: jax.Array) -> jax.Array:
    """Distances between the same road users in two courses of events, ``[H, A]`` m."""
    return safe_norm(first[:, X] - second[:, X], first[:, Y] - second[:, Y])


def _to_ego(rows: jax.Array) -> jax.Array:
    """Distances from the ego, ``[H, A]`` m."""
    return safe_norm(rows[:, X] - rows[:, X, :1], rows[:, Y] - rows[:, Y, :1])


def runs_into_ego(scene: Scene, rows: jax.Array) -> jax.Array:
    """Which road users run into the ego: their front meets it when they first touch, and they move, bool ``[A]``.

    Args:
        scene: the scene.
        rows: ``[H, 8, A]``, slot 0 the ego. Who touches it in the first of them does not count.
    """

    def of_step(rows):
        boxes = scene.agent_boxes(rows)
        ego = Box(*(field[:1] for field in boxes))
        touches = (box_gap(ego, boxes) < 0) & (rows[VALID] > 0) & (jnp.arange(rows.shape[1]) > 0)
        front_x = boxes.x + boxes.half_length * boxes.cos
        front_y = boxes.y + boxes.half_length * boxes.sin
        half_x, half_y = -boxes.half_width * boxes.sin, boxes.half_width * boxes.cos
        front = segment_touches_box(front_x, front_y, half_x, half_y, ego)
        moves = rows[VX] ** 2 + rows[VY] ** 2 > STANDING_SPEED**2
        return touches, touches & front & moves

    touches, hits = jax.vmap(of_step)(rows)
    first = touches & (jnp.cumsum(touches, 0) == 1)
    return (first & hits).any(0) & ~touches[0]


def _drawn(starts, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Episodes from random starts."""
    order = np.random.default_rng(seed).permutation(len(starts.step))[:count]
    numbers = np.arange(len(order), dtype=np.int32)
    return np.asarray(starts.scenario_idx)[order], np.asarray(starts.step)[order], numbers
