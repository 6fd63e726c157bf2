"""Where the other road users will be, for the expert: kinematics that bend along the route.

Whoever drives along the route, in its direction or against it, keeps its distance from it; everybody else turns on
as at present. Braking goes on to a standstill, gaining speed for a second. Nothing is read from an agent model.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, Scene, X, Y, Z
from perlsim.geometry.cells import LEVEL_HEIGHT
from perlsim.policies.expert_road import BEHIND, LENGTH, Frame, into, out_of
from perlsim.policies.route_path import SPACING
from perlsim.sim.types import SimState
from perlsim.vocabulary import AgentType

# Seconds between forecasts, and how many.
CELL, CELLS = 0.25, 32
# Slopes [1] up to which others may be on the same road, seen from afar.
_SLOPE = 0.1
# Along the route is who turns off it by less than this (sine) within this distance [m].
_ALONG_SIN, _ALONG_REACH = 0.45, 9.0
# A turn fades out within this time [s], a motion across the route lasts that long [s].
_TURN_TIME, _ACROSS_TIME = 2.5, 2.0
# Slower than this is standing [m/s].
STANDING = 0.3
# Who stands within this distance [m] has seen the ego wait.
_NEAR = 16.0
# Changes of speed less than this are none [m/s²]; who follows the ego brakes for it after a while [m/s², s].
_LEAST_CHANGE, _YIELDS, _YIELDS_AFTER = 1.5, 2.0, 0.4
# m beside the ego's line within which others are in its lane.
_IN_LANE = 1.8
# In a hurry is who drives this share of the limit, comes nearer by so much [m/s], would be there within this time [s],
# and gains speed as few do [m/s²] or drives this much above the limit [m/s]. That is believed for so long [s].
_HURRY_SHARE, _HURRY_CLOSING, _HURRY_WITHIN = 0.4, 4.0, 5.0
_HURRY_GAINS, _HURRY_ABOVE, _HURRY_FOR = 2.5, 3.0, 12.0
# The ego drives at least so fast [m/s].
_HURRY_EGO = 2.0
# m behind the ego up to which it is looked for, and before the ego at which it has passed.
_HURRY_BEHIND, _HURRY_PAST = 60.0, 3.0


class Seen(NamedTuple):
    """What the expert remembers of the others ``[A]``: heading, speed [m/s] and being there at the last plan.

    Attributes:
        step: int32, of that plan.
        stood: s that each has stood still near the ego.
        drove: bool, whether each was ever seen moving.
    """

    cos: jax.Array
    sin: jax.Array
    speed: jax.Array
    there: jax.Array
    step: jax.Array
    stood: jax.Array
    drove: jax.Array


class Others(NamedTuple):
    """The other road users ``[A]`` and their forecasts ``[CELLS, A]`` at ``CELL · (1 …)`` s from now.

    Attributes:
        there: bool, on the ego's level; the ego is not among them.
        kind: `AgentType`.
        half_length, half_width: m.
        arc, left: m, places in the frame; along, across: how far each reaches along and across the route [m].
        speed: m/s; forward: along the route.
        is_along, is_against: bool, drives along the route, in its direction or against it.
        brakes: m/s², present deceleration.
        x, y, cos, sin: forecasts; arcs, lefts: places of those along the route.
    """

    there: jax.Array
    kind: jax.Array
    half_length: jax.Array
    half_width: jax.Array
    arc: jax.Array
    left: jax.Array
    along: jax.Array
    across: jax.Array
    speed: jax.Array
    forward: jax.Array
    is_along: jax.Array
    is_against: jax.Array
    brakes: jax.Array
    x: jax.Array
    y: jax.Array
    cos: jax.Array
    sin: jax.Array
    arcs: jax.Array
    lefts: jax.Array


def nobody(scene: Scene) -> Seen:
    """Before the first plan."""
    zero = jnp.zeros(scene.bank.num_agents)
    return Seen(zero, zero, zero, zero > 0, jnp.int32(-1), zero, zero > 0)


def seen_now(seen: Seen, state: SimState) -> Seen:
    """What is remembered of a state."""
    rows = state.agents
    speed, there = jnp.hypot(rows[VX], rows[VY]), rows[VALID] > 0
    passed = jnp.where(seen.step < 0, 0, state.step - seen.step) * STEP
    stands = there & (speed < STANDING)
    near = jnp.hypot(rows[X] - state.ego.x, rows[Y] - state.ego.y) < _NEAR
    stood = jnp.where(stands, seen.stood + jnp.where(near, passed, 0.0), 0.0)
    drove = there & (seen.drove | (speed > 1.0))
    return Seen(rows[COS], rows[SIN], speed, there, state.step, stood, drove)


def in_hurry(
    scene: Scene, state: SimState, frame: Frame, others: Others, before: jax.Array, since: jax.Array
) -> jax.Array:
    """For how much longer [s] each ``[A]`` is believed to be in a hurry behind the ego, such as on an emergency call.

    Nobody else gains speed that hard close behind somebody slower, or comes up from behind well above the limit.
    Where the limit is unknown nobody is; an ego that stands or sets off is in nobody's way.

    Args:
        scene, state: of the ego.
        frame: its route.
        others: now.
        before: s, what this returned at the last plan.
        since: s since then.
    """
    half_length = scene.bank.boxes[scene.idx, 0, 0]
    # Measured from the ego's centre.
    arc, left, _, _ = into(frame, state.ego.x, state.ego.y)
    away = arc - others.arc
    closing = others.forward - state.ego.speed
    gap = away - half_length - others.along
    limit = frame.limit[BEHIND]
    comes = others.there & others.is_along & (others.kind == AgentType.VEHICLE) & (gap > 0)
    comes &= (jnp.abs(others.left - left) < _IN_LANE) & (closing > _HURRY_CLOSING)
    comes &= state.ego.speed > _HURRY_EGO
    comes &= (gap < _HURRY_WITHIN * closing) & (others.forward > _HURRY_SHARE * limit)
    comes &= (-others.brakes > _HURRY_GAINS) | (others.forward > limit + _HURRY_ABOVE)
    left_over = jnp.where(comes, _HURRY_FOR, jnp.maximum(before - since, 0.0))
    is_near = (away < _HURRY_BEHIND) & (-away - half_length - others.along < _HURRY_PAST)
    return jnp.where(others.there & others.is_along & is_near, left_over, 0.0)


def forecast(
    scene: Scene,
    state: SimState,
    frame: Frame,
    seen: Seen,
    yields: jax.Array,
    crosses: jax.Array,
) -> Others:
    """The others and where they will be.

    Args:
        scene, state: of the ego.
        frame: its route.
        seen: of the plan before.
        yields: m/s², by which drivers are counted on to brake for the ego.
        crosses: bool, whether those who come towards it are, too.
    """
    rows, ego, sizes = state.agents, state.ego, scene.bank.boxes[scene.idx]
    half_length, half_width, kind = sizes
    own_length = half_length[0]
    x, y, cos, sin = rows[X], rows[Y], rows[COS], rows[SIN]
    speed = jnp.hypot(rows[VX], rows[VY])
    dx, dy = x - ego.x, y - ego.y
    climb = jnp.maximum(jnp.abs(rows[Z] - ego.z) - LEVEL_HEIGHT, 0.0)
    there = (rows[VALID] > 0) & (jnp.arange(len(x)) > 0)
    there &= climb * climb <= _SLOPE**2 * (dx * dx + dy * dy)
    arc, left, route_cos, route_sin = into(frame, x, y)
    to, off = cos * route_cos + sin * route_sin, sin * route_cos - cos * route_sin
    forward = rows[VX] * route_cos + rows[VY] * route_sin
    aside = rows[VY] * route_cos - rows[VX] * route_sin
    walks = kind == AgentType.PEDESTRIAN
    parallel = (jnp.abs(off) < _ALONG_SIN) & (jnp.abs(left) < _ALONG_REACH) & ~walks & (speed > STANDING)
    change, turn = _changes(seen, state, rows, speed)
    change = jnp.where(walks, 0.0, change)
    # Who comes towards an ego that passes someone may brake only because of it: that is no room.
    change = jnp.where(parallel & (to < 0) & ~crosses, jnp.maximum(change, 0.0), change)

    times = CELL * jnp.arange(1, CELLS + 1, dtype=jnp.float32)[:, None]
    ego_arc = scene.bank.chassis[scene.idx, 1]
    follows = parallel & (to > 0) & (arc + half_length < ego_arc - own_length)
    drives = (
        ~walks & (crosses | ~(parallel & (to < 0))) & ~(parallel & (arc > ego_arc) & (jnp.abs(left) < 2.0))
    )
    # Who speeds or gains speed is in a hurry.
    drives &= (speed < 14.0) & (change <= 0)
    # Who follows in the ego's lane brakes for it.
    in_lane = jnp.abs(dy * ego.cos - dx * ego.sin) < _IN_LANE
    lets = jnp.where(
        follows & in_lane, jnp.maximum(_YIELDS, yields), jnp.where(drives | follows, yields, 0.0)
    )
    least = jnp.where(follows, ego.speed, 0.0)
    gone = _travelled(times, speed, change, lets, jnp.minimum(least, speed))
    # They stay in their lanes where the route changes its own.
    shift = frame.shift[_at(arc)]
    across = aside + forward * jnp.gradient(frame.shift, SPACING)[_at(arc)]
    lefts = left + across * jnp.minimum(times, _ACROSS_TIME)
    # Who comes towards the line of the route stays there.
    lefts = jnp.where((jnp.sign(across) == -jnp.sign(left)) & (lefts * left < 0), 0.0, lefts)
    arcs = arc + jnp.sign(to) * gone
    lefts = lefts + shift - frame.shift[_at(arcs)]
    way_x, way_y, way_cos, way_sin = out_of(frame, arcs, lefts)
    heading = jnp.arctan2(sin, cos) + turn * _TURN_TIME * (1.0 - jnp.exp(-times / _TURN_TIME))
    head_cos, head_sin = jnp.cos(heading), jnp.sin(heading)
    # A vehicle moves along its heading, a walker along its velocity.
    still = speed < 0.05
    step_cos = jnp.where(walks & ~still, rows[VX] / jnp.maximum(speed, 0.05), head_cos)
    step_sin = jnp.where(walks & ~still, rows[VY] / jnp.maximum(speed, 0.05), head_sin)
    steps = jnp.diff(gone, axis=0, prepend=0.0)
    free_x, free_y = x + jnp.cumsum(steps * step_cos, 0), y + jnp.cumsum(steps * step_sin, 0)
    side = jnp.sign(to)
    return Others(
        there=there,
        kind=kind,
        half_length=half_length,
        half_width=half_width,
        arc=arc,
        left=left,
        along=half_length * jnp.abs(to) + half_width * jnp.abs(off),
        across=half_length * jnp.abs(off) + half_width * jnp.abs(to),
        speed=speed,
        forward=forward,
        is_along=parallel & (to > 0),
        is_against=parallel & (to < 0),
        brakes=-change,
        x=jnp.where(parallel, way_x, free_x),
        y=jnp.where(parallel, way_y, free_y),
        cos=jnp.where(parallel, side * way_cos, head_cos),
        sin=jnp.where(parallel, side * way_sin, head_sin),
        arcs=jnp.where(parallel, arcs, arc + forward * times),
        lefts=jnp.where(parallel, lefts, left + aside * times),
    )


def _at(arc: jax.Array) -> jax.Array:
    """Points of the frame nearest to arcs."""
    return jnp.clip(jnp.round(arc * (1.0 / SPACING)).astype(jnp.int32) + BEHIND, 0, LENGTH - 1)


def _changes(seen: Seen, state: SimState, rows: jax.Array, speed: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Present changes of speed [m/s²] and heading [rad/s], 0 of whom the last plan did not see."""
    known = seen.there & (rows[VALID] > 0) & (seen.step >= 0)
    per_second = 1.0 / jnp.maximum((state.step - seen.step) * STEP, STEP)
    change = jnp.clip((speed - seen.speed) * per_second, -8.0, 3.0)
    change = jnp.where(jnp.abs(change) > _LEAST_CHANGE, change, 0.0)
    turned = jnp.arcsin(jnp.clip(rows[SIN] * seen.cos - rows[COS] * seen.sin, -1.0, 1.0))
    turn = jnp.clip(turned * per_second, -0.8, 0.8)
    return jnp.where(known, change, 0.0), jnp.where(known & (speed > 1.0), turn, 0.0)


def _travelled(times, speed, change, lets, least) -> jax.Array:
    """Metres ``[CELLS, A]`` that each drives until then, who lets the ego in down to its least speed."""
    braking = jnp.minimum(change, -1e-3)
    until = jnp.minimum(times, speed / -braking)
    brakes = speed * until + 0.5 * braking * until * until
    gains = speed * times + jnp.maximum(change, 0.0) * (0.5 * jnp.minimum(times, 1.0) ** 2)
    gains += jnp.maximum(change, 0.0) * jnp.maximum(times - 1.0, 0.0)
    slows = (speed - least) / jnp.maximum(lets, 1e-3)
    after = jnp.maximum(times - _YIELDS_AFTER, 0.0)
    first = jnp.minimum(after, slows)
    yields = speed * times - lets * (0.5 * first * first + slows * (after - first))
    return jnp.where(change < 0, brakes, jnp.where(lets > 0, yields, gains))
