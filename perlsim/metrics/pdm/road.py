"""The road under the candidates: drivable area, lanes, stop lines and the route."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import (
    LANE_CODE,
    LANE_HALF_WIDTH,
    LINE_COS,
    LINE_HALF_WIDTH,
    LINE_IS_SIGN,
    LINE_SIN,
    LINE_X,
    LINE_Y,
    LINE_Z,
    PATH_SPACING,
    STEP,
    Scene,
)
from perlsim.geometry.boxes import Box, corners
from perlsim.geometry.cells import (
    DIR_X,
    DIR_Y,
    HEIGHT,
    LEVEL_HEIGHT,
    lookup,
    nearest_height,
    nearest_on_segment,
    segments_of_cell,
    signed_edge_distance,
)
from perlsim.geometry.numerics import to_frame
from perlsim.metrics.pdm.types import Driven
from perlsim.sim.kernels import apart
from perlsim.vocabulary import LightState

# Steps between the places where the height of the road is looked up.
_HEIGHT_EVERY = 10
# NAVSIM's limits: progress against the traffic [m] in its window of steps; distance from the centre line [m], steps.
ONCOMING_WINDOW, ONCOMING_HALF, ONCOMING_FAIL = 11, 2.0, 6.0
LANE_KEEPING_LIMIT, LANE_KEEPING_STEPS = 0.5, 20
# Points of the route looked at for lane keeping: 20 m behind the start to 108 m ahead.
_ROUTE_BEHIND, _ROUTE_WINDOW = 20, 128


class Under(NamedTuple):
    """What the lanes say about a point: bools.

    Attributes:
        oncoming: in a lane against the heading and in none along it, outside junctions.
        in_junction: in a lane of a junction.
    """

    oncoming: jax.Array
    in_junction: jax.Array


def heights(scene: Scene, driven: Driven, z: jax.Array) -> jax.Array:
    """Height [m] of the road under the candidates ``[T, N]``: that of the nearest lane, every second.

    Args:
        scene: the scene.
        driven: rows ``[T, N]``.
        z: m, at the start.
    """
    count = driven.x.shape[0]
    marks = list(range(_HEIGHT_EVERY, count, _HEIGHT_EVERY))

    def one_by_one(before, place):
        after = jax.vmap(partial(_nearest_height, scene))(place[0], place[1], before)
        return after, after

    start = jnp.full(driven.x.shape[1:], z)
    places = (driven.x[_HEIGHT_EVERY::_HEIGHT_EVERY], driven.y[_HEIGHT_EVERY::_HEIGHT_EVERY])
    _, found = lax.scan(one_by_one, start, places)
    known = jnp.concatenate([start[None], found])
    rows = []
    for step in range(count):
        low = min(step // _HEIGHT_EVERY, len(marks))
        high = min(low + 1, len(marks))
        share = (step - low * _HEIGHT_EVERY) / _HEIGHT_EVERY
        rows.append(known[low] + share * (known[high] - known[low]))
    return jnp.stack(rows)


def _nearest_height(scene: Scene, x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    table = scene.bank.lanes
    cell = lookup(table, scene.idx, x, y)
    columns, own = segments_of_cell(table, cell)
    squared, _ = nearest_on_segment(x, y, columns)
    seen = own & (jnp.abs(columns[HEIGHT] - z) < LEVEL_HEIGHT)
    return nearest_height(table, cell, squared, seen, z)


def leaves_road(scene: Scene, box: Box, z: jax.Array) -> jax.Array:
    """Whether a corner of each box ``[...]`` is off the drivable area; all fields of one shape."""

    def one(x, y, z):
        return signed_edge_distance(scene.bank.edges, scene.idx, x, y, z)[0] < 0

    x, y = (jnp.stack(values).ravel() for values in zip(*corners(box), strict=True))
    heights = jnp.broadcast_to(z, (4, *z.shape)).ravel()
    off = apart(scene.bank.once, lambda: jax.vmap(one)(x, y, heights))
    return off.reshape(4, *box.x.shape).any(0)


def lanes_under(
    scene: Scene, x: jax.Array, y: jax.Array, cos: jax.Array, sin: jax.Array, z: jax.Array
) -> Under:
    """What the lanes say about points with headings, all of one shape."""
    table = scene.bank.lanes

    def one(x, y, cos, sin, z):
        cell = lookup(table, scene.idx, x, y)
        columns, own = segments_of_cell(table, cell)
        within = _within(columns, own, x, y, z)
        along = columns[DIR_X] * cos + columns[DIR_Y] * sin > 0
        junction = (lax.bitcast_convert_type(columns[LANE_CODE], jnp.int32) & 1) != 0
        return within.any() & ~(within & (along | junction)).any(), (within & junction).any()

    shape = x.shape
    points = tuple(jnp.broadcast_to(value, shape).ravel() for value in (x, y, cos, sin, z))
    oncoming, junction = apart(scene.bank.once, lambda: jax.vmap(one)(*points))
    return Under(oncoming.reshape(shape), junction.reshape(shape))


def _within(columns, own, x, y, z) -> jax.Array:
    """Which segments of a cell have the point within their lane's width."""
    squared, _ = nearest_on_segment(x, y, columns)
    level = jnp.abs(columns[HEIGHT] - z) < LEVEL_HEIGHT
    return own & level & (squared <= columns[LANE_HALF_WIDTH] * columns[LANE_HALF_WIDTH])


