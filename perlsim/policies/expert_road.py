"""The route round the ego as a frame, and paths beside it, for the expert.

Changes of lane, which routes make within a few metres, are drawn out to what a car can drive. A place is an arc
along the route [m from the rear axle's own place] and a distance to its left [m].
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import LANE_CODE, LANE_HALF_WIDTH, Scene
from perlsim.geometry.cells import (
    DIR_X,
    DIR_Y,
    HEIGHT,
    LEVEL_HEIGHT,
    lookup,
    nearest_on_segment,
    segments_of_cell,
)
from perlsim.policies.route_path import (
    POINTS,
    SPACING,
    RoutePath,
    curvature_along,
    directions,
    place_on_route,
    sampled,
)
from perlsim.sim.types import SimState

# Points of the frame behind the ego and in all: 40 m and 160 m.
BEHIND, LENGTH = 20, 80
# A change of lane: within this many points of the route it turns by more than the first and back to less than the
# second [rad]; it is drawn out by means over this many points to either side.
_WINDOW, _TURNS, _BACK, _DRAWN = 5, 0.15, 0.25, 6
# At speed it is drawn out over this many times as many, beginning and wholly at these speeds [m/s].
_FARTHER, _SLOW, _FAST = 2, 7.0, 13.0
# A path comes to its line as soon as these accelerations across allow, for an offset and for a turn [m/s²], within
# these bounds [m].
_BACK_ACCELERATION, _TURN_ACCELERATION, _BLEND_SHORTEST, _BLEND_LONGEST = 0.9, 2.5, 7.0, 50.0
_LARGEST_TURN = 1.0


class Frame(NamedTuple):
    """The route every `SPACING` m, `BEHIND` points of it behind the rear axle, ``[LENGTH]`` each.

    Attributes:
        start: m, arc on the route of the rear axle.
        x, y, cos, sin: places [m] and directions.
        limit: m/s, NaN unknown.
        turn: curvature [1/m].
        shift: m to the left by which its changes of lane have moved it.
    """

    start: jax.Array
    x: jax.Array
    y: jax.Array
    cos: jax.Array
    sin: jax.Array
    limit: jax.Array
    turn: jax.Array
    shift: jax.Array


def frame_of(scene: Scene, state: SimState) -> Frame:
    """The frame of an ego."""
    ego, to_centre = state.ego, scene.bank.chassis[scene.idx, 1]
    x, y = ego.x - to_centre * ego.cos, ego.y - to_centre * ego.sin
    start = place_on_route(scene, state.route_arc - to_centre, x, y)
    route_x, route_y, limit = sampled(scene, start + SPACING * jnp.arange(-BEHIND - 1, LENGTH - BEHIND + 1))
    change, shift = _changes(route_x, route_y)
    near, far = _around(change, _DRAWN), _around(change, _FARTHER * _DRAWN)
    fast = jnp.clip((ego.speed - _SLOW) / (_FAST - _SLOW), 0.0, 1.0)

    def drawn(line):
        short, long = (_mean(_mean(line, reach // 2), reach // 2) for reach in (_DRAWN, _FARTHER * _DRAWN))
        return line + (1.0 - fast) * near * (short - line) + fast * far * (long - line)

    route_x, route_y, shift = drawn(route_x), drawn(route_y), drawn(shift)
    cos, sin = directions(route_x, route_y)
    return Frame(
        start,
        route_x[1:-1],
        route_y[1:-1],
        cos,
        sin,
        limit[1:-1],
        curvature_along(cos, sin),
        shift[1:-1],
    )


def _mean(line: jax.Array, reach: int) -> jax.Array:
    """Means over ``2 · reach + 1`` points; beyond the ends the line goes on straight."""
    steps = jnp.arange(1, reach + 1)
    before = (line[0] - steps * (line[1] - line[0]))[::-1]
    after = line[-1] + steps * (line[-1] - line[-2])
    whole = jnp.concatenate([before, line, after])
    shifted = (whole[k : k + len(line)] for k in range(2 * reach + 1))
    return sum(shifted, start=jnp.zeros_like(line)) / (2 * reach + 1)


def _changes(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether a line changes lanes at each of its points, and m to the left that it has come by that."""
    cos, sin = directions(x, y)
    cos, sin = jnp.pad(cos, 1, mode="edge"), jnp.pad(sin, 1, mode="edge")
    size = len(x)
    wide_cos, wide_sin = jnp.pad(cos, _WINDOW, mode="edge"), jnp.pad(sin, _WINDOW, mode="edge")
    from_cos, from_sin = wide_cos[:size], wide_sin[:size]
    to_cos, to_sin = wide_cos[2 * _WINDOW :], wide_sin[2 * _WINDOW :]
    whole = jnp.abs(to_sin * from_cos - to_cos * from_sin)
    first = jnp.abs(sin * from_cos - cos * from_sin)
    second = jnp.abs(sin * to_cos - cos * to_sin)
    is_change = (whole < jnp.sin(_BACK)) & (jnp.minimum(first, second) > jnp.sin(_TURNS))
    is_change &= to_cos * from_cos + to_sin * from_sin > 0
    step_x, step_y = (jnp.pad(0.5 * (line[2:] - line[:-2]), 1) for line in (x, y))
    lane_cos, lane_sin = 0.5 * (from_cos + to_cos), 0.5 * (from_sin + to_sin)
    return is_change, jnp.cumsum(jnp.where(is_change, step_y * lane_cos - step_x * lane_sin, 0.0))


