"""Road users that keep to their own lane paths and react: to the ego, to each other and to lights.

The Intelligent Driver Model (Treiber, Hennecke, Helbing 2000, "Congested traffic states in empirical
observations and microscopic simulations") along the paths of `perlsim.agent_paths`. A leader is whoever's
footprint reaches into the corridor of the path ahead; a red light is a standing leader at its stop line.

What it does not do: change lanes, reverse, give way at junctions or stop at stop signs. Of two road users that
are both ahead of each other, as at a crossing, both yield.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import (
    AGENT_PATH_SPACING,
    COS,
    PATH_HEADING,
    PATH_LIMIT,
    PATH_X,
    PATH_Y,
    PATH_Z,
    SIN,
    STEP,
    VALID,
    VX,
    VY,
    Scene,
    X,
    Y,
    Z,
)
from perlsim.geometry.cells import LEVEL_HEIGHT, NO_KEY, sort_key
from perlsim.sim.agents import EgoFuture
from perlsim.sim.core import with_ego
from perlsim.sim.kernels import apart
from perlsim.sim.types import SimState
from perlsim.vocabulary import LightState

# A leader this far away is none [m].
_FAR = 1e4
# Slopes [1] up to which others may be on the same road, seen from afar.
_SLOPE = 0.1
# Least gap and desired speed in divisions [m, m/s].
_LEAST_GAP, _LEAST_SPEED = 0.1, 0.1


class IdmMemory(NamedTuple):
    """Arc on its path [m], speed [m/s] and whether it has been let in by the log, ``[A]`` each."""

    arc: jax.Array
    speed: jax.Array
    entered: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "desired_speed_factor",
        "time_headway",
        "minimum_gap",
        "acceleration",
        "deceleration",
        "hard_deceleration",
        "exponent",
        "margin",
    ],
    meta_fields=["num_neighbours", "look_ahead"],
)
@dataclass(frozen=True)
class IdmAgents:
    """Motor vehicles and cyclists follow their lane paths by the IDM; the others repeat the log.

    A road user enters when and as the log lets it, and is absent when it is absent in the log.

    Attributes:
        desired_speed_factor: times the desired speeds of the bank.
        time_headway: T, s.
        minimum_gap: s0, m, bumper to bumper or to a stop line.
        acceleration: a, m/s², the greatest.
        deceleration: b, m/s², comfortable; yellow lights are run that ask for more.
        hard_deceleration: m/s², the greatest; red lights are run that ask for more.
        exponent: δ.
        margin: m, added to half the width of a road user for its corridor.
        num_neighbours: how many of the nearest road users ahead are looked at (static).
        look_ahead: m of path that are looked at (static).
    """

    desired_speed_factor: jax.Array | float = 1.0
    time_headway: jax.Array | float = 1.5
    minimum_gap: jax.Array | float = 2.0
    acceleration: jax.Array | float = 1.5
    deceleration: jax.Array | float = 2.0
    hard_deceleration: jax.Array | float = 8.0
    exponent: jax.Array | float = 4.0
    margin: jax.Array | float = 0.2
    num_neighbours: int = 16
    look_ahead: float = 60.0
    requires_paths: ClassVar[bool] = True
    replays_log: ClassVar[bool] = False

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> IdmMemory:
        """Where the log has everyone at the start."""
        rows = scene.agents_at(start)
        return IdmMemory(_logged_arc(scene, start), _speed(rows), rows[VALID] > 0)

    def act(self, memory: IdmMemory, scene: Scene, state: SimState, ego_future: EgoFuture, key: jax.Array):
        """Road users of the next step."""
        rows, logged = with_ego(state), scene.agents_at(state.step + 1)
        half_length = scene.bank.boxes[scene.idx, 0]
        desired = self.desired_speed_factor * path_points(scene, memory.arc)[PATH_LIMIT]
        gap, leader_speed = self.leader(scene, rows, memory.arc)
        to_line = self.to_light(scene, state.step, memory, half_length)
        braking = jnp.minimum(
            self.accelerate(memory.speed, desired, gap, leader_speed),
            self.accelerate(memory.speed, desired, to_line, jnp.zeros_like(to_line)),
        )
        speed = jnp.maximum(memory.speed + braking * STEP, 0.0)
        driven = 0.5 * (memory.speed + speed) * STEP
        fresh = ~memory.entered & (logged[VALID] > 0)
        follows = scene.bank.agent_reacts[scene.idx] & memory.entered
        agents = jnp.where(follows, rows_on(scene, memory.arc + driven, speed, logged[VALID]), logged)
        memory = IdmMemory(
            jnp.where(fresh, _logged_arc(scene, state.step + 1), memory.arc + driven),
            jnp.where(fresh, _speed(logged), speed),
            memory.entered | fresh,
        )
        return memory, agents

    def accelerate(
        self, speed: jax.Array, desired: jax.Array, gap: jax.Array, leader_speed: jax.Array
    ) -> jax.Array:
        """The IDM's acceleration [m/s²], within its bounds.

        Args:
            speed: m/s.
            desired: m/s, v0.
            gap: m, to the leader.
            leader_speed: m/s, along the path.
        """
        root = jnp.sqrt(jnp.asarray(self.acceleration * self.deceleration, jnp.float32))
        dynamic = speed * self.time_headway + speed * (speed - leader_speed) / (2.0 * root)
        wanted = self.minimum_gap + jnp.maximum(dynamic, 0.0)
        free = (speed / jnp.maximum(desired, _LEAST_SPEED)) ** self.exponent
        value = self.acceleration * (1.0 - free - (wanted / jnp.maximum(gap, _LEAST_GAP)) ** 2)
        return jnp.clip(value, -self.hard_deceleration, self.acceleration)

    def leader(self, scene: Scene, rows: jax.Array, arc: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Gap [m] to the first road user in each one's corridor and its speed along the path [m/s], ``[A]``.

        Args:
            scene: of a bank with paths.
            rows: ``[8, A]``, everybody, the ego included.
            arc: m, where on its path each is.
        """
        sizes = scene.bank.boxes[scene.idx]
        facts = jnp.concatenate([rows[:VALID], sizes[:2]])
        # Who leads is a choice, without a derivative.
        point, slot = self._first_in_corridor(scene, *lax.stop_gradient((facts, rows[VALID], arc)))
        # Exactly, in the frame of that point of the path.
        here = _points(scene, point, 1)[:, 0].T
        x, y, z, cos, sin, vx, vy, other_length, other_width = facts[:, slot]
        path_cos, path_sin = jnp.cos(here[PATH_HEADING]), jnp.sin(here[PATH_HEADING])
        ahead = (x - here[PATH_X]) * path_cos + (y - here[PATH_Y]) * path_sin
        extent = other_length * jnp.abs(cos * path_cos + sin * path_sin)
        extent += other_width * jnp.abs(sin * path_cos - cos * path_sin)
        gap = point * AGENT_PATH_SPACING - arc + ahead - extent - sizes[0]
        found = (slot >= 0) & (jnp.abs(z - here[PATH_Z]) < LEVEL_HEIGHT)
        return jnp.where(found, gap, _FAR), jnp.where(found, vx * path_cos + vy * path_sin, 0.0)

    def _first_in_corridor(self, scene: Scene, facts: jax.Array, valid: jax.Array, arc: jax.Array):
        """The first point of each path that a road user reaches into, and its slot (−1 none), int32 ``[A]``."""
        once = scene.bank.once
        size = min(round(self.look_ahead / AGENT_PATH_SPACING) + 1, scene.bank.agent_paths.shape[2])
        start = jnp.minimum(_point_at(scene, arc), scene.bank.agent_paths.shape[2] - size)
        px, py = apart(once, lambda: _points(scene, start, size, 2).transpose(2, 1, 0))
        neighbours = apart(once, lambda: _nearest_ahead(facts, valid, self.num_neighbours))
        count = neighbours.shape[0]
        x, y, _, cos, sin, _, _, length, width = facts
        reach = width + self.margin
        # Projections on their own axes, so that few numbers have to be gathered.
        boxes = jnp.stack([cos, sin, x * cos + y * sin, y * cos - x * sin, length, width])
        cos, sin, along, across, length, width = apart(once, lambda: boxes[:, neighbours])

        def first_points() -> jax.Array:
            # A point is in the corridor of a footprint grown by half the road user's own width. Unrolled: such
            # elementwise chains run on vectors, a reduction over the points would not.
            first = jnp.full(neighbours.shape, size, jnp.int32)
            for k in reversed(range(size)):
                inside = jnp.abs(px[k] * cos + py[k] * sin - along) < length + reach
                inside &= jnp.abs(py[k] * cos - px[k] * sin - across) < width + reach
                first = jnp.where(inside, k, first)
            return jnp.where(neighbours >= 0, first, size)

        first = apart(once, first_points) * count + jnp.arange(count, dtype=jnp.int32)[:, None]
        first = first.min(0)
        chosen = jnp.take_along_axis(neighbours, (first % count)[None], 0)[0]
        return start + first // count, jnp.where(first < size * count, chosen, -1)

    def to_light(self, scene: Scene, step: jax.Array, memory: IdmMemory, half_length: jax.Array) -> jax.Array:
        """Gap [m] to the first line at which each has to stop, ``[A]``."""
        stops = scene.bank.agent_stops[scene.idx]
        lights = scene.lights_at(step)[jnp.maximum(stops[..., 1], 0.0).astype(jnp.int32)]
        gap = stops[..., 0] - (memory.arc + half_length)[:, None]
        # v² / 2d against the greatest deceleration for each colour.
        needed = (memory.speed**2)[:, None]
        stop = (lights == LightState.RED) & (needed <= 2.0 * self.hard_deceleration * gap)
        stop |= (lights == LightState.YELLOW) & (needed <= 2.0 * self.deceleration * gap)
        return jnp.where(stop & (gap > 0) & (stops[..., 1] >= 0), gap, _FAR).min(1)


