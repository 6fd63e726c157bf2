"""Judges a drive along a route, step by step, by the criteria of CARLA's Leaderboard 2 in Bench2Drive's version.

Constants are those of that public evaluation (FACTS, metrics). Steps are of 0.1 s, where the Leaderboard judges every
0.05 s. What vector worlds lack, such as walls and poles to collide with, cannot be hit.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.bank import LANE_HALF_WIDTH, STEP, VALID, VX, VY, Scene
from perlsim.geometry.boxes import Box
from perlsim.geometry.cells import (
    HEIGHT,
    LEVEL_HEIGHT,
    lookup,
    nearest_on_segment,
    segments_of_cell,
    signed_edge_distance,
)
from perlsim.geometry.numerics import safe_norm
from perlsim.sim.outcomes import overlapping, stop_line_events
from perlsim.sim.types import Event, Outcome, SimState, has
from perlsim.vocabulary import AgentType
from perlsim.worlds.suite.scene import MAX_STEPS

# A route is completed beyond this share of it, this near [m] to its end.
COMPLETE_SHARE, COMPLETE_DISTANCE = 0.99, 10.0
# The same road user within this time [s], or any within this distance [m] of the last collision, is ignored; no
# collision counts at a lower speed of the ego [m/s].
SAME_TIME, SAME_PLACE, LEAST_SPEED = 5.0, 5.0, 0.1
# A red light is run when this point of the ego, a share of its half length ahead of the centre, crosses the line: who
# stops with the tail before it has not run it.
TAIL = -0.8
# The ego's centre may be this far [m] outside the lanes.
ALLOWED_OUTSIDE = 0.5
# Stretches of the route over which speeds are compared with the traffic's (Bench2Drive).
CHECKPOINTS = 20
# The last one counts if this share of the route was driven.
LAST_CHECKPOINT = 0.95


class Infraction(IntFlag):
    """What counts against a drive in a step."""

    PEDESTRIAN = 1 << 0
    VEHICLE = 1 << 1
    LAYOUT = 1 << 2
    RED_LIGHT = 1 << 3
    STOP_SIGN = 1 << 4
    OUTSIDE = 1 << 5


class Status(IntEnum):
    """How a drive ended."""

    RUNNING = 0
    COMPLETED = 1
    DEVIATED = 2
    BLOCKED = 3
    OUT_OF_TIME = 4
    BROKEN = 5
    """A pose that is not a finite number."""


class Judged(NamedTuple):
    """What the criteria remember of one drive.

    Attributes:
        status: int32 `Status`.
        steps: int32, steps until it ended.
        best_arc: m, farthest place on the route.
        driven: m.
        outside: m of it outside the lanes.
        hit, hit_time, hit_x, hit_y: slot (−1 none), step and place [m] of the last collision.
        speeds: ``[3, CHECKPOINTS]``: sums of the ego's speed and of the traffic's mean speed [m/s] in each stretch of
            the route, over the steps at which there was traffic, and the number of these steps.
    """

    status: jax.Array
    steps: jax.Array
    best_arc: jax.Array
    driven: jax.Array
    outside: jax.Array
    hit: jax.Array
    hit_time: jax.Array
    hit_x: jax.Array
    hit_y: jax.Array
    speeds: jax.Array


class Seen(NamedTuple):
    """What a step shows: int32 `Infraction` set, int32 slot of the collision (−1 none)."""

    infractions: jax.Array
    hit: jax.Array


def begin() -> Judged:
    """Before the first step."""
    zero, nothing = jnp.float32(0.0), jnp.int32(0)
    far = jnp.float32(jnp.inf)
    speeds = jnp.zeros((3, CHECKPOINTS), jnp.float32)
    return Judged(nothing, nothing, zero, zero, zero, jnp.int32(-1), -far, far, far, speeds)


def judge(
    judged: Judged,
    scene: Scene,
    before: SimState,
    after: SimState,
    outcome: Outcome,
    oncoming_allowed: jax.Array,
) -> tuple[Judged, Seen]:
    """Judges one step of a drive; one that has ended stays as it is.

    Args:
        judged: so far.
        scene: the scene; its goal is the end of the route.
        before, after: states.
        outcome: of the step.
        oncoming_allowed: bool, whether driving in lanes of opposite direction counts as inside (the types in which an
            obstacle has to be passed there).
    """
    ego, length = after.ego, scene.bank.goal_arc[scene.idx]
    moved = safe_norm(ego.x - before.ego.x, ego.y - before.ego.y)
    best_arc = jnp.clip(after.route_arc, judged.best_arc, length)
    outside = _is_outside(scene, after, outcome, oncoming_allowed)
    judged_hit, collision, hit = _collision(judged, scene, after)
    infractions = (
        collision
        | _ran_red(scene, before, after) * jnp.int32(Infraction.RED_LIGHT)
        | has(outcome.events, Event.STOP_SIGN) * jnp.int32(Infraction.STOP_SIGN)
        | outside * jnp.int32(Infraction.OUTSIDE)
    )
    steps = judged.steps + 1
    following = judged_hit._replace(
        status=_status(scene, after, outcome, best_arc, steps),
        steps=steps,
        best_arc=best_arc,
        driven=judged.driven + moved,
        outside=judged.outside + jnp.where(outside, moved, 0.0),
        speeds=judged.speeds + _speeds(scene, after, judged.best_arc / length),
    )
    live = judged.status == Status.RUNNING
    following = jax.tree.map(lambda new, old: jnp.where(live, new, old), following, judged)
    return following, Seen(jnp.where(live, infractions, 0), jnp.where(live, hit, -1))


def _status(
    scene: Scene, after: SimState, outcome: Outcome, best_arc: jax.Array, steps: jax.Array
) -> jax.Array:
    route = scene.bank.route[scene.idx]
    length = scene.bank.goal_arc[scene.idx]
    end = route[jnp.round(length).astype(jnp.int32)]
    near = safe_norm(after.ego.x - end[0], after.ego.y - end[1]) < COMPLETE_DISTANCE
    completed = (best_arc > COMPLETE_SHARE * length) & near
    events = outcome.events
    return jnp.select(
        [
            has(events, Event.NON_FINITE),
            completed,
            has(events, Event.OFF_ROUTE),
            has(events, Event.BLOCKED),
            steps >= MAX_STEPS,
        ],
        [
            jnp.int32(status)
            for status in (
                Status.BROKEN,
                Status.COMPLETED,
                Status.DEVIATED,
                Status.BLOCKED,
                Status.OUT_OF_TIME,
            )
        ],
        jnp.int32(Status.RUNNING),
    )


def _ran_red(scene: Scene, before: SimState, after: SimState) -> jax.Array:
    half_length = scene.bank.boxes[scene.idx, 0, 0]
    lights = scene.lights_at(after.step)
    return has(
        stop_line_events(scene, lights, before.ego, after.ego, TAIL * half_length, after.since_stop),
        Event.RED_LIGHT,
    )


def _is_outside(scene: Scene, after: SimState, outcome: Outcome, oncoming_allowed: jax.Array) -> jax.Array:
    """Off the drivable area and off every lane, or in lanes of opposite direction.

    Maps have holes in their surface, as between two lanes that do not quite meet: lanes reach over them.
    """
    bank, ego = scene.bank, after.ego
    distance, _ = signed_edge_distance(bank.edges, scene.idx, ego.x, ego.y, ego.z)
    off = bank.has_edges[scene.idx] & (distance < -ALLOWED_OUTSIDE)
    columns, own = segments_of_cell(bank.lanes, lookup(bank.lanes, scene.idx, ego.x, ego.y))
    squared, _ = nearest_on_segment(ego.x, ego.y, columns)
    near = own & (jnp.abs(columns[HEIGHT] - ego.z) < LEVEL_HEIGHT)
    near &= squared <= (columns[LANE_HALF_WIDTH] + ALLOWED_OUTSIDE) ** 2
    return (off & ~near.any()) | (has(outcome.events, Event.WRONG_WAY) & ~oncoming_allowed)


def _collision(judged: Judged, scene: Scene, after: SimState) -> tuple[Judged, jax.Array, jax.Array]:
    """What the collisions of a step leave behind, the `Infraction`, and the slot hit."""
    ego, sizes = after.ego, scene.bank.boxes[scene.idx]
    own = Box(ego.x, ego.y, ego.cos, ego.sin, sizes[0, 0], sizes[1, 0])
    touched = overlapping(after.agents, scene.agent_boxes(after.agents), own, ego.z, 0)
    time = judged.steps.astype(jnp.float32) * STEP
    slots = jnp.arange(touched.shape[0], dtype=jnp.int32)
    touched &= (slots != judged.hit) | (time - judged.hit_time > SAME_TIME)
    near = safe_norm(ego.x - judged.hit_x, ego.y - judged.hit_y) <= SAME_PLACE
    slot = jnp.min(jnp.where(touched, slots, touched.shape[0]))
    counts = (slot < touched.shape[0]) & ~near & (ego.speed >= LEAST_SPEED)
    kind = sizes[2, jnp.minimum(slot, touched.shape[0] - 1)]
    infraction = jnp.where(
        kind == AgentType.PEDESTRIAN,
        int(Infraction.PEDESTRIAN),
        jnp.where(kind == AgentType.STATIC, int(Infraction.LAYOUT), int(Infraction.VEHICLE)),
    )
    # The place is forgotten once the ego is farther than that from it.
    place_x, place_y = (jnp.where(near, at, jnp.inf) for at in (judged.hit_x, judged.hit_y))
    following = judged._replace(
        hit=jnp.where(counts, slot, judged.hit),
        hit_time=jnp.where(counts, time, judged.hit_time),
        hit_x=jnp.where(counts, ego.x, place_x),
        hit_y=jnp.where(counts, ego.y, place_y),
    )
    return following, jnp.where(counts, infraction, 0), jnp.where(counts, slot, -1)


def _speeds(scene: Scene, after: SimState, share: jax.Array) -> jax.Array:
    """What a step adds to `Judged.speeds`, at a share of the route."""
    kind = scene.bank.boxes[scene.idx, 2]
    is_vehicle = (kind != AgentType.PEDESTRIAN) & (kind != AgentType.STATIC)
    others = (after.agents[VALID] > 0) & is_vehicle & (jnp.arange(kind.shape[0]) > 0)
    speed = jnp.hypot(after.agents[VX], after.agents[VY])
    mean = jnp.sum(jnp.where(others, speed, 0.0)) / jnp.maximum(others.sum(), 1)
    here = jnp.arange(CHECKPOINTS) == jnp.floor(share * CHECKPOINTS).astype(jnp.int32)
    return jnp.where(here & others.any(), jnp.stack([after.ego.speed, mean, jnp.float32(1.0)])[:, None], 0.0)
