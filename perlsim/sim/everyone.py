"""Outcomes of every road user of a scene, not only the ego's: for multi-agent training and for checking logs."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import COS, SIN, VALID, VX, VY, ScenarioBank, Scene, X, Y, Z
from perlsim.geometry.boxes import Box
from perlsim.sim.kernels import apart
from perlsim.sim.outcomes import (
    contact_events,
    first_contact,
    overlapping,
    road_outcome,
    stop_line_events,
    to_blame,
)
from perlsim.sim.types import Event, Pose, has

# Bit of `ScenarioBank.log_events` beside those of `Event`: the footprint is over a lane line or off the road.
_EXPOSED = 1 << 30
_CONTACT = int(Event.COLLISION | Event.AT_FAULT | Event.HIT_VEHICLE | Event.HIT_PEDESTRIAN | Event.HIT_STATIC)
# Steps of logs looked up at once: what stays in the cache of a CPU core.
_LOG_BATCH = 8


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
    events, _, z = _outcomes(scene, before, after, lights)
    return events, z


def _outcomes(scene: Scene, before: jax.Array, after: jax.Array, lights: jax.Array):
    """Events, whether a side contact would be one's fault, and heights of the nearest lanes, ``[A]`` each."""
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
    exposed = road.over_line | has(road.events, Event.OFF_ROAD)
    at_fault = touched & to_blame(scene.agent_boxes(after), poses, rows, boxes, exposed)
    events = road.events | lines | contact_events(touched, at_fault, sizes[2, other])
    return jnp.where(after[VALID] > 0, events, 0), exposed, road.z


def with_log_events(bank: ScenarioBank) -> ScenarioBank:
    """The bank with what befalls its logged road users at each step, the egos left out.

    For road users that repeat the log this never changes, so a rollout looks it up (`everyone_in_log`): some ten
    times faster than asking the map again about each of them.

    Args:
        bank: built with ``outcomes_for="all"``.
    """
    num_scenarios, num_steps = bank.tracks.shape[:2]

    @jax.jit
    def events_of(bank, numbers):
        def one(number):
            step = number % num_steps
            scene = Scene(bank, number // num_steps)
            before, after = (_without_ego(scene.agents_at(at)) for at in (jnp.maximum(step - 1, 0), step))
            events, exposed, _ = _outcomes(scene, before, after, scene.lights_at(step))
            return events | jnp.where(exposed, _EXPOSED, 0)

        return lax.map(one, numbers, batch_size=_LOG_BATCH)

    events = events_of(bank, jnp.arange(num_scenarios * num_steps, dtype=jnp.int32))
    return replace(bank, log_events=events.reshape(num_scenarios, num_steps, -1))


def _without_ego(rows: jax.Array) -> jax.Array:
    return rows.at[VALID, 0].set(0.0)


def everyone_in_log(scene: Scene, after: jax.Array, step: jax.Array) -> jax.Array:
    """What `everyone_outcome` says where all but the ego repeat the log, int32 ``[A]``; slot 0 means nothing.

    Args:
        scene: the scene; its bank holds ``log_events``.
        after: ``[8, A]``, all road users, the simulated ego in slot 0.
        step: int32, step of the log.
    """
    sizes = scene.bank.boxes[scene.idx]
    last = scene.bank.num_steps[scene.idx] - 1
    logged = scene.bank.log_events[scene.idx, jnp.minimum(step, last)]
    poses, boxes, ego = pose_of(after), scene.agent_boxes(after), after[:, :1]
    ego_box = Box(ego[X], ego[Y], ego[COS], ego[SIN], sizes[0, :1], sizes[1, :1])
    touched = overlapping(after, boxes, ego_box, ego[Z], 0)
    exposed = (logged & _EXPOSED) != 0
    at_fault = touched & to_blame(boxes, poses, ego, ego_box, exposed)
    # The ego has the lowest slot of all, so its contact is the one that counts.
    contact = contact_events(touched, at_fault, sizes[2, :1])
    return jnp.where(touched, (logged & ~_CONTACT) | contact, logged) & ~_EXPOSED
