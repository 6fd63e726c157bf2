"""Outcomes of every road user of a scene, not only the ego's: for multi-agent training and for checking logs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from perlsim.bank import COS, SIN, VALID, VX, VY, Scene, X, Y, Z
from perlsim.geometry.boxes import Box
from perlsim.sim.kernels import apart
from perlsim.sim.outcomes import (
    contact_events,
    first_contact,
    road_outcome,
    stop_line_events,
    to_blame,
)
from perlsim.sim.types import Event, Pose, has


def pose_of(rows: jax.Array) -> Pose:
    """Poses of road users from rows ``[8, ...]`` of a bank; the speed is that along the heading."""
    speed = rows[VX] * rows[COS] + rows[VY] * rows[SIN]
    heading = jnp.arctan2(rows[SIN], rows[COS])
    return Pose(rows[X], rows[Y], rows[Z], heading, rows[COS], rows[SIN], speed)


def everyone_outcome(
    scene: Scene, before: jax.Array, after: jax.Array, lights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Events of each road user in a step.

    Differences from the ego's outcome: a collision is an overlap *in this step*, whether new or not, and its
    kind and fault are those of the overlapped road user with the lowest slot; stop signs are left out, since
    nobody's stops are remembered.

    Args:
        scene: the scene; its bank must be built with ``outcomes_for="all"``.
        before, after: ``[8, A]``, all road users, the ego in slot 0.
        lights: int8 ``[L]``, states at the step.

    Returns:
        int32 `Event` sets ``[A]``, 0 for those absent; height of the nearest lane ``[A]`` m.
    """
    sizes = scene.bank.boxes[scene.idx]
    slots = jnp.arange(after.shape[1], dtype=jnp.int32)
    poses, poses_before = pose_of(after), pose_of(before)

    def one(slot, pose, pose_before, was_there, half_length, half_width):
        road = road_outcome(scene, pose, half_length, half_width)
        partner = apart(
            scene.bank.once, lambda: first_contact(scene, after, pose, half_length, half_width, slot)
        )
        lines = stop_line_events(scene, lights, pose_before, pose, half_length, jnp.float32(0.0))
        return road, partner, jnp.where(was_there, lines, 0)

    road, partner, lines = jax.vmap(one)(slots, poses, poses_before, before[VALID] > 0, sizes[0], sizes[1])
    touched = partner < after.shape[1]
    other = jnp.minimum(partner, after.shape[1] - 1)
    rows = after[:, other]
    boxes = Box(rows[X], rows[Y], rows[COS], rows[SIN], sizes[0, other], sizes[1, other])
    own = Box(poses.x, poses.y, poses.cos, poses.sin, sizes[0], sizes[1])
    exposed = road.over_line | has(road.events, Event.OFF_ROAD)
    at_fault = touched & to_blame(own, poses, rows, boxes, exposed)
    events = road.events | lines | contact_events(touched, at_fault, sizes[2, other])
    return jnp.where(after[VALID] > 0, events, 0), road.z
