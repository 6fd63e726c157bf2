"""What the simulator passes around: events, plans, states and outcomes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntFlag
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Event(IntFlag):
    """What can happen to a road user in a step; a set of these is one int32.

    The last three are not events but doubts about them, which a rollout reports by name.
    """

    COLLISION = 1 << 0
    """The footprint overlaps another road user's that it did not overlap at the start."""
    AT_FAULT = 1 << 1
    """A collision began for which NAVSIM's no-at-fault-collision rule blames this road user."""
    HIT_VEHICLE = 1 << 2
    HIT_PEDESTRIAN = 1 << 3
    """A pedestrian or a cyclist was hit."""
    HIT_STATIC = 1 << 4
    OFF_ROAD = 1 << 5
    """A corner of the footprint is outside the drivable area."""
    CROSSES_BROKEN = 1 << 6
    CROSSES_SOLID = 1 << 7
    CROSSES_DOUBLE_SOLID = 1 << 8
    WRONG_WAY = 1 << 9
    """In a lane of opposite direction and in none of its own, outside junctions."""
    RED_LIGHT = 1 << 10
    """The front crossed the stop line of a red light."""
    STOP_SIGN = 1 << 11
    """The front crossed the line of a stop sign without a stop within the last 5 m."""
    BLOCKED = 1 << 12
    """Slower than 0.1 m/s for 60 s."""
    OFF_ROUTE = 1 << 13
    """More than 30 m from the route."""
    FINISHED = 1 << 14
    """Reached the place where the log ends."""
    LOG_ENDED = 1 << 15
    """No logged step is left: the episode is truncated."""
    DEVIATED = 1 << 19
    """More than 2 m from the logged ego (RAD's positional deviation)."""
    TURNED_AWAY = 1 << 20
    """Turned by more than 40° from the logged ego (RAD's heading deviation)."""
    LOOKUP_OVERFLOW = 1 << 16
    """A lookup cell here holds more than its capacity: road events may be missed."""
    LEFT_MAP = 1 << 17
    """Outside the indexed part of the map."""
    NON_FINITE = 1 << 18
    """A pose or speed is not a finite number."""


# Events of [DESIGN §4] that end an episode.
TERMINAL = Event.AT_FAULT | Event.OFF_ROUTE | Event.BLOCKED | Event.FINISHED | Event.NON_FINITE
DOUBTS = Event.LOOKUP_OVERFLOW | Event.LEFT_MAP | Event.NON_FINITE


def has(events: jax.Array, which: Event) -> jax.Array:
    """Whether any of ``which`` is in the set."""
    return (events & int(which)) != 0


class Pose(NamedTuple):
    """Box centre [m], heading [rad] with its cosine and sine, speed along the heading [m/s]."""

    x: jax.Array
    y: jax.Array
    z: jax.Array
    heading: jax.Array
    cos: jax.Array
    sin: jax.Array
    speed: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["path", "spacing", "target_speed", "anchor"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Plan:
    """Where to drive and how fast.

    Attributes:
        path: ``[W, 2]`` m in the ego frame of the anchor; beyond its ends it goes on straight.
        spacing: m of arc between points of the path.
        target_speed: ``[H]`` m/s, one value for each step of 0.1 s from the anchor on; the last holds.
        anchor: ``[4]``: x, y [m, scenario frame], cos and sin of the heading where the plan was made; set by
            whoever puts the plan into force (`anchored`).
    """

    path: jax.Array
    spacing: jax.Array
    target_speed: jax.Array
    anchor: jax.Array

    @classmethod
    def ahead(cls, path: jax.Array, spacing: jax.Array | float, target_speed: jax.Array) -> Plan:
        """A plan as a policy makes it, in the ego frame, not yet anchored."""
        return cls(path, jnp.asarray(spacing, jnp.float32), target_speed, jnp.zeros(4, jnp.float32))

    def anchored(self, pose: Pose) -> Plan:
        """The plan, made at a pose."""
        return replace(self, anchor=jnp.stack([pose.x, pose.y, pose.cos, pose.sin]))


class ControlMemory(NamedTuple):
    """Past errors of the two PIDs, newest last: ``[n]`` each."""

    steer: jax.Array
    speed: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "ego",
        "control",
        "agents",
        "past",
        "memory",
        "collided",
        "events",
        "happened",
        "step",
        "plan_age",
        "route_arc",
        "since_stop",
        "standing",
        "done",
        "key",
    ],
    meta_fields=["past_is_logged"],
)
@dataclass(frozen=True)
class SimState:
    """What evolves in an episode; nothing of the map is in it.

    Attributes:
        ego: simulated ego.
        control: memory of its controllers.
        agents: ``[8, A]``, road users in the layout of a bank's track rows; slot 0 is nobody
            (`perlsim.sim.core.with_ego` puts the simulated ego there).
        past: ``[P, 4, A]``: x, y, cos, sin of all road users, the ego in slot 0, at the last P steps, newest last;
            cos = sin = 0 where one was not there. P is 0 where the log tells it.
        memory: of the agent model.
        collided: bool ``[A]``, with whom the ego has collided so far, or overlapped at the start.
        events: int32, `Event` set of the last step.
        happened: int32, of all steps so far.
        step: int32, index into the log.
        plan_age: int32, steps since the plan in force was made.
        route_arc: m along the route.
        since_stop: m driven since the ego last stood still or the episode began.
        standing: s below 0.1 m/s without a break.
        done: bool, a terminal event has happened.
        key: random key of the episode.
        past_is_logged: the road users repeat the log, so their past is read from it and not remembered (static).
    """

    ego: Pose
    control: ControlMemory
    agents: jax.Array
    past: jax.Array
    memory: Any
    collided: jax.Array
    events: jax.Array
    happened: jax.Array
    step: jax.Array
    plan_age: jax.Array
    route_arc: jax.Array
    since_stop: jax.Array
    standing: jax.Array
    done: jax.Array
    key: jax.Array
    past_is_logged: bool = False


class Outcome(NamedTuple):
    """Result of a step for the ego.

    Attributes:
        events: int32 `Event` set of this step.
        begun: int32, those of them that were not in the step before.
        hit_agent: int32 slot of the first road user newly hit in this step, −1 none.
        progress: m gained along the route in this step, may be negative.
        log_distance: m from the logged ego at this step, 0 where it is unknown.
        log_heading_error: rad from the logged ego's heading, absolute.
        terminated: bool, a terminal event happened in this step.
        truncated: bool, the log ended without one.
    """

    events: jax.Array
    begun: jax.Array
    hit_agent: jax.Array
    progress: jax.Array
    log_distance: jax.Array
    log_heading_error: jax.Array
    terminated: jax.Array
    truncated: jax.Array
