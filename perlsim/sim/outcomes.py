"""What happens to a road user in a step: collisions and their fault, the road, its lines and its lights.

Everything here is for one road user of one scene. The rules of fault are those of NAVSIM's no-at-fault-collision
score (FACTS, metrics): a front contact or a stopped partner is at fault; a side contact is if the footprint is over
a lane line or off the road; a contact from behind, or while standing, is not.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

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
    MARKING_KIND,
    VALID,
    VX,
    VY,
    Z,
    Scene,
)
from perlsim.geometry.boxes import Box, box_gap, corners, segment_touches_box
from perlsim.geometry.cells import (
    LEVEL_HEIGHT,
    OUTSIDE_GRID,
    OVERFLOW,
    lookup,
    nearest_on_segment,
    signed_edge_distance,
)
from perlsim.geometry.numerics import to_frame
from perlsim.sim.types import Event, Pose
from perlsim.vocabulary import AgentType, LightState, MarkingType

# nuPlan counts speeds up to this as standing [m/s].
STANDING_SPEED = 0.05
# nuPlan: a track is behind when it lies more than 150° off the heading.
_BEHIND_COS = -0.8660254
# A stop counts for a stop sign if the front came to rest within this distance of its line [m, S].
STOP_DISTANCE = 5.0

_BROKEN = (1 << MarkingType.BROKEN) | (1 << MarkingType.DOUBLE_BROKEN)
_PEDESTRIANS = (AgentType.PEDESTRIAN, AgentType.CYCLIST)


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
    """Events of a footprint against edges, markings and lanes."""
    box = Box(pose.x, pose.y, pose.cos, pose.sin, half_length, half_width)
    off_road, doubt = _off_road(scene, box, pose.z)
    touched, doubt_markings = _touched_markings(scene, box, pose.z)
    wrong_way, z = _lane_direction(scene, pose)
    events = (
        bits(off_road, Event.OFF_ROAD)
        | bits((touched & _BROKEN) != 0, Event.CROSSES_BROKEN)
        | bits((touched & (1 << MarkingType.SOLID)) != 0, Event.CROSSES_SOLID)
        | bits((touched & (1 << MarkingType.DOUBLE_SOLID)) != 0, Event.CROSSES_DOUBLE_SOLID)
        | bits(wrong_way, Event.WRONG_WAY)
        | doubt
        | doubt_markings
    )
    return Road(events, touched != 0, z)


def _off_road(scene: Scene, box: Box, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether a corner is off the drivable area, and doubts about that."""
    table = scene.bank.edges
    off = jnp.bool_(False)
    flags = jnp.int32(0)
    for x, y in corners(box):
        cell = lookup(table, scene.idx, x, y)
        off |= signed_edge_distance(cell, x, y, z) < 0
        flags |= cell.flags
    known = scene.bank.has_edges[scene.idx]
    doubt = bits((flags & OVERFLOW) != 0, Event.LOOKUP_OVERFLOW)
    doubt |= bits((flags & OUTSIDE_GRID) != 0, Event.LEFT_MAP)
    return off & known, doubt


