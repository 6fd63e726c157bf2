"""Ways to drive a path, and what becomes of them: speeds over time, checked against the forecasts."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from perlsim.bank import Scene
from perlsim.geometry.boxes import Box, box_gap
from perlsim.policies.expert_forecast import CELL, CELLS, Others
from perlsim.policies.route_path import POINTS, SPACING, RoutePath, poses_on

# Ways to drive: share of the desired speed at first, s until the whole of it, whether it brakes hard for it.
_FOREVER = 1e3
WAYS = np.array(
    [(1.0, 0.0, 0.0)]
    + [(share, until, 0.0) for share in (0.6, 0.3) for until in (2.0, 4.0, _FOREVER)]
    + [(0.0, until, 0.0) for until in (1.0, 2.5, 5.0, _FOREVER)]
    + [(0.0, until, 1.0) for until in (1.5, _FOREVER)],
    np.float32,
)
# m/s²: gained, lost in comfort, lost at most.
GAINS, COMFORTABLE, HARDEST = 2.8, 3.5, 7.5
# To whoever leads: m kept, s of its speed, and what of the gap may be braked for [m/s²].
_GAP, _HEADWAY, _CLOSING = 3.0, 0.5, 3.0
# Who stands is approached so near [m], who is to be passed so near.
STANDING_GAP, PASSING_GAP = 4.0, 11.0
# Margins [m] of boxes: at once, more for each second, at most; along the path more for each m/s.
_BESIDE, _BESIDE_RATE, _BESIDE_MOST, _AHEAD_RATE = 0.15, 0.05, 0.35, 0.12
# s before those who come towards it by which it is back in its lane, planned before it goes out.
_BACK_BEFORE = 1.2
_NOWHERE = 1e4
# Forecasts that are checked: every one at first, then every other.
CHECKED = np.concatenate([np.arange(12), np.arange(13, CELLS, 2)])


class Driven(NamedTuple):
    """What becomes of a path's ways ``[M]``.

    Attributes:
        speed, place: ``[CELLS + 1, M]``: m/s and m along the path, from now on.
        hits: s until a forecast touches the ego, `_NOWHERE` never; nears: with margins.
        hit_speed: m/s of the ego then.
        meets: s until somebody comes towards it who is that soon in its way, if it would borrow their lane.
    """

    speed: jax.Array
    place: jax.Array
    hits: jax.Array
    nears: jax.Array
    hit_speed: jax.Array
    meets: jax.Array


def drive_ways(
    scene: Scene,
    path: RoutePath,
    speed: jax.Array,
    desired: jax.Array,
    stop: jax.Array,
    offset: jax.Array,
    others: Others,
    margin: jax.Array,
    borrows: jax.Array,
) -> Driven:
    """Drives a path in every way.

    Args:
        scene: of the ego.
        path: of the rear axle.
        speed: m/s, present.
        desired: ``[POINTS]`` m/s along the path.
        stop: m along the path at which a line or someone standing makes it stop.
        offset: ``[POINTS]`` m, of the path from the route.
        others: with forecasts.
        margin: share of the margins that is kept.
        borrows: bool, whether it is yet to go out on the lane of those who come towards it.
    """
    bank = scene.bank
    to_centre, (half_length, half_width) = bank.chassis[scene.idx, 1], bank.boxes[scene.idx, :2, 0]
    share, until, hard = jnp.asarray(WAYS.T)
    leads = _leads(others, offset, half_width)
    pace = jnp.maximum(others.forward, 0.0)
    rear = others.arcs - others.along - _GAP - _HEADWAY * pace - to_centre - half_length
    least = CELL * jnp.where(hard > 0, HARDEST, COMFORTABLE)

    def drive(now, cell):
        v, place = now
        time, leads, arcs, rear = cell
        wanted = desired[jnp.clip(jnp.round(place * (1.0 / SPACING)), 0, POINTS - 1).astype(jnp.int32)]
        wanted = jnp.where(time < until, share * wanted, wanted)
        room = jnp.maximum(stop - place, 0.0)
        # Not farther than the line within the cell.
        to_stop = jnp.minimum(jnp.sqrt(2.0 * COMFORTABLE * room), room / CELL)
        gap = rear - place[:, None]
        behind = jnp.sqrt(jnp.maximum(pace * pace + 2.0 * _CLOSING * gap, 0.0))
        behind = jnp.where(leads & (arcs > place[:, None] + to_centre), behind, _NOWHERE).min(1)
        following = jnp.maximum(jnp.minimum(wanted, v + GAINS * CELL), v - least)
        following = jnp.minimum(following, jnp.minimum(to_stop, behind))
        following = jnp.maximum(following, jnp.maximum(v - CELL * HARDEST, 0.0))
        place = place + 0.5 * CELL * (v + following)
        return (following, place), (following, place)

    times = CELL * jnp.arange(CELLS, dtype=jnp.float32)
    begin = jnp.full(len(WAYS), speed), jnp.zeros(len(WAYS))
    _, (speeds, places) = lax.scan(drive, begin, (times, leads, others.arcs, rear))
    hits, nears, hit_speed, meets = _meets(
        path, places, speeds, to_centre, half_length, half_width, others, margin, offset, borrows
    )
    speeds, places = (
        jnp.concatenate([first[None], rest]) for first, rest in zip(begin, (speeds, places), strict=True)
    )
    return Driven(speeds, places, hits, nears, hit_speed, meets)


def _leads(others: Others, offset: jax.Array, half_width: jax.Array) -> jax.Array:
    """Who is in the corridor of a path and is followed or stopped for, bool ``[CELLS, A]``."""
    at = jnp.clip(jnp.round(others.arcs * (1.0 / SPACING)), 0, len(offset) - 1).astype(jnp.int32)
    apart = jnp.abs(others.lefts - offset[at])
    in_lane = apart < half_width + others.across + 0.2
    return in_lane & others.there & ~others.is_against & (others.is_along | (others.speed < 0.3))


def _meets(path, places, speeds, to_centre, half_length, half_width, others: Others, margin, offset, borrows):
    """Times of the first touch and nearness [s], the ego's speed at the touch [m/s], and `Driven.meets`, ``[M]``."""
    places, speeds = places[CHECKED], speeds[CHECKED]
    x, y, cos, sin = (row[..., None] for row in poses_on(path, places))
    x, y = x + to_centre * cos, y + to_centre * sin
    other_x, other_y, other_cos, other_sin = (
        row[CHECKED, None] for row in (others.x, others.y, others.cos, others.sin)
    )
    other = Box(other_x, other_y, other_cos, other_sin, others.half_length, others.half_width)
    times = CELL * (1.0 + jnp.asarray(CHECKED, jnp.float32)[:, None])
    # Who follows in the ego's own lane keeps its distance itself.
    is_behind = others.is_along & (others.arc + others.along < to_centre - half_length + 1.0)
    to_x, to_y = others.x[0] - x[0], others.y[0] - y[0]
    is_behind &= (jnp.abs(to_y * cos[0] - to_x * sin[0]) < 1.5) | (jnp.abs(others.left - offset[0]) < 1.2)
    counts = others.there & ~is_behind
    long = half_length + (0.3 + _AHEAD_RATE * speeds[..., None]) * margin
    gap = jnp.where(counts, box_gap(Box(x, y, cos, sin, half_length, half_width), other), _NOWHERE).min(2)
    grown = jnp.where(counts, box_gap(Box(x, y, cos, sin, long, half_width), other), _NOWHERE).min(2)
    beside = jnp.minimum(_BESIDE + _BESIDE_RATE * times, _BESIDE_MOST) * margin
    moving = speeds > 0.1
    hits = jnp.where((gap < 0.05) & moving, times, _NOWHERE).min(0)
    nears = jnp.where((grown < beside) & moving, times, _NOWHERE).min(0)
    hit_speed = jnp.where((gap < 0.05) & moving & (times == hits), speeds, 0.0).max(0)
    # Who comes towards it has to find it back in its lane some time before it is there.
    ahead = _BACK_BEFORE * others.speed
    reach = Box(
        other.x + 0.5 * ahead * other.cos,
        other.y + 0.5 * ahead * other.sin,
        other.cos,
        other.sin,
        others.half_length + 0.5 * ahead,
        others.half_width,
    )
    comes = counts & others.is_against & borrows
    room = jnp.where(comes, box_gap(Box(x, y, cos, sin, half_length, half_width), reach), _NOWHERE).min(2)
    meets = jnp.where((room < _BESIDE_MOST) & moving, times, _NOWHERE).min(0)
    return hits, nears, hit_speed, meets
