"""PDMS and EPDMS of candidate trajectories of one scene: pure, for callers to vmap, shard and compile.

Definitions: FACTS §5, after NAVSIM's public code (v1 for PDMS, v2 for EPDMS). Where the bank's map is not nuPlan's:
lanes are the places within half a lane's width of a centre line; a lane counts as oncoming where it runs against the
heading; the centre line to keep is the route; a red light is crossed where the front passes its stop line.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from perlsim.bank import STEP, Scene
from perlsim.geometry.boxes import Box
from perlsim.metrics.pdm.comfort import comfort, extended_comfort
from perlsim.metrics.pdm.contact import contacts
from perlsim.metrics.pdm.road import (
    crosses_red_light,
    driving_direction,
    first_time,
    heights,
    knows_lights,
    lane_keeping,
    lanes_under,
    leaves_road,
    route_arc,
)
from perlsim.metrics.pdm.tracking import drive_candidates, history_of
from perlsim.metrics.pdm.types import Driven, PdmConfig, PdmScore, Previous, SubScore
from perlsim.sim.types import Pose

# Progress [m] up to which nobody had anywhere to go: everyone's counts in full.
LEAST_PROGRESS = 5.0


def score_candidates(
    config: PdmConfig,
    scene: Scene,
    ego: Pose,
    past: jax.Array,
    candidates: jax.Array,
    agents: jax.Array,
    lights: jax.Array,
    reference_progress: jax.Array,
    *,
    previous: Previous | None = None,
    human: PdmScore | None = None,
) -> PdmScore:
    """Scores of candidate trajectories; one candidate's never depends on the others.

    Args:
        config: static choices.
        scene: the scene.
        ego: box centre at the start, scenario frame.
        past: ``[P, 4]``: x, y [m], cos and sin of the ego's box centre in the P steps of 0.1 s before the start,
            newest last, scenario frame; cos = sin = 0 where unknown (`perlsim.sim.core.logged_past`, slot 0). NAVSIM's
            history is 1.5 s. Without it history comfort is unknown and the ego starts unaccelerated.
        candidates: ``[N, H, 3]``: x forward, y left [m], heading [rad] of the rear axle in the frame of the rear axle
            at the start, every 0.1 s from 0.1 s on (see `every_step` for other spacings).
        agents: ``[≥ H + 1, 8, A]``, rows of the other road users in the layout of the bank from the start on; slot 0
            is nobody. Rows beyond H serve time to collision (`PdmConfig.extra_steps`).
        lights: int8 ``[H + 1, L]``, `LightState` from the start on.
        reference_progress: m along the route that PDM-Closed (or whoever sets the standard) makes; 0 where it fails
            a multiplier; NaN without one: every candidate is then its own standard, and its progress counts in full.
        previous: the plan before, for extended comfort.
        human: score of the human driver (``[]`` or ``[1]``), for EPDMS's filter: what the human fails, with score 0,
            no candidate fails.

    Returns:
        Scores ``[N]``; NaN for what the scene lacks the inputs of, and for candidates that are not finite.
    """
    bank, idx = scene.bank, scene.idx
    sizes, chassis = bank.boxes[idx], bank.chassis[idx]
    wheelbase, rear_axle = chassis[0], chassis[1]
    history = history_of(ego, past, rear_axle)
    driven = drive_candidates(config, ego, history, wheelbase, rear_axle, candidates)
    z = heights(scene, driven, ego.z)
    knows_lanes = bank.has_lanes[idx]
    collided = contacts(config, scene, driven, z, agents, knows_lanes)
    box = Box(
        driven.x,
        driven.y,
        driven.cos,
        driven.sin,
        jnp.broadcast_to(sizes[0, 0], driven.x.shape),
        jnp.broadcast_to(sizes[1, 0], driven.x.shape),
    )
    off_time = first_time(leaves_road(scene, box, z))
    off_time = jnp.where(bank.has_edges[idx], off_time, jnp.inf)
    drivable = _where_known(bank.has_edges[idx], jnp.isinf(off_time))
    comfortable, comfort_time = comfort(driven, rear_axle, 0.0)
    start_arc = route_arc(scene, ego.x[None], ego.y[None])[0]
    progress = jnp.maximum(route_arc(scene, driven.x[-1], driven.y[-1]) - start_arc, 0.0)
    progress = jnp.where(bank.has_ego[idx], progress, jnp.nan)
    multiplier = collided.no_at_fault * drivable
    ego_progress = _progress_share(progress, multiplier, reference_progress)
    pdms = multiplier * (5 * ego_progress + 5 * collided.time_to_collision + 2 * comfortable) / 12

    unknown, never = jnp.full(progress.shape, jnp.nan), jnp.full(progress.shape, jnp.inf)
    score = PdmScore(
        no_at_fault_collisions=collided.no_at_fault,
        drivable_area_compliance=drivable,
        driving_direction_compliance=unknown,
        traffic_light_compliance=unknown,
        ego_progress=ego_progress,
        time_to_collision=collided.time_to_collision,
        lane_keeping=unknown,
        history_comfort=unknown,
        comfort=comfortable,
        extended_comfort=unknown,
        pdms=pdms,
        epdms=unknown,
        progress=progress,
        failure_time=jnp.zeros((progress.shape[0], len(SubScore))),
        hit_agent=collided.hit_agent,
        ttc_agent=collided.ttc_agent,
        extended_progress=unknown,
    )
    times = {
        SubScore.NO_AT_FAULT_COLLISIONS: collided.collision_time,
        SubScore.DRIVABLE_AREA_COMPLIANCE: off_time,
        SubScore.TIME_TO_COLLISION: collided.ttc_time,
        SubScore.COMFORT: comfort_time,
    }
    if config.extended:
        score, more = _extended(config, scene, score, driven, history, z, lights, start_arc, previous)
        times |= more
        score = _with_total(score, reference_progress, human, previous is not None)
    score = _where_usable(score, jnp.isfinite(candidates).all((1, 2)) & bank.has_ego[idx])
    return score._replace(failure_time=jnp.stack([times.get(part, never) for part in SubScore], 1))


def _where_usable(score: PdmScore, usable: jax.Array) -> PdmScore:
    """The scores, NaN for candidates ``[N]`` that are not numbers or nobody's."""
    kept = score._asdict()
    for name, value in kept.items():
        if value.ndim == 1 and jnp.issubdtype(value.dtype, jnp.floating):
            kept[name] = jnp.where(usable, value, jnp.nan)
    return PdmScore(**kept)


