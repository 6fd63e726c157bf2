"""How close it came: distances between boxes, times to collision, collision rates, hard brakes forced on others.

Two times to collision are in use, and they answer different questions:

- `contact_time`: both boxes go on with their present velocity and heading until they touch, the time to collision of
  Hayward (1972, "Near-miss determination through use of a scale of danger") for boxes. It sees crossing and oncoming
  traffic too.
- `lead_time_to_collision`: the gap to the object *ahead in the same direction* over the speed with which it closes,
  as the Waymo Open Sim Agents Challenge defines it. It sees following only.

Road users are rows ``[8, A]`` as in a bank, their sizes ``[3, A]``: half length, half width [m], `AgentType`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, X, Y, Z
from perlsim.geometry.boxes import Box, box_gap, corners
from perlsim.geometry.cells import LEVEL_HEIGHT
from perlsim.geometry.numerics import safe_norm, to_frame
from perlsim.sim.types import Event, has

# Times to collision beyond this are no conflict and count as this [s] (the challenge's limit).
TIME_LIMIT = 5.0
# Who is followed (the challenge): headings differ by less than 75°, or by less than 10° where the other reaches into
# the strip ahead by less than 0.5 m.
_LEAD_COS, _SLIGHT_LEAD_COS, _SLIGHT_OVERLAP = math.cos(math.radians(75)), math.cos(math.radians(10)), 0.5
# A brake is hard beyond nuPlan's bound of comfort [m/s²], in the mean over this many steps, so that the jitter of
# logged speeds is none.
HARD_BRAKE, BRAKE_STEPS = 4.05, 5
# Slower relative motion along an axis than this [m/s] is none.
_LEAST_SPEED = 1e-6


def box_distance(first: Box, second: Box) -> jax.Array:
    """Signed distance between boxes [m], elementwise.

    Returns:
        Apart: the Euclidean distance. Overlapping: minus the depth of the overlap, the shortest move that would part
        them.
    """
    gap = box_gap(first, second)
    # Convex and apart: the nearest points include a corner of one of the two.
    nearest = jnp.minimum(_corner_distance(first, second), _corner_distance(second, first))
    return jnp.where(gap > 0, nearest, gap)


def _corner_distance(first: Box, second: Box) -> jax.Array:
    """Distance [m] of the nearest corner of the first box from the second; 0 where one is inside."""
    nearest = jnp.asarray(jnp.inf, jnp.float32)
    for x, y in corners(first):
        along, across = to_frame(x, y, second.x, second.y, second.cos, second.sin)
        dx = jnp.maximum(jnp.abs(along) - second.half_length, 0.0)
        dy = jnp.maximum(jnp.abs(across) - second.half_width, 0.0)
        nearest = jnp.minimum(nearest, safe_norm(dx, dy))
    return nearest


def contact_time(first: Box, second: Box, vx: jax.Array, vy: jax.Array) -> jax.Array:
    """Time [s] until two boxes touch that keep their headings and velocities, elementwise; exact.

    Args:
        first, second: the boxes now.
        vx, vy: velocity of the second *relative to the first* [m/s].

    Returns:
        0 where they overlap, infinity where they never touch.
    """
    dx, dy = second.x - first.x, second.y - first.y
    cos = jnp.abs(first.cos * second.cos + first.sin * second.sin)
    sin = jnp.abs(first.cos * second.sin - first.sin * second.cos)
    enters, leaves = jnp.float32(0.0), jnp.inf
    # On each separating axis the projections overlap during an interval: they touch while all of these do.
    for box, other in ((first, second), (second, first)):
        length = box.half_length + other.half_length * cos + other.half_width * sin
        width = box.half_width + other.half_length * sin + other.half_width * cos
        for axis_x, axis_y, reach in ((box.cos, box.sin, length), (-box.sin, box.cos, width)):
            place, speed = dx * axis_x + dy * axis_y, vx * axis_x + vy * axis_y
            moves = jnp.abs(speed) > _LEAST_SPEED
            divisor = jnp.where(moves, speed, 1.0)
            one, two = (-reach - place) / divisor, (reach - place) / divisor
            still = jnp.where(jnp.abs(place) <= reach, -jnp.inf, jnp.inf)
            enters = jnp.maximum(enters, jnp.where(moves, jnp.minimum(one, two), still))
            leaves = jnp.minimum(leaves, jnp.where(moves, jnp.maximum(one, two), jnp.inf))
    return jnp.where(enters <= leaves, enters, jnp.inf)


class Lead(NamedTuple):
    """Whom each road user follows, ``[A]``.

    Attributes:
        slot: int32, −1 nobody.
        gap: m, from the front to the rearmost point of the followed; infinite without.
        closing_speed: m/s, how much faster than the followed; 0 without.
    """

    slot: jax.Array
    gap: jax.Array
    closing_speed: jax.Array


def leads(agents: jax.Array, sizes: jax.Array, speed: jax.Array | None = None) -> Lead:
    """The object ahead of each road user in the same direction, by the challenge's rule (see the module).

    Args:
        agents: ``[8, A]``.
        sizes: ``[3, A]``.
        speed: ``[A]`` m/s; None takes the length of the velocities.
    """
    speed = safe_norm(agents[VX], agents[VY]) if speed is None else speed
    own, other = agents[:, :, None], agents[:, None, :]
    cos = own[COS] * other[COS] + own[SIN] * other[SIN]
    sin = jnp.abs(own[COS] * other[SIN] - own[SIN] * other[COS])
    along, across = to_frame(other[X], other[Y], own[X], own[Y], own[COS], own[SIN])
    half_length, half_width = sizes[0], sizes[1]
    gap = along - half_length[:, None] - half_length * jnp.abs(cos) - half_width * sin
    aside = jnp.abs(across) - half_width[:, None] - half_length * sin - half_width * jnp.abs(cos)
    follows = (gap > 0) & (aside < 0) & (cos >= _LEAD_COS)
    follows &= (aside < -_SLIGHT_OVERLAP) | (cos >= _SLIGHT_LEAD_COS)
    follows &= _both_there(agents)
    gap = jnp.where(follows, gap, jnp.inf)
    nearest = gap.argmin(1).astype(jnp.int32)
    found = jnp.isfinite(gap.min(1))
    closing = jnp.where(found, speed - speed[nearest], 0.0)
    return Lead(jnp.where(found, nearest, -1), gap.min(1), closing)


def lead_time_to_collision(
    agents: jax.Array, sizes: jax.Array, speed: jax.Array | None = None, limit: float = TIME_LIMIT
) -> jax.Array:
    """Time [s] in which each road user reaches the one it follows at present speeds, ``[A]``, `limit` at most.

    Arguments as of `leads`; absent road users get `limit`.
    """
    lead = leads(agents, sizes, speed)
    closes = lead.closing_speed > 0
    return jnp.where(closes, jnp.minimum(lead.gap / jnp.where(closes, lead.closing_speed, 1.0), limit), limit)


def nearest_distance(agents: jax.Array, sizes: jax.Array, corner_rounding: float = 0.0) -> jax.Array:
    """Signed distance [m] of each road user's box from the nearest other one on its level, ``[A]``.

    Args:
        agents: ``[8, A]``.
        sizes: ``[3, A]``.
        corner_rounding: 0 for boxes; else the corners are rounded by this share of half the shorter side (the
            challenge: 0.7).

    Returns:
        See `box_distance`; infinite where nobody else is there, and for absent road users.
    """
    rounding = corner_rounding * jnp.minimum(sizes[0], sizes[1])
    core = jnp.stack([sizes[0] - rounding, sizes[1] - rounding])
    own, other = _boxes(agents[:, :, None], core[:, :, None]), _boxes(agents[:, None, :], core[:, None, :])
    distance = box_distance(own, other) - rounding[:, None] - rounding
    return jnp.where(_both_there(agents), distance, jnp.inf).min(1)


class Margins(NamedTuple):
    """How close one road user came to the others over an episode; NaN where it never was there.

    Attributes:
        min_distance: m between boxes, negative for an overlap; NaN where nobody else was ever there.
        min_time_to_collision, mean_time_to_collision: s, of `contact_time` with any other, `TIME_LIMIT` at most.
        min_lead_time_to_collision, mean_lead_time_to_collision: s, of `lead_time_to_collision`.
        hard_brakes_forced: road users that braked harder than `HARD_BRAKE` while they followed this one.
    """

    min_distance: jax.Array
    min_time_to_collision: jax.Array
    mean_time_to_collision: jax.Array
    min_lead_time_to_collision: jax.Array
    mean_lead_time_to_collision: jax.Array
    hard_brakes_forced: jax.Array


def margins(tracks: jax.Array, sizes: jax.Array, slot: int = 0) -> Margins:
    """Margins of one road user, the ego unless another is named.

    Args:
        tracks: ``[T, 8, A]``, all road users at every step.
        sizes: ``[3, A]``.
        slot: whose margins.
    """

    def one(agents: jax.Array):
        own = _boxes(agents[:, slot], sizes[:, slot])
        others = _boxes(agents, sizes)
        there = _both_there(agents)[slot]
        time = contact_time(own, others, agents[VX] - agents[VX, slot], agents[VY] - agents[VY, slot])
        distance = jnp.where(there, box_distance(own, others), jnp.inf).min()
        time = jnp.minimum(jnp.where(there, time, jnp.inf).min(), TIME_LIMIT)
        return distance, time, lead_time_to_collision(agents, sizes)[slot]

    distance, time, lead_time = jax.vmap(one)(tracks)
    there = tracks[:, VALID, slot] > 0
    nearest = jnp.where(there, distance, jnp.inf).min()
    return Margins(
        jnp.where(jnp.isfinite(nearest), nearest, jnp.nan),
        *_least_and_mean(time, there),
        *_least_and_mean(lead_time, there),
        jnp.where(there.any(), hard_brakes_forced(tracks, sizes, slot), jnp.nan),
    )


def _least_and_mean(values: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Least and mean of the valid values; NaN where there is none."""
    count = valid.sum()
    mean = jnp.where(valid, values, 0.0).sum() / jnp.maximum(count, 1)
    least = jnp.where(valid, values, jnp.inf).min()
    return jnp.where(count > 0, least, jnp.nan), jnp.where(count > 0, mean, jnp.nan)


