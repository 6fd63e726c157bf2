"""Closed-loop driving of scenes by a policy: metrics of each, and what a viewer needs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perlsim.bank import COS, SIN, STEP, VALID, X, Y
from perlsim.bank_build import agent_order
from perlsim.evaluation.scenes import Bucket, EvalScene
from perlsim.metrics.displacement import average_error, final_error
from perlsim.metrics.margins import margins
from perlsim.sim.rollout import Episodes, RolloutConfig
from perlsim.sim.types import DOUBTS, Event
from perlsim.trace import EGO_X, EGO_Y, OverEpisodes, Trace, Tracer

# Events that tell no story: doubts about a step, and the end of the log.
_SILENT = DOUBTS | Event.LOG_ENDED
# Metrics that are shares of scenes in which something happened.
RATES = {
    "collision": Event.COLLISION,
    "at_fault_collision": Event.AT_FAULT,
    "off_road": Event.OFF_ROAD,
    "red_light": Event.RED_LIGHT,
}


class ClosedLoop:
    """Compiled closed-loop runs of one policy.

    Args:
        config: of the rollouts.
        agents: agent model.
        policy: ego policy.
    """

    def __init__(self, config: RolloutConfig, agents: Any, policy: Any):
        self.config = config
        self._tracer = Tracer(config, agents, policy)
        self.put = self._tracer.put
        self._measure = OverEpisodes(partial(_measured, config.horizon))

    def run(
        self, bucket: Bucket, bank: Any, seed: int
    ) -> Iterator[tuple[EvalScene, dict, Trace, np.ndarray]]:
        """Drives the scenes of a bucket.

        Args:
            bucket: the scenes.
            bank: its bank, on the devices.
            seed: of all randomness.

        Yields:
            For each scene: itself, its metrics (NaN where not available), its trace, and the log's ego
            ``[T, 3]``: x, y, heading; NaN where it is absent.
        """
        count, size = len(bucket.scenes), self._tracer.batch
        for begin in range(0, count, size):
            # The last batch is filled up, so that all share one program.
            chosen = np.arange(begin, begin + size) if count > size else np.arange(count)
            episodes = Episodes(*(np.asarray(field)[chosen % count] for field in bucket.episodes))
            trace = self._tracer(bank, episodes, seed)
            metrics, log_ego = self._measure(bank, (episodes, trace))
            for k, scene in enumerate(bucket.scenes[begin : begin + size]):
                own = {name: float(values[k]) for name, values in metrics.items()}
                yield scene, _only_where_known(scene, own), trace.episode(k), log_ego[k]


def _measured(horizon: int, bank, episode) -> tuple[dict[str, jax.Array], jax.Array]:
    """Metrics of one episode, and the log's ego."""
    (idx, start, _), trace = episode
    happened = trace.events
    live = ~happened.over
    events = jax.lax.reduce(jnp.where(live, happened.events, 0), jnp.int32(0), jax.lax.bitwise_or, (0,))
    steps = start + jnp.arange(horizon + 1)
    logged = bank.tracks[idx, jnp.minimum(steps, bank.num_steps[idx] - 1), :, 0]
    valid = (logged[:, VALID] > 0) & (steps < bank.num_steps[idx])
    place = jnp.stack([logged[:, X], logged[:, Y]], 1)
    driven = trace.ego[:, EGO_X : EGO_Y + 1]
    # Steps after the end of an episode do not count as being there.
    there = jnp.where(jnp.arange(trace.agents.shape[1])[None, :, None] == VALID, live[:, None, None], True)
    close = margins(jnp.where(there, trace.agents, 0.0), bank.boxes[idx])
    last_live = jnp.sum(live) - 1
    metrics = {name: ((events & int(event)) != 0).astype(jnp.float32) for name, event in RATES.items()}
    metrics |= {
        "route_progress": happened.route_arc[last_live] - happened.route_arc[0],
        "ade": average_error(driven[1:], place[1:], valid[1:]),
        "fde": final_error(driven[1:], place[1:], valid[1:]),
        "min_ttc": close.min_time_to_collision,
        "hard_brakes_forced": close.hard_brakes_forced.astype(jnp.float32),
    }
    heading = jnp.arctan2(logged[:, SIN], logged[:, COS])
    log_ego = jnp.where(valid[:, None], jnp.concatenate([place, heading[:, None]], 1), jnp.nan)
    return metrics, log_ego


def _only_where_known(scene: EvalScene, metrics: dict[str, float]) -> dict[str, float]:
    """NaN for what the log cannot tell."""
    if not len(scene.scenario.road.edges):
        metrics["off_road"] = float("nan")
    if "lights" in scene.scenario.missing:
        metrics["red_light"] = float("nan")
    return metrics


def story(
    scene: EvalScene, metrics: dict[str, Any], trace: Trace, log_ego: np.ndarray, replan_every: int
) -> dict:
    """What a viewer shows beside the tracks of a rollout, JSON; see `perlsim.runs`."""
    order = agent_order(scene.scenario)
    ids = scene.scenario.tracks.ids
    happened, plans = trace.events, trace.plans
    assert happened is not None and plans is not None
    events = []
    for t in np.flatnonzero(~happened.over & ((happened.begun & ~int(_SILENT)) != 0)):
        hit = int(happened.hit_agent[t])
        for event in Event:
            if happened.begun[t] & int(event & ~_SILENT):
                by = ids[order[hit]] if hit >= 0 and _is_contact(event) else None
                events.append({"t": _rounded(t * STEP), "kind": str(event.name), "agent": by})
    return {
        "scene_id": scene.scene_id,
        "metrics": metrics,
        "events": events,
        "plans": [
            {
                "t": _rounded(k * replan_every * STEP),
                "path": _rounded(_in_scenario_frame(np.asarray(plans.path[k]), np.asarray(plans.anchor[k]))),
                "speed": _rounded(plans.target_speed[k]),
            }
            for k in range(len(plans.anchor))
        ],
        "log_ego": [None if np.isnan(row).any() else _rounded(row, 3) for row in log_ego],
    }


def _is_contact(event: Event) -> bool:
    contacts = Event.COLLISION | Event.AT_FAULT | Event.HIT_VEHICLE | Event.HIT_PEDESTRIAN | Event.HIT_STATIC
    return bool(event & contacts)


def _in_scenario_frame(path: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    x, y, cos, sin = anchor
    return np.stack([x + path[:, 0] * cos - path[:, 1] * sin, y + path[:, 0] * sin + path[:, 1] * cos], 1)


def _rounded(values: Any, digits: int = 2) -> Any:
    """Numbers as Python's, to the given digits: a page of rollouts is mostly digits."""
    return np.round(np.asarray(values, np.float64), digits).tolist()
