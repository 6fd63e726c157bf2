"""Who is, or soon will be, in the corridor that the ego's footprint sweeps along a path.

Road users are forecast with constant velocity and heading. Only those ahead of the ego count: who follows it is
its own keeper.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.bank import COS, SIN, VALID, Scene, X, Y, Z
from perlsim.geometry.cells import LEVEL_HEIGHT, NO_KEY
from perlsim.policies.route_path import POINTS, SPACING, RoutePath, centre_line
from perlsim.sim.kernels import apart
from perlsim.sim.types import SimState

# Seconds between forecasts.
FORECAST_STEP = 0.5
# Slopes [1] up to which others may be on the same road, seen from afar.
_SLOPE = 0.1
# A place that is never reached [m].
NOWHERE = 1e4


class Occupied(NamedTuple):
    """Stretches of a path's corridor that road users occupy, ``[T, K]``, at steps of `FORECAST_STEP` from now on.

    Attributes:
        rear, front: m from the path's start, measured at the box centre; `NOWHERE` and −`NOWHERE` while outside.
        speed: m/s along the path.
    """

    rear: jax.Array
    front: jax.Array
    speed: jax.Array


def occupied(
    scene: Scene,
    state: SimState,
    path: RoutePath,
    num_forecasts: int,
    margin: jax.Array | float,
    num_leaders: int,
) -> Occupied:
    """Stretches occupied by those road users who enter the corridor first along the path.

    Args:
        scene: scene.
        state: of it.
        path: whose corridor is looked at.
        num_forecasts: T.
        margin: m, added to half the width of the ego.
        num_leaders: K, how many are followed.
    """
    bank, once = scene.bank, scene.bank.once
    sizes, to_centre = bank.boxes[scene.idx], bank.chassis[scene.idx, 1]
    reach = sizes[1, 0] + margin
    line = (*centre_line(path, to_centre), path.cos, path.sin)
    until = (num_forecasts - 1) * FORECAST_STEP
    facts = jnp.concatenate([state.agents[:VALID], sizes[:2]])
    slots = apart(once, lambda: _first_along(line, facts, _ahead(state, sizes[0]), until, reach, num_leaders))
    chosen = facts[:, jnp.maximum(slots, 0)]
    return apart(once, lambda: _stretches(line, chosen, slots >= 0, num_forecasts, reach))


def _ahead(state: SimState, half_length: jax.Array) -> jax.Array:
    """Which road users ``[A]`` are on the ego's level, with their front ends ahead of its middle."""
    rows, ego = state.agents, state.ego
    dx, dy = rows[X] - ego.x, rows[Y] - ego.y
    climb = jnp.maximum(jnp.abs(rows[Z] - ego.z) - LEVEL_HEIGHT, 0.0)
    level = climb * climb <= _SLOPE**2 * (dx * dx + dy * dy)
    others = jnp.arange(rows.shape[1]) > 0
    front = dx * ego.cos + dy * ego.sin + half_length * (rows[COS] * ego.cos + rows[SIN] * ego.sin)
    return (rows[VALID] > 0) & others & level & (front > 0)


def _first_along(line, facts, wanted, until: float, reach: jax.Array, count: int) -> jax.Array:
    """Slots of those whose swept middle lines come within reach first along the line, int32 ``[K]``; −1 none."""
    x, y, _, cos, sin, vx, vy, half_length, half_width = facts
    # From the rear end now to the front end at the last forecast.
    from_x, from_y = x - half_length * cos, y - half_length * sin
    dx, dy = vx * until + 2 * half_length * cos, vy * until + 2 * half_length * sin
    scale = 1.0 / jnp.maximum(dx * dx + dy * dy, 1e-3)
    # Points of the line are half a spacing at most from where anyone enters.
    wide = (half_width + reach) ** 2 + (0.5 * SPACING) ** 2
    px, py = line[0][:, None] - from_x, line[1][:, None] - from_y
    share = jnp.clip((px * dx + py * dy) * scale, 0.0, 1.0)
    ex, ey = px - share * dx, py - share * dy
    near = (ex * ex + ey * ey < wide) & wanted
    bits = max(1, (x.shape[0] - 1).bit_length())
    point = jnp.arange(POINTS, dtype=jnp.int32)[:, None]
    slots = jnp.arange(x.shape[0], dtype=jnp.int32)
    keys = jnp.where(near, (point << bits) | slots, NO_KEY).min(0)
    found, last = [], jnp.int32(-1)
    for _ in range(count):
        last = jnp.where(keys > last, keys, NO_KEY).min()
        found.append(jnp.where(last < NO_KEY, last & ((1 << bits) - 1), -1))
    return jnp.stack(found)


def _stretches(line, facts, valid: jax.Array, num_forecasts: int, reach: jax.Array) -> Occupied:
    """Exact stretches by separating axes: footprints against the rectangles around the line's points."""
    x, y, _, cos, sin, vx, vy, half_length, half_width = facts[:, :, None]
    line_x, line_y, line_cos, line_sin = line
    half = 0.5 * SPACING
    along, across = jnp.abs(line_cos * cos + line_sin * sin), jnp.abs(line_cos * sin - line_sin * cos)
    extent = half_length * along + half_width * across
    times = FORECAST_STEP * jnp.arange(num_forecasts, dtype=jnp.float32)[:, None, None]
    dx, dy = x + vx * times - line_x, y + vy * times - line_y
    ahead = dx * line_cos + dy * line_sin
    inside = jnp.abs(ahead) < half + extent
    inside &= jnp.abs(dy * line_cos - dx * line_sin) < reach + half_length * across + half_width * along
    inside &= jnp.abs(dx * cos + dy * sin) < half_length + half * along + reach * across
    inside &= jnp.abs(dy * cos - dx * sin) < half_width + half * across + reach * along
    inside &= valid[:, None]
    place = SPACING * jnp.arange(POINTS, dtype=jnp.float32)
    rear = jnp.where(inside, place + jnp.maximum(ahead - extent, -half), NOWHERE).min(2)
    front = jnp.where(inside, place + jnp.minimum(ahead + extent, half), -NOWHERE).max(2)
    point = jnp.clip(jnp.round(rear * (1.0 / SPACING)), 0, POINTS - 1).astype(jnp.int32)
    speed = vx[:, 0] * line_cos[point] + vy[:, 0] * line_sin[point]
    return Occupied(rear, front, speed)