def hard_brakes_forced(
    tracks: jax.Array, sizes: jax.Array, slot: int = 0, threshold: float = HARD_BRAKE
) -> jax.Array:
    """How many road users braked hard while they followed this one.

    A road user counts once. It brakes hard where its speed falls by more than ``threshold`` times the time of
    `BRAKE_STEPS` steps, and this one is whom it followed (`leads`) at the first and at the last of them.

    Args:
        tracks: ``[T, 8, A]``.
        sizes: ``[3, A]``.
        slot: who may force them.
        threshold: m/s².
    """
    if tracks.shape[0] <= BRAKE_STEPS:
        return jnp.int32(0)
    behind = jax.vmap(lambda agents: leads(agents, sizes).slot == slot)(tracks)
    behind &= tracks[:, VALID] > 0
    speed = tracks[:, VX] * tracks[:, COS] + tracks[:, VY] * tracks[:, SIN]
    lost = speed[:-BRAKE_STEPS] - speed[BRAKE_STEPS:]
    brakes = behind[:-BRAKE_STEPS] & behind[BRAKE_STEPS:] & (lost > threshold * BRAKE_STEPS * STEP)
    return brakes.any(0).sum()


class CollisionRates(NamedTuple):
    """Shares of episodes in which something happened; NaN without episodes.

    Attributes:
        collision: any collision.
        at_fault: one for which the road user is to blame (NAVSIM's rule).
        vehicle, pedestrian, static: by what was hit; pedestrians include cyclists.
        off_road, red_light, wrong_way: the events of these names.
        num_episodes: how many counted.
    """

    collision: jax.Array
    at_fault: jax.Array
    vehicle: jax.Array
    pedestrian: jax.Array
    static: jax.Array
    off_road: jax.Array
    red_light: jax.Array
    wrong_way: jax.Array
    num_episodes: jax.Array


