"""Paths along the ego's route that begin at the ego and run smoothly into the route or beside it.

A path is the rear axle's: what a car's wheels follow without slip. It is sampled every `SPACING` metres of the
route's arc from the rear axle on, so that a place on a path, on the route and on a path beside it is one number.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import PATH_SPACING, Scene
from perlsim.geometry.numerics import to_frame
from perlsim.sim.control import project_on_path
from perlsim.sim.types import Plan, Pose, SimState

# Points of a path, and metres between them: 98 m.
POINTS, SPACING = 50, 2.0
# Points of a path that a plan keeps: 46 m, what is driven in 2 s at 80 km/h.
PLAN_POINTS = 24
# A path reaches its line as soon as these accelerations across allow, for an offset and for a turn [m/s², S], within
# these bounds [m].
_BACK_ACCELERATION, _TURN_ACCELERATION, _BLEND_SHORTEST, _BLEND_LONGEST = 1.0, 2.0, 6.0, 50.0
# Farther off the route than this [rad], a path does not start at the ego's heading.
_LARGEST_TURN = 1.0
# Points of the route searched for the nearest, and how many of them lie behind the last known place.
_SEARCHED, _BEHIND = 12, 5


class RoutePath(NamedTuple):
    """A path of the rear axle in the scenario frame.

    Attributes:
        start: m, arc on the route of its first point, the rear axle's own.
        x, y, cos, sin: ``[POINTS]``, places [m] and directions.
        curvature: ``[POINTS]`` 1/m, left positive.
        limit: ``[POINTS]`` m/s, speed limit, NaN unknown.
    """

    start: jax.Array
    x: jax.Array
    y: jax.Array
    cos: jax.Array
    sin: jax.Array
    curvature: jax.Array
    limit: jax.Array


def path_ahead(scene: Scene, state: SimState, offset: jax.Array | float = 0.0) -> RoutePath:
    """The path from the ego into the line ``offset`` metres to the left of its route.

    The box centre, not the rear axle, comes to run on that line: in curves the rear axle runs further inside.

    Args:
        scene: scene.
        state: of it; the ego and its place on the route are read.
        offset: m, left positive.
    """
    bank, ego = scene.bank, state.ego
    to_centre = bank.chassis[scene.idx, 1]
    x, y = ego.x - to_centre * ego.cos, ego.y - to_centre * ego.sin
    start = place_on_route(scene, state.route_arc - to_centre, x, y)
    # One point more on either side, for directions.
    route_x, route_y, limit = sampled(scene, start + SPACING * jnp.arange(-1, POINTS + 1))
    cos, sin = directions(route_x, route_y)
    bend = curvature_along(cos, sin)
    route_x, route_y = route_x[1:-1], route_y[1:-1]
    aside = (y - route_y[0]) * cos[0] - (x - route_x[0]) * sin[0]
    turn = jnp.arctan2(ego.sin * cos[0] - ego.cos * sin[0], ego.cos * cos[0] + ego.sin * sin[0])
    slope = jnp.tan(jnp.clip(turn, -_LARGEST_TURN, _LARGEST_TURN)) * (1.0 - bend[0] * aside)
    # Cubic Hermite polynomials from the ego's own place and direction; their greatest curvatures are
    # 6 · offset / length² and 4 · slope / length.
    aim = offset + 0.5 * to_centre**2 * bend[0]
    length = ego.speed * jnp.sqrt(6.0 / _BACK_ACCELERATION * jnp.abs(aside - aim))
    length = jnp.maximum(length, ego.speed**2 * (4.0 / _TURN_ACCELERATION) * jnp.abs(slope))
    length = jnp.clip(length, _BLEND_SHORTEST, _BLEND_LONGEST)
    share = jnp.minimum(SPACING * jnp.arange(POINTS) / length, 1.0)
    gone = share * share * (3.0 - 2.0 * share)
    inside = 0.5 * to_centre**2 * bend
    left = aside * (1.0 - gone) + slope * length * share * (1.0 - share) ** 2 + (offset + inside) * gone
    path_x, path_y = route_x - left * sin, route_y + left * cos
    cos, sin = directions(
        jnp.concatenate([path_x[:1] - SPACING * ego.cos, path_x, 2 * path_x[-1:] - path_x[-2:-1]]),
        jnp.concatenate([path_y[:1] - SPACING * ego.sin, path_y, 2 * path_y[-1:] - path_y[-2:-1]]),
    )
    cos, sin = cos.at[0].set(ego.cos), sin.at[0].set(ego.sin)
    return RoutePath(start, path_x, path_y, cos, sin, curvature_along(cos, sin), limit[1:-1])


def centre_line(path: RoutePath, to_centre: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Places ``[POINTS]`` [m] of the box centre while the rear axle is at the points of a path."""
    return path.x + to_centre * path.cos, path.y + to_centre * path.sin