def _speed(rows: jax.Array) -> jax.Array:
    """Speeds along the headings, not negative [m/s]."""
    return jnp.maximum(rows[VX] * rows[COS] + rows[VY] * rows[SIN], 0.0)


def _logged_arc(scene: Scene, step: jax.Array) -> jax.Array:
    """Where on their paths the log has everyone at a step, ``[A]`` m."""
    bank = scene.bank
    return bank.agent_arc[scene.idx, jnp.minimum(step, bank.num_steps[scene.idx] - 1)]


def _point_at(scene: Scene, arc: jax.Array) -> jax.Array:
    """Indices of the points at or before arcs [m], the last but one at most, int32 ``[A]``."""
    place = jnp.floor(arc * (1.0 / AGENT_PATH_SPACING)).astype(jnp.int32)
    return jnp.clip(place, 0, scene.bank.agent_paths.shape[2] - 2)


def _points(scene: Scene, first: jax.Array, size: int, columns: int = 5) -> jax.Array:
    """``size`` points of each path from given ones on, ``[A, size, columns]``."""
    paths = scene.bank.agent_paths

    def one(slot, first):
        return lax.dynamic_slice(paths, (scene.idx, slot, first, jnp.int32(0)), (1, 1, size, columns))[0, 0]

    return jax.vmap(one)(jnp.arange(first.shape[0], dtype=jnp.int32), first)