def in_several_lanes(scene: Scene, box: Box, z: jax.Array) -> jax.Array:
    """Whether the corners of each box ``[N]`` lie in more than one lane, and in no lane all four.

    The lanes of a junction, which overlap, count as one.
    """
    table = scene.bank.lanes

    def lanes_at(x, y, z):
        cell = lookup(table, scene.idx, x, y)
        columns, own = segments_of_cell(table, cell)
        code = lax.bitcast_convert_type(columns[LANE_CODE], jnp.int32)
        lane = jnp.where((code & 1) != 0, 0, 1 + (code >> 1))
        return jnp.where(_within(columns, own, x, y, z), lane, -1).ravel()

    def one(x, y, z):
        lanes = jax.vmap(lambda x, y: lanes_at(x, y, z))(x, y)
        everywhere = lanes[0] >= 0
        for corner in lanes[1:]:
            everywhere &= (lanes[0][:, None] == corner).any(1)
        touched = lanes >= 0
        lowest = jnp.where(touched, lanes, jnp.iinfo(jnp.int32).max).min()
        return touched.any() & (lanes.max() > lowest) & ~everywhere.any()

    x, y = (jnp.stack(values, -1) for values in zip(*corners(box), strict=True))
    return jax.vmap(one)(x, y, z)


def driving_direction(driven: Driven, oncoming: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Driving direction compliance and the time of its first loss, ``[N]``.

    Args:
        driven: rows ``[T, N]``.
        oncoming: bool ``[T, N]``.
    """
    moved = jnp.hypot(jnp.diff(driven.x, axis=0), jnp.diff(driven.y, axis=0))
    against = jnp.where(oncoming, jnp.concatenate([jnp.zeros_like(moved[:1]), moved]), 0.0)
    total = jnp.cumsum(jnp.concatenate([jnp.zeros((ONCOMING_WINDOW, moved.shape[1])), against]), axis=0)
    window = total[ONCOMING_WINDOW:] - total[:-ONCOMING_WINDOW]
    most = window.max(0)
    score = jnp.where(most < ONCOMING_HALF, 1.0, jnp.where(most < ONCOMING_FAIL, 0.5, 0.0))
    return score, first_time(window >= ONCOMING_HALF)


def crosses_red_light(
    scene: Scene, lights: jax.Array, driven: Driven, half_length: jax.Array, z: jax.Array
) -> jax.Array:
    """When the front crosses the stop line of a red light, bool ``[T, N]``.

    Args:
        scene: the scene.
        lights: int8 ``[T, L]``.
        driven: rows ``[T, N]``.
        half_length: m.
        z: m ``[T, N]``.
    """
    lines = scene.bank.stop_lines[scene.idx]
    front_x, front_y = driven.x + half_length * driven.cos, driven.y + half_length * driven.sin

    def add(number, crossed):
        line = lines[:, number]
        ahead, aside = to_frame(front_x, front_y, line[LINE_X], line[LINE_Y], line[LINE_COS], line[LINE_SIN])
        aligned = driven.cos * line[LINE_COS] + driven.sin * line[LINE_SIN] > 0.5
        here = aligned & (jnp.abs(aside) < line[LINE_HALF_WIDTH]) & (jnp.abs(line[LINE_Z] - z) < LEVEL_HEIGHT)
        passes = jnp.concatenate([jnp.zeros_like(here[:1]), (ahead[:-1] < 0) & (ahead[1:] >= 0)])
        red = (lights[:, number] == LightState.RED) & (line[LINE_IS_SIGN] == 0)
        return crossed | (passes & here & red[:, None])

    return lax.fori_loop(0, lines.shape[1], add, jnp.zeros(driven.x.shape, bool))


def knows_lights(scene: Scene) -> jax.Array:
    """Whether the scene has a traffic light."""
    lines = scene.bank.stop_lines[scene.idx]
    return ((lines[LINE_HALF_WIDTH] > 0) & (lines[LINE_IS_SIGN] == 0)).any()


def route_arc(scene: Scene, x: jax.Array, y: jax.Array) -> jax.Array:
    """Arc [m] of the first point of the route that is nearest to each point ``[N]``."""
    route = scene.bank.route[scene.idx]
    squared, along = _to_segments(route, x[None], y[None])
    nearest = squared == squared.min(0)
    arc = PATH_SPACING * (jnp.arange(route.shape[0] - 1, dtype=jnp.float32)[:, None] + along)
    return jnp.where(nearest, arc, jnp.inf).min(0)


def _to_segments(points: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Squared distances [m²] of points ``[1, N]`` to the segments of a polyline ``[R, 2]``, and shares of these
    where they are nearest, ``[R - 1, N]``."""
    start, chord = points[:-1], jnp.diff(points, axis=0)
    length = jnp.maximum((chord * chord).sum(1), 1e-12)
    dx, dy = x - start[:, :1], y - start[:, 1:]
    along = jnp.clip((dx * chord[:, :1] + dy * chord[:, 1:]) / length[:, None], 0.0, 1.0)
    off_x, off_y = dx - along * chord[:, :1], dy - along * chord[:, 1:]
    return off_x * off_x + off_y * off_y, along


def lane_keeping(
    scene: Scene, driven: Driven, in_junction: jax.Array, start_arc: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Lane keeping and the time of its loss, ``[N]``.

    Args:
        scene: the scene; its route is the centre line to keep.
        driven: rows ``[T, N]``.
        in_junction: bool ``[T, N]``; such steps neither count nor interrupt the count.
        start_arc: m, arc of the start on the route.
    """
    route = scene.bank.route
    window = min(_ROUTE_WINDOW, route.shape[1])
    first = jnp.clip((start_arc / PATH_SPACING).astype(jnp.int32) - _ROUTE_BEHIND, 0, route.shape[1] - window)
    points = lax.dynamic_slice(route, (scene.idx, first, jnp.int32(0)), (1, window, 2))[0]
    chord = jnp.diff(points, axis=0)
    inverse = 1.0 / jnp.maximum((chord * chord).sum(1), 1e-12)

    def nearer(number, least):
        dx, dy = driven.x - points[number, 0], driven.y - points[number, 1]
        x, y = chord[number, 0], chord[number, 1]
        along = jnp.clip((dx * x + dy * y) * inverse[number], 0.0, 1.0)
        off_x, off_y = dx - along * x, dy - along * y
        return jnp.minimum(least, off_x * off_x + off_y * off_y)

    squared = lax.fori_loop(0, window - 1, nearer, jnp.full(driven.x.shape, jnp.inf))
    off = squared > LANE_KEEPING_LIMIT**2

    def count(running, row):
        off, skipped = row
        running = jnp.where(skipped, running, jnp.where(off, running + 1, 0))
        return running, running >= LANE_KEEPING_STEPS

    nothing = jnp.zeros(driven.x.shape[1:], jnp.int32)
    _, failed = lax.scan(count, nothing, (off, in_junction))
    failure = first_time(failed)
    return jnp.isinf(failure).astype(jnp.float32), failure


def first_time(failed: jax.Array) -> jax.Array:
    """Time [s] of the first step of ``[T, N]`` that failed, infinite where none did."""
    times = STEP * jnp.arange(failed.shape[0], dtype=jnp.float32)[:, None]
    return jnp.where(failed, times, jnp.inf).min(0)