def _extended(
    config: PdmConfig,
    scene: Scene,
    score: PdmScore,
    driven: Driven,
    history: Driven,
    z: jax.Array,
    lights: jax.Array,
    start_arc: jax.Array,
    previous: Previous | None,
) -> tuple[PdmScore, dict]:
    """Adds the sub-scores of EPDMS, and the times of their failures."""
    bank, idx = scene.bank, scene.idx
    rear_axle, knows_lanes = bank.chassis[idx, 1], bank.has_lanes[idx]
    under = lanes_under(scene, driven.x, driven.y, driven.cos, driven.sin, z)
    direction, direction_time = driving_direction(driven, under.oncoming)
    keeping, keeping_time = lane_keeping(scene, driven, under.in_junction, start_arc)
    crossing_time = first_time(
        crosses_red_light(scene, lights[: driven.x.shape[0]], driven, bank.boxes[idx, 0, 0], z)
    )
    count = driven.x.shape[1]
    with_past = jax.tree.map(
        lambda before, plan: jnp.concatenate([jnp.broadcast_to(before[:-1], (len(before) - 1, count)), plan]),
        history,
        driven,
    )
    steps_before = history.x.shape[0] - 1
    history_comfort, history_time = comfort(with_past, rear_axle, -STEP * steps_before)
    change = jnp.full(count, jnp.nan)
    if not steps_before:
        history_comfort, history_time = change, jnp.full(count, jnp.inf)
    if previous is not None:
        before = history_of(previous.ego, previous.past, rear_axle)
        plan = drive_candidates(
            config, previous.ego, before, bank.chassis[idx, 0], rear_axle, previous.plan[None]
        )
        change = extended_comfort(driven, plan, config.replan_steps)
    lit, on_route = knows_lights(scene), knows_lanes & bank.has_ego[idx]
    score = score._replace(
        driving_direction_compliance=_where_known(knows_lanes, direction),
        traffic_light_compliance=_where_known(lit, jnp.isinf(crossing_time)),
        lane_keeping=_where_known(on_route, keeping),
        history_comfort=history_comfort,
        extended_comfort=change,
    )
    return score, {
        SubScore.DRIVING_DIRECTION_COMPLIANCE: jnp.where(knows_lanes, direction_time, jnp.inf),
        SubScore.TRAFFIC_LIGHT_COMPLIANCE: jnp.where(lit, crossing_time, jnp.inf),
        SubScore.LANE_KEEPING: jnp.where(on_route, keeping_time, jnp.inf),
        SubScore.HISTORY_COMFORT: history_time,
        SubScore.EXTENDED_COMFORT: jnp.where(change == 0, 0.0, jnp.inf),
    }


