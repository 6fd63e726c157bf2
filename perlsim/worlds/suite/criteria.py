"""Judges a drive along a route, tick by tick, by the criteria of CARLA's Leaderboard 2 in Bench2Drive's version.

Constants are those of that public evaluation (FACTS, metrics). Ticks are of 0.05 s, as there; the other road users,
which move every 0.1 s, are half way at the ticks between. What vector worlds lack, such as walls and poles to collide
with, cannot be hit.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import COS, LANE_CODE, LANE_HALF_WIDTH, SIN, VALID, VX, VY, Scene, X, Y
from perlsim.geometry.boxes import Box
from perlsim.geometry.cells import (
    DIR_X,
    DIR_Y,
    HEIGHT,
    LEVEL_HEIGHT,
    lookup,
    nearest_on_segment,
    segments_of_cell,
    signed_edge_distance,
)
from perlsim.geometry.numerics import safe_norm
from perlsim.sim.core import BLOCKED_SPEED, BLOCKED_TIME, OFF_ROUTE_DISTANCE, follow_route
from perlsim.sim.outcomes import overlapping, stop_line_events
from perlsim.sim.types import Event, Pose, has
from perlsim.sim.vehicle import PHYSICS_STEP as TICK
from perlsim.vocabulary import AgentType
from perlsim.worlds.suite.scene import MAX_TICKS

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
# An emergency vehicle must not be behind the ego this long [s] after it came this near [m], or, once it is before the
# ego, this far on [m]: then the scenario is over.
EMERGENCY_TIME, EMERGENCY_DISTANCE, EMERGENCY_END = 10.0, 50.0, 50.0
# Stretches of the route over which speeds are compared with the traffic's (Bench2Drive).
CHECKPOINTS = 20
# The last one counts if this share of the route was driven.
LAST_CHECKPOINT = 0.95


class Infraction(IntFlag):
    """What counts against a drive in a tick."""

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


class Rules(NamedTuple):
    """What differs between routes.

    Attributes:
        oncoming: ``[N, 2]`` m along the route, from and to: stretches on which lanes of opposite direction count as
            inside, because an obstacle has to be passed there.
        emergency: int32 slot of the emergency vehicle to yield to, −1 none.
    """

    oncoming: Any
    emergency: Any


class Yielding(NamedTuple):
    """What is known of the emergency vehicle.

    Attributes:
        fails: bool, it was behind the ego when last looked at.
        since_near: s since it came near; negative before.
        ahead: m that it drove since it passed the ego.
    """

    fails: jax.Array
    since_near: jax.Array
    ahead: jax.Array


class Judged(NamedTuple):
    """What the criteria remember of one drive.

    Attributes:
        status: int32 `Status`.
        ticks: int32, ticks of 0.05 s until it ended.
        arc: m, place on the route.
        best_arc: m, farthest place on the route.
        driven: m.
        outside: m of it outside the lanes.
        since_stop: m driven since the ego last stood.
        standing: s that it has stood.
        hit, hit_time, hit_x, hit_y: slot (−1 none), time [s] and place [m] of the last collision.
        speeds: ``[3, CHECKPOINTS]``: sums of the ego's speed and of the traffic's mean speed [m/s] in each stretch of
            the route, over the ticks at which there was traffic, and the number of these ticks.
        yielding: to the emergency vehicle; failing to counts when the drive has ended.
    """

    status: jax.Array
    ticks: jax.Array
    arc: jax.Array
    best_arc: jax.Array
    driven: jax.Array
    outside: jax.Array
    since_stop: jax.Array
    standing: jax.Array
    hit: jax.Array
    hit_time: jax.Array
    hit_x: jax.Array
    hit_y: jax.Array
    speeds: jax.Array
    yielding: Yielding

    @property
    def steps(self) -> Any:
        """Steps of 0.1 s that were begun."""
        return -(-self.ticks // 2)


class Seen(NamedTuple):
    """What a tick shows: int32 `Infraction` set, int32 slot of the collision (−1 none)."""

    infractions: jax.Array
    hit: jax.Array


class Tick(NamedTuple):
    """A moment of a drive: the ego, the road users ``[8, A]`` and the lights int8 ``[L]``."""

    ego: Pose
    agents: jax.Array
    lights: jax.Array


def begin() -> Judged:
    """Before the first tick."""
    zero, nothing = jnp.float32(0.0), jnp.int32(0)
    far = jnp.float32(jnp.inf)
    speeds = jnp.zeros((3, CHECKPOINTS), jnp.float32)
    yielding = Yielding(jnp.bool_(False), jnp.float32(-1.0), zero)
    hit = jnp.int32(-1), -far, far, far
    return Judged(nothing, nothing, zero, zero, zero, zero, zero, zero, *hit, speeds, yielding)


def half_way(before: jax.Array, after: jax.Array) -> jax.Array:
    """Road users ``[8, A]`` between two steps; there where they are at both."""
    middle = 0.5 * (before + after)
    length = jnp.maximum(jnp.hypot(middle[COS], middle[SIN]), 1e-6)
    middle = middle.at[COS].divide(length).at[SIN].divide(length)
    return middle.at[VALID].set(before[VALID] * after[VALID])


def judge(judged: Judged, scene: Scene, rules: Rules, before: Pose, now: Tick) -> tuple[Judged, Seen]:
    """Judges one tick of a drive; one that has ended stays as it is.

    Args:
        judged: so far.
        scene: the scene; its goal is the end of the route.
        rules: of the route.
        before: the ego a tick ago.
        now: the moment to judge.
    """
    ego, length = now.ego, scene.bank.goal_arc[scene.idx]
    moved = safe_norm(ego.x - before.x, ego.y - before.y)
    arc, distance = follow_route(scene, ego, judged.arc)
    best_arc = jnp.clip(arc, judged.best_arc, length)
    stands = ego.speed < BLOCKED_SPEED
    standing = jnp.where(stands, judged.standing + TICK, 0.0)
    allowed = ((arc >= rules.oncoming[:, 0]) & (arc <= rules.oncoming[:, 1])).any()
    outside = _is_outside(scene, ego, allowed)
    judged_hit, collision, hit = _collision(judged, scene, now)
    lines = _crossed_lines(scene, before, now, judged.since_stop)
    infractions = collision | lines | outside * jnp.int32(Infraction.OUTSIDE)
    ticks = judged.ticks + 1
    following = judged_hit._replace(
        status=_status(scene, ego, best_arc, distance, standing, ticks),
        ticks=ticks,
        arc=arc,
        best_arc=best_arc,
        driven=judged.driven + moved,
        outside=judged.outside + jnp.where(outside, moved, 0.0),
        since_stop=jnp.where(stands, 0.0, judged.since_stop + moved),
        standing=standing,
        speeds=judged.speeds + _speeds(scene, now, judged.best_arc / length),
        yielding=_yielding(judged.yielding, rules, now),
    )
    live = judged.status == Status.RUNNING
    following = jax.tree.map(lambda new, old: jnp.where(live, new, old), following, judged)
    return following, Seen(jnp.where(live, infractions, 0), jnp.where(live, hit, -1))


def _status(
    scene: Scene,
    ego: Pose,
    best_arc: jax.Array,
    distance: jax.Array,
    standing: jax.Array,
    ticks: jax.Array,
) -> jax.Array:
    route = scene.bank.route[scene.idx]
    length = scene.bank.goal_arc[scene.idx]
    end = route[jnp.round(length).astype(jnp.int32)]
    near = safe_norm(ego.x - end[0], ego.y - end[1]) < COMPLETE_DISTANCE
    cases = {
        Status.BROKEN: ~jnp.isfinite(ego.x + ego.y + ego.heading + ego.speed),
        Status.COMPLETED: (best_arc > COMPLETE_SHARE * length) & near,
        Status.DEVIATED: distance > OFF_ROUTE_DISTANCE,
        Status.BLOCKED: standing >= BLOCKED_TIME,
        Status.OUT_OF_TIME: ticks >= MAX_TICKS,
    }
    return jnp.select(
        list(cases.values()), [jnp.int32(status) for status in cases], jnp.int32(Status.RUNNING)
    )


def _crossed_lines(scene: Scene, before: Pose, now: Tick, since_stop: jax.Array) -> jax.Array:
    """`Infraction` set of red lights, of which the tail counts, and stop signs, of which the front does."""
    half_length = scene.bank.boxes[scene.idx, 0, 0]
    tail, front = (
        stop_line_events(scene, now.lights, before, now.ego, share * half_length, since_stop)
        for share in (TAIL, 1.0)
    )
    return has(tail, Event.RED_LIGHT) * jnp.int32(Infraction.RED_LIGHT) | has(
        front, Event.STOP_SIGN
    ) * jnp.int32(Infraction.STOP_SIGN)


def _is_outside(scene: Scene, ego: Pose, oncoming_allowed: jax.Array) -> jax.Array:
    """Off the drivable area and off every lane, or in lanes of opposite direction alone, outside junctions.

    Maps have holes in their surface, as between two lanes that do not quite meet: lanes reach over them.
    """
    bank = scene.bank
    distance, _ = signed_edge_distance(bank.edges, scene.idx, ego.x, ego.y, ego.z)
    off = bank.has_edges[scene.idx] & (distance < -ALLOWED_OUTSIDE)
    columns, own = segments_of_cell(bank.lanes, lookup(bank.lanes, scene.idx, ego.x, ego.y))
    squared, _ = nearest_on_segment(ego.x, ego.y, columns)
    near = own & (jnp.abs(columns[HEIGHT] - ego.z) < LEVEL_HEIGHT)
    half_width = columns[LANE_HALF_WIDTH]
    within = near & (squared <= half_width * half_width)
    ahead = columns[DIR_X] * ego.cos + columns[DIR_Y] * ego.sin
    in_junction = (lax.bitcast_convert_type(columns[LANE_CODE], jnp.int32) & 1) != 0
    along = (within & ((ahead > 0) | in_junction)).any()
    # Opposed by more than 120°, as the simulator has it.
    against = (within & (ahead < -0.5)).any()
    near &= squared <= (half_width + ALLOWED_OUTSIDE) ** 2
    return (off & ~near.any()) | (against & ~along & ~oncoming_allowed)


def _yielding(yielding: Yielding, rules: Rules, now: Tick) -> Yielding:
    """Looks where the emergency vehicle is, until the scenario is over."""
    vehicle = now.agents[:, jnp.maximum(rules.emergency, 0)]
    there = (rules.emergency >= 0) & (vehicle[VALID] > 0)
    dx, dy = now.ego.x - vehicle[X], now.ego.y - vehicle[Y]
    over = (yielding.since_near >= EMERGENCY_TIME) | (yielding.ahead >= EMERGENCY_END)
    looked = there & ~over
    fails = jnp.where(looked, dx * vehicle[COS] + dy * vehicle[SIN] > 0, yielding.fails)
    near = (yielding.since_near >= 0) | (looked & (safe_norm(dx, dy) < EMERGENCY_DISTANCE))
    driven = jnp.where(looked & ~fails, TICK * jnp.hypot(vehicle[VX], vehicle[VY]), 0.0)
    since_near = jnp.where(near, jnp.maximum(yielding.since_near, 0.0) + TICK, -1.0)
    return Yielding(fails, since_near, yielding.ahead + driven)


def _collision(judged: Judged, scene: Scene, now: Tick) -> tuple[Judged, jax.Array, jax.Array]:
    """What the collisions of a tick leave behind, the `Infraction`, and the slot hit."""
    ego, sizes = now.ego, scene.bank.boxes[scene.idx]
    own = Box(ego.x, ego.y, ego.cos, ego.sin, sizes[0, 0], sizes[1, 0])
    touched = overlapping(now.agents, scene.agent_boxes(now.agents), own, ego.z, 0)
    time = judged.ticks.astype(jnp.float32) * TICK
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


def _speeds(scene: Scene, now: Tick, share: jax.Array) -> jax.Array:
    """What a tick adds to `Judged.speeds`, at a share of the route."""
    kind = scene.bank.boxes[scene.idx, 2]
    is_vehicle = (kind != AgentType.PEDESTRIAN) & (kind != AgentType.STATIC)
    others = (now.agents[VALID] > 0) & is_vehicle & (jnp.arange(kind.shape[0]) > 0)
    speed = jnp.hypot(now.agents[VX], now.agents[VY])
    mean = jnp.sum(jnp.where(others, speed, 0.0)) / jnp.maximum(others.sum(), 1)
    here = jnp.arange(CHECKPOINTS) == jnp.floor(share * CHECKPOINTS).astype(jnp.int32)
    return jnp.where(here & others.any(), jnp.stack([now.ego.speed, mean, jnp.float32(1.0)])[:, None], 0.0)