def path_points(scene: Scene, arc: jax.Array) -> jax.Array:
    """The points of the paths at arcs [m], ``[5, A]``; beyond their ends they go on straight."""
    first = _point_at(scene, arc)
    near = _points(scene, first, 2)
    share = arc * (1.0 / AGENT_PATH_SPACING) - first.astype(jnp.float32)
    return (near[:, 0] + share[:, None] * (near[:, 1] - near[:, 0])).T


def rows_on(scene: Scene, arc: jax.Array, speed: jax.Array, valid: jax.Array) -> jax.Array:
    """Rows ``[8, A]`` of road users on their paths."""
    point = path_points(scene, arc)
    cos, sin = jnp.cos(point[PATH_HEADING]), jnp.sin(point[PATH_HEADING])
    return jnp.stack([point[PATH_X], point[PATH_Y], point[PATH_Z], cos, sin, speed * cos, speed * sin, valid])


def _nearest_ahead(facts: jax.Array, valid: jax.Array, count: int) -> jax.Array:
    """Slots of the nearest road users whose centres lie ahead of each one's own, int32 ``[K, A]``; −1 none."""
    size = facts.shape[1]
    bits = max(1, (size - 1).bit_length())
    dx, dy = facts[X][:, None] - facts[X], facts[Y][:, None] - facts[Y]
    squared = dx * dx + dy * dy
    ahead = dx * facts[COS] + dy * facts[SIN] > 0
    climb = jnp.maximum(jnp.abs(facts[Z][:, None] - facts[Z]) - LEVEL_HEIGHT, 0.0)
    level = climb * climb <= _SLOPE**2 * squared
    slots = jnp.arange(size, dtype=jnp.int32)
    others = (valid > 0)[:, None] & (slots[:, None] != slots)
    keys = jnp.where(ahead & level & others, sort_key(squared, slots[:, None], bits), NO_KEY)
    found, last = [], jnp.full(size, -1, jnp.int32)
    for _ in range(min(count, size)):
        last = jnp.where(keys > last, keys, NO_KEY).min(0)
        found.append(jnp.where(last < NO_KEY, last & ((1 << bits) - 1), -1))
    return jnp.stack(found)