def _with_total(
    score: PdmScore, reference_progress: jax.Array, human: PdmScore | None, has_previous: bool
) -> PdmScore:
    """Adds EPDMS, with the progress that counts in it."""
    multiplier = (
        score.no_at_fault_collisions
        * score.drivable_area_compliance
        * score.driving_direction_compliance
        * score.traffic_light_compliance
    )
    share = _progress_share(score.progress, multiplier, reference_progress)
    score = score._replace(extended_progress=share)
    return score._replace(epdms=extended_total(score, human, has_previous))


def extended_total(score: PdmScore, human: PdmScore | None = None, with_change: bool = True) -> jax.Array:
    """EPDMS from its sub-scores.

    Args:
        score: sub-scores.
        human: those of the human driver, for the filter.
        with_change: whether extended comfort counts; the weights sum to 16 with it, to 14 without.
    """

    def part(name: str) -> jax.Array:
        own = getattr(score, name)
        return own if human is None else jnp.where(getattr(human, name) == 0, 1.0, own)

    multiplier = (
        part("no_at_fault_collisions")
        * part("drivable_area_compliance")
        * part("driving_direction_compliance")
        * part("traffic_light_compliance")
    )
    weighted = 5 * part("extended_progress") + 5 * part("time_to_collision")
    weighted += 2 * part("lane_keeping") + 2 * part("history_comfort")
    if with_change:
        weighted += 2 * part("extended_comfort")
    return multiplier * weighted / (16 if with_change else 14)


def _progress_share(progress, multiplier, reference) -> jax.Array:
    """Ego progress: own over the larger of reference and own, both after the multipliers; 1 where that is small."""
    own = progress * multiplier
    most = jnp.where(jnp.isnan(reference), own, jnp.maximum(own, reference))
    share = jnp.where(most > LEAST_PROGRESS, jnp.clip(progress / jnp.maximum(most, 1e-6), 0.0, 1.0), 1.0)
    return jnp.where(jnp.isnan(own), jnp.nan, share)


def _where_known(known: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.where(known, value.astype(jnp.float32), jnp.nan)


def every_step(candidates: jax.Array, spacing: int = 5) -> jax.Array:
    """Candidates given every ``spacing`` steps of 0.1 s, such as NAVSIM's 8 poses 0.5 s apart, at every step.

    Positions and headings are interpolated linearly, headings the short way round, from the pose at the start (the
    origin of the ego frame) on.

    Args:
        candidates: ``[..., K, 3]``, poses at ``spacing``, ``2 · spacing``, … steps.
        spacing: steps of 0.1 s between poses.

    Returns:
        ``[..., K · spacing, 3]``.
    """
    candidates = jnp.asarray(candidates, jnp.float32)
    points = jnp.concatenate([jnp.zeros_like(candidates[..., :1, :]), candidates], -2)
    turn = points[..., 2]
    steps = jnp.mod(jnp.diff(turn, axis=-1) + jnp.pi, 2 * jnp.pi) - jnp.pi
    heading = jnp.concatenate([turn[..., :1], turn[..., :1] + jnp.cumsum(steps, -1)], -1)
    points = jnp.concatenate([points[..., :2], heading[..., None]], -1)
    share = (jnp.arange(spacing, dtype=jnp.float32)[:, None] + 1) / spacing
    between = points[..., :-1, None, :] * (1 - share) + points[..., 1:, None, :] * share
    return between.reshape(*candidates.shape[:-2], -1, 3)