def collision_rates(happened: jax.Array, valid: jax.Array | None = None) -> CollisionRates:
    """Rates from the `Event` sets of whole episodes (`perlsim.sim.rollout.Result.happened` or ``.everyone``).

    Args:
        happened: int32 of any shape, each the union over an episode of one road user.
        valid: bool of the same shape, which of them count; None all.
    """
    valid = jnp.ones(happened.shape, bool) if valid is None else valid
    count = valid.sum()

    def rate(event: Event) -> jax.Array:
        share = (has(happened, event) & valid).sum() / jnp.maximum(count, 1)
        return jnp.where(count > 0, share, jnp.nan)

    return CollisionRates(
        rate(Event.COLLISION),
        rate(Event.AT_FAULT),
        rate(Event.HIT_VEHICLE),
        rate(Event.HIT_PEDESTRIAN),
        rate(Event.HIT_STATIC),
        rate(Event.OFF_ROAD),
        rate(Event.RED_LIGHT),
        rate(Event.WRONG_WAY),
        count,
    )


def _boxes(agents: jax.Array, sizes: jax.Array) -> Box:
    return Box(agents[X], agents[Y], agents[COS], agents[SIN], sizes[0], sizes[1])


def _both_there(agents: jax.Array) -> jax.Array:
    """bool ``[A, A]``: both are there, on the same level, and they are two."""
    there = agents[VALID] > 0
    level = jnp.abs(agents[Z][:, None] - agents[Z]) < LEVEL_HEIGHT
    return there[:, None] & there & level & ~jnp.eye(agents.shape[1], dtype=bool)
