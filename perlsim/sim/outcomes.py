"""What happens to a road user in a step: collisions and their fault, the road, its lines and its lights.

Everything here is for one road user of one scene. The rules of fault are those of NAVSIM's no-at-fault-collision
score (FACTS, metrics): a front contact or a stopped partner is at fault; a side contact is if the footprint is over
a lane line or off the road; a contact from behind, or while standing, is not.
"""

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
    VALID,
    VX,
    VY,
    Scene,
    Z,
)
from perlsim.geometry.boxes import Box, box_gap, corners, segment_touches_box
from perlsim.geometry.cells import (
    DIR_X,
    DIR_Y,
    HEIGHT,
    LEVEL_HEIGHT,
    OUTSIDE_GRID,
    OVERFLOW,
    lookup,
    nearest_height,
    nearest_on_segment,
    segments_of_cell,
    signed_edge_distance,
)
from perlsim.geometry.numerics import to_frame
from perlsim.sim.kernels import apart
from perlsim.sim.types import Event, Pose
from perlsim.vocabulary import AgentType, LightState, MarkingType

# nuPlan counts speeds up to this as standing [m/s].
STANDING_SPEED = 0.05
# nuPlan: a track is behind when it lies more than 150° off the heading.
_BEHIND_COS = -0.8660254
# A stop counts for a stop sign if the front came to rest within this distance of its line [m, S].
STOP_DISTANCE = 5.0

_BROKEN = (1 << MarkingType.BROKEN) | (1 << MarkingType.DOUBLE_BROKEN)


class Road(NamedTuple):
    """What the map says about a footprint.

    Attributes:
        events: int32 `Event` set.
        over_line: bool, the footprint touches any lane line, painted or not.
        z: m, height of the nearest lane, the footprint's own where there is none.
    """

    events: jax.Array
    over_line: jax.Array
    z: jax.Array


def bits(condition: jax.Array, event: Event) -> jax.Array:
    """The event as int32 where the condition holds, else 0."""
    return jnp.where(condition, jnp.int32(int(event)), jnp.int32(0))


def road_outcome(scene: Scene, pose: Pose, half_length: jax.Array, half_width: jax.Array) -> Road:
    """Events of a footprint against edges, markings and lanes; not differentiable."""
    pose = lax.stop_gradient(pose)
    box = Box(pose.x, pose.y, pose.cos, pose.sin, half_length, half_width)
    once = scene.bank.once
    distance, flags = apart(once, lambda: _edge_distances(scene, box, pose.z))
    from_left, from_right, marking_flags = apart(once, lambda: _touched_markings(scene, box, pose.z))
    along, against, z = apart(once, lambda: _lane_direction(scene, pose))
    touched, flags = from_left | from_right, union(flags)
    known = scene.bank.has_edges[scene.idx]
    events = (
        bits((distance.min() < 0) & known, Event.OFF_ROAD)
        | bits((touched & _BROKEN) != 0, Event.CROSSES_BROKEN)
        | bits((touched & (1 << MarkingType.SOLID)) != 0, Event.CROSSES_SOLID)
        | bits((touched & (1 << MarkingType.DOUBLE_SOLID)) != 0, Event.CROSSES_DOUBLE_SOLID)
        | bits(against & ~along, Event.WRONG_WAY)
        | bits(((flags | marking_flags) & OVERFLOW) != 0, Event.LOOKUP_OVERFLOW)
        | bits((flags & OUTSIDE_GRID) != 0, Event.LEFT_MAP)
    )
    return Road(events, touched != 0, z)