def _touched_markings(scene: Scene, box: Box, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Set of the kinds of marking under the footprint, as bits ``1 << MarkingType``, and doubts.

    A line solid on one side only counts as the kind that faces the box centre.
    """
    cell = lookup(scene.bank.markings, scene.idx, box.x, box.y)
    touched = jnp.int32(0)
    for k in range(cell.segments.shape[0]):
        x0, y0, x1, y1, height, kind = (cell.segments[k, column] for column in range(6))
        touches = (k < cell.count) & (jnp.abs(height - z) < LEVEL_HEIGHT)
        touches &= segment_touches_box(x0, y0, x1, y1, box)
        left = (x1 - x0) * (box.y - y0) - (y1 - y0) * (box.x - x0) > 0
        mixed = (kind == MarkingType.SOLID_BROKEN) | (kind == MarkingType.BROKEN_SOLID)
        facing_solid = (kind == MarkingType.SOLID_BROKEN) == left
        kind = jnp.where(
            mixed, jnp.where(facing_solid, float(MarkingType.SOLID), float(MarkingType.BROKEN)), kind
        )
        touched |= jnp.where(touches, jnp.left_shift(jnp.int32(1), kind.astype(jnp.int32)), 0)
    return touched, bits((cell.flags & OVERFLOW) != 0, Event.LOOKUP_OVERFLOW)


def _lane_direction(scene: Scene, pose: Pose) -> tuple[jax.Array, jax.Array]:
    """Whether the pose drives against its lane, and the height of the nearest lane [m].

    An overflowing cell of lanes holds the nearest of them, so it raises no doubt.
    """
    cell = lookup(scene.bank.lanes, scene.idx, pose.x, pose.y)
    along, against = jnp.bool_(False), jnp.bool_(False)
    best, z = jnp.float32(jnp.inf), pose.z
    for k in range(cell.segments.shape[0]):
        segment = cell.segments[k]
        squared, _ = nearest_on_segment(pose.x, pose.y, segment)
        seen = (k < cell.count) & (jnp.abs(segment[4] - pose.z) < LEVEL_HEIGHT)
        within = seen & (squared <= segment[LANE_HALF_WIDTH] * segment[LANE_HALF_WIDTH])
        dx, dy = segment[2] - segment[0], segment[3] - segment[1]
        ahead = dx * pose.cos + dy * pose.sin
        in_junction = jnp.floor(segment[LANE_CODE] * 0.5) * 2 != segment[LANE_CODE]
        along |= within & ((ahead > 0) | in_junction)
        # Opposed by more than 120°.
        against |= within & (ahead < 0) & (4 * ahead * ahead > dx * dx + dy * dy)
        nearer = seen & (squared < best)
        z = jnp.where(nearer, segment[4], z)
        best = jnp.where(nearer, squared, best)
    return against & ~along, z


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
    present = (agents[VALID] > 0) & (slots != slot) & (jnp.abs(agents[Z] - pose.z) < LEVEL_HEIGHT)
    overlaps = present & (box_gap(own, others) < 0)
    new = overlaps & ~known
    at_fault = new & _to_blame(own, pose, agents, others, exposed)
    kind = scene.bank.boxes[scene.idx, 2]
    pedestrian = (kind == _PEDESTRIANS[0]) | (kind == _PEDESTRIANS[1])
    static = kind == AgentType.STATIC
    any_new = new.any()
    events = (
        bits(any_new, Event.COLLISION)
        | bits(at_fault.any(), Event.AT_FAULT)
        | bits((new & ~pedestrian & ~static).any(), Event.HIT_VEHICLE)
        | bits((new & pedestrian).any(), Event.HIT_PEDESTRIAN)
        | bits((new & static).any(), Event.HIT_STATIC)
    )
    first = jnp.min(jnp.where(new, slots, agents.shape[1]))
    return Contact(overlaps, events, jnp.where(any_new, first, -1).astype(jnp.int32))


def _to_blame(own: Box, pose: Pose, agents: jax.Array, others: Box, exposed: jax.Array) -> jax.Array:
    """Whether a contact with each road user would be the footprint's fault, ``[A]``."""
    moving = jnp.abs(pose.speed) > STANDING_SPEED
    partner_stands = agents[VX] ** 2 + agents[VY] ** 2 <= STANDING_SPEED**2
    front_x, front_y = own.x + own.half_length * own.cos, own.y + own.half_length * own.sin
    half_x, half_y = -own.half_width * own.sin, own.half_width * own.cos
    front = segment_touches_box(front_x - half_x, front_y - half_y, front_x + half_x, front_y + half_y, others)
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
    red = (crossed & ~is_sign & (lights == LightState.RED)).any()
    must_stop = crossed & (is_sign | (lights == LightState.FLASHING_RED))
    return bits(red, Event.RED_LIGHT) | bits(
        must_stop.any() & (since_stop > STOP_DISTANCE), Event.STOP_SIGN
    )


def _in_line_frame(lines: jax.Array, pose: Pose, half_length: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The front's place past each line and aside of its middle [m]."""
    front_x, front_y = pose.x + half_length * pose.cos, pose.y + half_length * pose.sin
    return to_frame(front_x, front_y, lines[LINE_X], lines[LINE_Y], lines[LINE_COS], lines[LINE_SIN])