def poses_on(path: RoutePath, place: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """x, y [m], cos and sin of the heading at places [m] on a path from its start; beyond it, straight on."""
    first = jnp.clip(jnp.floor(place * (1.0 / SPACING)).astype(jnp.int32), 0, POINTS - 2)
    share = place * (1.0 / SPACING) - first
    points = jnp.stack([path.x, path.y, path.cos, path.sin])
    (x0, y0, cos0, sin0), (x1, y1, cos1, sin1) = points[:, first], points[:, first + 1]
    beyond = jnp.maximum(share - 1.0, 0.0) * SPACING
    t = jnp.minimum(share, 1.0)
    # Cubic Hermite polynomials: the path has no corners.
    gone = t * t * (3.0 - 2.0 * t)
    leave, arrive = SPACING * t * (1.0 - t) ** 2, SPACING * t * t * (t - 1.0)
    cos, sin = cos0 + t * (cos1 - cos0), sin0 + t * (sin1 - sin0)
    scale = lax.rsqrt(jnp.maximum(cos * cos + sin * sin, 1e-6))
    cos, sin = cos * scale, sin * scale
    x = x0 + gone * (x1 - x0) + leave * cos0 + arrive * cos1 + beyond * cos
    y = y0 + gone * (y1 - y0) + leave * sin0 + arrive * sin1 + beyond * sin
    return x, y, cos, sin


def plan_on(path: RoutePath, ego: Pose, to_centre: jax.Array, target_speed: jax.Array) -> Plan:
    """The plan that leads the box centre along a path with target speeds ``[H]`` [m/s]."""
    x, y = centre_line(path, to_centre)
    x, y = to_frame(x[:PLAN_POINTS], y[:PLAN_POINTS], ego.x, ego.y, ego.cos, ego.sin)
    return Plan.ahead(jnp.stack([x, y], 1), SPACING, target_speed)


def trajectory_on(path: RoutePath, ego: Pose, to_centre: jax.Array, place: jax.Array) -> jax.Array:
    """Poses ``[H, 3]`` of the rear axle at places ``[H]`` [m] on a path, in the rear axle's present frame."""
    x, y, cos, sin = poses_on(path, place)
    rear_x, rear_y = ego.x - to_centre * ego.cos, ego.y - to_centre * ego.sin
    x, y = to_frame(x, y, rear_x, rear_y, ego.cos, ego.sin)
    heading = jnp.arctan2(sin * ego.cos - cos * ego.sin, cos * ego.cos + sin * ego.sin)
    return jnp.stack([x, y, heading], 1)


def place_on_route(scene: Scene, guess: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Arc [m] of the route's point nearest to (x, y), searched near a guess."""
    route = scene.bank.route
    size = min(_SEARCHED, route.shape[1])
    first = jnp.floor(guess * (1.0 / PATH_SPACING)).astype(jnp.int32) - _BEHIND
    first = jnp.clip(first, 0, route.shape[1] - size)
    points = lax.dynamic_slice(route, (scene.idx, first, jnp.int32(0)), (1, size, 2))[0]
    return (first + project_on_path(points, PATH_SPACING, x, y)) * PATH_SPACING


def sampled(scene: Scene, arcs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x, y [m] and speed limit [m/s] of the route at arcs [m]; beyond its ends it goes on straight."""
    bank = scene.bank
    first = jnp.clip(jnp.floor(arcs / PATH_SPACING).astype(jnp.int32), 0, bank.route.shape[1] - 2)
    share = arcs / PATH_SPACING - first
    near, far = bank.route[scene.idx, first], bank.route[scene.idx, first + 1]
    points = near + share[:, None] * (far - near)
    limit = bank.route_limit[scene.idx, jnp.minimum(first, bank.route_limit.shape[1] - 1)]
    return points[:, 0], points[:, 1], limit


def directions(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Unit directions at the inner points of a line."""
    dx, dy = x[2:] - x[:-2], y[2:] - y[:-2]
    scale = lax.rsqrt(jnp.maximum(dx * dx + dy * dy, 1e-6))
    return dx * scale, dy * scale


def curvature_along(cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Curvature [1/m] at each point, from the directions two points apart."""
    turned = sin[2:] * cos[:-2] - cos[2:] * sin[:-2]
    inner = jnp.arcsin(jnp.clip(turned, -1.0, 1.0)) / (2.0 * SPACING)
    return jnp.concatenate([inner[:1], inner, inner[-1:]])