def _edge_distances(scene: Scene, box: Box, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Signed distances [m] of the four corners from the road's edge, and the flags of their cells."""
    x, y = (jnp.stack(values) for values in zip(*corners(box), strict=True))
    at = partial(signed_edge_distance, scene.bank.edges, scene.idx, z=z)
    return jax.vmap(at)(x, y)


def _touched_markings(scene: Scene, box: Box, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Kinds of marking under the footprint, as bits ``1 << MarkingType``, of the lines whose left side it is
    on and of the others; flags of the cell."""
    table = scene.bank.markings
    cell = lookup(table, scene.idx, box.x, box.y)
    (mid_x, mid_y, dir_x, dir_y, half_length, height, from_left, from_right), own = segments_of_cell(
        table, cell
    )
    touches = own & (jnp.abs(height - z) < LEVEL_HEIGHT)
    touches &= segment_touches_box(mid_x, mid_y, half_length * dir_x, half_length * dir_y, box)
    left = dir_x * (box.y - mid_y) - dir_y * (box.x - mid_x) > 0
    # A union for each side: see `signed_edge_distance` on reading with one consumer.
    seen_from_left = union(jnp.where(touches & left, lax.bitcast_convert_type(from_left, jnp.int32), 0))
    seen_from_right = union(jnp.where(touches & ~left, lax.bitcast_convert_type(from_right, jnp.int32), 0))
    return seen_from_left, seen_from_right, cell.flags


def _lane_direction(scene: Scene, pose: Pose) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether lanes under the pose go along or against it, and the height of the nearest lane [m].

    Lanes in junctions always go along. An overflowing cell of lanes holds the nearest, so it raises no doubt.
    """
    table = scene.bank.lanes
    cell = lookup(table, scene.idx, pose.x, pose.y)
    columns, own = segments_of_cell(table, cell)
    squared, _ = nearest_on_segment(pose.x, pose.y, columns)
    seen = own & (jnp.abs(columns[HEIGHT] - pose.z) < LEVEL_HEIGHT)
    within = seen & (squared <= columns[LANE_HALF_WIDTH] * columns[LANE_HALF_WIDTH])
    ahead = columns[DIR_X] * pose.cos + columns[DIR_Y] * pose.sin
    in_junction = (lax.bitcast_convert_type(columns[LANE_CODE], jnp.int32) & 1) != 0
    along = (within & ((ahead > 0) | in_junction)).any()
    # Opposed by more than 120°.
    against = (within & (ahead < -0.5)).any()
    return along, against, nearest_height(table, cell, squared, seen, pose.z)


class Contact(NamedTuple):
    """Collisions of a footprint with the other road users.

    Attributes:
        overlaps: bool ``[A]``.
        events: int32 `Event` set, of new overlaps.
        hit_agent: int32, first slot newly overlapped, −1 none.
    """

    overlaps: jax.Array
    events: jax.Array
    hit_agent: jax.Array


def contact_outcome(
    scene: Scene,
    agents: jax.Array,
    pose: Pose,
    half_length: jax.Array,
    half_width: jax.Array,
    slot: jax.Array | int,
    known: jax.Array,
    exposed: jax.Array,
) -> Contact:
    """Overlaps of one road user with all others, and who is to blame.

    Args:
        scene: the scene.
        agents: ``[8, A]`` at this step.
        pose, half_length, half_width: the footprint.
        slot: its own agent slot.
        known: bool ``[A]``, overlaps that are not new.
        exposed: bool, the footprint is over a lane line or off the road.
    """
    own = Box(pose.x, pose.y, pose.cos, pose.sin, half_length, half_width)
    others = scene.agent_boxes(agents)
    slots = jnp.arange(agents.shape[1])
    overlaps = overlapping(agents, others, own, pose.z, slot)
    new = overlaps & ~known
    at_fault = new & to_blame(own, pose, agents, others, exposed)
    each = contact_events(new, at_fault, scene.bank.boxes[scene.idx, 2])
    first = jnp.min(jnp.where(new, slots, agents.shape[1])).astype(jnp.int32)
    return Contact(overlaps, union(each), jnp.where(first < agents.shape[1], first, -1))


def overlapping(agents: jax.Array, boxes: Box, own: Box, z: jax.Array, slot: jax.Array | int) -> jax.Array:
    """Which road users ``[8, A]`` with these boxes a footprint at height z [m] overlaps, its own slot left out."""
    slots = jnp.arange(agents.shape[1])
    present = (agents[VALID] > 0) & (slots != slot) & (jnp.abs(agents[Z] - z) < LEVEL_HEIGHT)
    return present & (box_gap(own, boxes) < 0)


def contact_events(touched: jax.Array, at_fault: jax.Array, kind: jax.Array) -> jax.Array:
    """Event sets of contacts with road users of the given `AgentType`; elementwise."""
    pedestrian = (kind == AgentType.PEDESTRIAN) | (kind == AgentType.CYCLIST)
    static = kind == AgentType.STATIC
    return (
        bits(touched, Event.COLLISION)
        | bits(at_fault, Event.AT_FAULT)
        | bits(touched & ~pedestrian & ~static, Event.HIT_VEHICLE)
        | bits(touched & pedestrian, Event.HIT_PEDESTRIAN)
        | bits(touched & static, Event.HIT_STATIC)
    )


def union(events: jax.Array) -> jax.Array:
    """The union of several sets of bits, int32 of any shape."""
    return lax.reduce(events, jnp.int32(0), lax.bitwise_or, range(events.ndim))


def first_contact(
    scene: Scene,
    agents: jax.Array,
    pose: Pose,
    half_length: jax.Array,
    half_width: jax.Array,
    slot: jax.Array | int,
) -> jax.Array:
    """Lowest slot that a footprint overlaps, or the number of slots where it overlaps none."""
    own = Box(pose.x, pose.y, pose.cos, pose.sin, half_length, half_width)
    overlaps = overlapping(agents, scene.agent_boxes(agents), own, pose.z, slot)
    slots = jnp.arange(agents.shape[1], dtype=jnp.int32)
    return jnp.where(overlaps, slots, agents.shape[1]).min()


def to_blame(own: Box, pose: Pose, agents: jax.Array, others: Box, exposed: jax.Array) -> jax.Array:
    """Whether a contact with each road user would be the footprint's fault; elementwise.

    Args:
        own, pose: the footprint.
        agents: ``[8, ...]``, the others; others: their boxes.
        exposed: bool, the footprint is over a lane line or off the road.
    """
    moving = jnp.abs(pose.speed) > STANDING_SPEED
    partner_stands = agents[VX] ** 2 + agents[VY] ** 2 <= STANDING_SPEED**2
    front_x, front_y = own.x + own.half_length * own.cos, own.y + own.half_length * own.sin
    half_x, half_y = -own.half_width * own.sin, own.half_width * own.cos
    front = segment_touches_box(front_x, front_y, half_x, half_y, others)
    dx, dy = others.x - own.x, others.y - own.y
    ahead = dx * own.cos + dy * own.sin
    behind = (ahead < 0) & (ahead * ahead > _BEHIND_COS**2 * (dx * dx + dy * dy))
    return moving & (partner_stands | (~behind & (front | exposed)))


def stop_line_events(
    scene: Scene, lights: jax.Array, before: Pose, after: Pose, half_length: jax.Array, since_stop: jax.Array
) -> jax.Array:
    """Events of the front crossing stop lines between two poses.

    Args:
        scene: the scene.
        lights: int8 ``[L]``, states at the step.
        before, after: poses.
        half_length: m, from the box centre to the front.
        since_stop: m driven since the last standstill.
    """
    lines = scene.bank.stop_lines[scene.idx]
    ahead_before, _ = _in_line_frame(lines, before, half_length)
    ahead_after, aside = _in_line_frame(lines, after, half_length)
    aligned = after.cos * lines[LINE_COS] + after.sin * lines[LINE_SIN] > 0.5
    crossed = (ahead_before < 0) & (ahead_after >= 0) & aligned & (jnp.abs(aside) < lines[LINE_HALF_WIDTH])
    crossed &= jnp.abs(lines[LINE_Z] - after.z) < LEVEL_HEIGHT
    is_sign = lines[LINE_IS_SIGN] > 0
    must_stop = crossed & (is_sign | (lights == LightState.FLASHING_RED))
    return union(
        bits(crossed & ~is_sign & (lights == LightState.RED), Event.RED_LIGHT)
        | bits(must_stop & (since_stop > STOP_DISTANCE), Event.STOP_SIGN)
    )


def _in_line_frame(lines: jax.Array, pose: Pose, half_length: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The front's place past each line and aside of its middle [m]."""
    front_x, front_y = pose.x + half_length * pose.cos, pose.y + half_length * pose.sin
    return to_frame(front_x, front_y, lines[LINE_X], lines[LINE_Y], lines[LINE_COS], lines[LINE_SIN])