def _around(is_there: jax.Array, reach: int) -> jax.Array:
    """1 within ``reach`` points of where something is, falling to 0 within as many more."""
    wide = jnp.pad(is_there.astype(jnp.float32), 2 * reach)
    share = jnp.clip(2.0 - jnp.abs(jnp.arange(-2 * reach, 2 * reach + 1)) / reach, 0.0, 1.0)
    return jnp.stack([share[k] * wide[k : k + len(is_there)] for k in range(4 * reach + 1)]).max(0)


def into(frame: Frame, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Arc, distance to the left [m], and the route's cos and sin there, of points of any shape."""
    squared = (x[..., None] - frame.x) ** 2 + (y[..., None] - frame.y) ** 2
    at = jnp.argmin(squared, -1)
    dx, dy = x - frame.x[at], y - frame.y[at]
    cos, sin = frame.cos[at], frame.sin[at]
    return SPACING * (at - BEHIND) + dx * cos + dy * sin, dy * cos - dx * sin, cos, sin


def out_of(
    frame: Frame, arc: jax.Array, left: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """x, y [m] of places of the frame, and the route's cos and sin there; beyond its ends it goes on straight."""
    place = arc * (1.0 / SPACING) + BEHIND
    first = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, LENGTH - 2)
    share = place - first
    points = jnp.stack([frame.x, frame.y, frame.cos, frame.sin])
    near, far = points[:, first], points[:, first + 1]
    x, y = near[:2] + share * (far[:2] - near[:2])
    cos, sin = near[2:] + jnp.clip(share, 0.0, 1.0) * (far[2:] - near[2:])
    scale = lax.rsqrt(jnp.maximum(cos * cos + sin * sin, 1e-6))
    cos, sin = cos * scale, sin * scale
    return x - left * sin, y + left * cos, cos, sin


def path_beside(
    frame: Frame, scene: Scene, state: SimState, offset: jax.Array, brisk: jax.Array | float = 1.0
) -> RoutePath:
    """The path from the ego into the line that runs ``offset`` ``[POINTS]`` m to the left of its route.

    The ego's distance from that line and its direction fade out; the box centre, not the rear axle, comes to run on
    it.
    """
    ego, to_centre = state.ego, scene.bank.chassis[scene.idx, 1]
    here = slice(BEHIND, BEHIND + POINTS)
    route_x, route_y, cos, sin = frame.x[here], frame.y[here], frame.cos[here], frame.sin[here]
    bend, limit = frame.turn[here], frame.limit[here]
    x, y = ego.x - to_centre * ego.cos, ego.y - to_centre * ego.sin
    aside = (y - route_y[0]) * cos[0] - (x - route_x[0]) * sin[0]
    turn = jnp.arctan2(ego.sin * cos[0] - ego.cos * sin[0], ego.cos * cos[0] + ego.sin * sin[0])
    line = offset + 0.5 * to_centre**2 * bend
    slope = jnp.tan(jnp.clip(turn, -_LARGEST_TURN, _LARGEST_TURN)) * (1.0 - bend[0] * aside)
    slope -= (line[1] - line[0]) / SPACING
    missing = aside - line[0]
    length = ego.speed * jnp.sqrt(6.0 / (_BACK_ACCELERATION * brisk) * jnp.abs(missing))
    length = jnp.maximum(length, ego.speed**2 * (4.0 / (_TURN_ACCELERATION * brisk)) * jnp.abs(slope))
    length = jnp.clip(length, _BLEND_SHORTEST + 0.4 * jnp.abs(missing), _BLEND_LONGEST)
    share = jnp.minimum(SPACING * jnp.arange(POINTS) / length, 1.0)
    gone = share * share * (3.0 - 2.0 * share)
    left = line + missing * (1.0 - gone) + slope * length * share * (1.0 - share) ** 2
    path_x, path_y = route_x - left * sin, route_y + left * cos
    cos, sin = directions(
        jnp.concatenate([path_x[:1] - SPACING * ego.cos, path_x, 2 * path_x[-1:] - path_x[-2:-1]]),
        jnp.concatenate([path_y[:1] - SPACING * ego.sin, path_y, 2 * path_y[-1:] - path_y[-2:-1]]),
    )
    cos, sin = cos.at[0].set(ego.cos), sin.at[0].set(ego.sin)
    return RoutePath(frame.start, path_x, path_y, cos, sin, curvature_along(cos, sin), limit)


def ground_under(scene: Scene, z: jax.Array, x, y, cos, sin) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether places with directions lie in lanes of that direction, in opposed ones, and in junctions."""
    table = scene.bank.lanes

    def one(x, y, cos, sin):
        columns, own = segments_of_cell(table, lookup(table, scene.idx, x, y))
        squared, _ = nearest_on_segment(x, y, columns)
        within = own & (jnp.abs(columns[HEIGHT] - z) < LEVEL_HEIGHT)
        within &= squared <= columns[LANE_HALF_WIDTH] ** 2
        ahead = columns[DIR_X] * cos + columns[DIR_Y] * sin
        in_junction = within & ((lax.bitcast_convert_type(columns[LANE_CODE], jnp.int32) & 1) != 0)
        return (within & (ahead > 0.5)).any(), (within & (ahead < -0.5)).any(), in_junction.any()

    return jax.vmap(one)(x, y, cos, sin)
