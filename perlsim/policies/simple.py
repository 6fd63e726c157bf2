"""Policies that need no planning: repeat the log, or go straight on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.bank import PATH_SPACING, STEP, Scene
from perlsim.geometry.numerics import to_frame
from perlsim.policies import PrivilegedView
from perlsim.sim.types import Plan, Pose, SimState

# Steps of a proposal: 4 s.
PROPOSED_STEPS = 40
# Points of a plan's path and steps of its speeds: 20 m every metre, 2 s (DESIGN, FACTS).
PATH_POINTS, SPEED_STEPS = 20, 20
# Controllers brake only above 1.1 × the target and press no pedal between: while a log slows down by more than this
# [m/s², S], the target that keeps it in the middle of that band is lower.
_SLOWING, _MIDDLE_OF_BAND = 0.3, 1.1**-0.5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LogReplay:
    """Follows the path that the log's ego drove, at its speeds; privileged, since it reads the future.

    Attributes:
        catch_up: 1/s, how strongly a plan makes up for being behind or ahead of the log; 0 replays the speeds
            alone.
    """

    catch_up: float = 0.5
    privileged: ClassVar[bool] = True
    replays_log: ClassVar[bool] = True

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> tuple[()]:
        """No memory."""
        return ()

    def propose(self, scene: Scene, state: SimState, key: jax.Array) -> jax.Array:
        """The logged poses ``[40, 3]`` of the rear axle over 4 s, in its frame of the log; the last known one holds."""
        bank, to_centre = scene.bank, scene.bank.chassis[scene.idx, 1]
        steps = jnp.minimum(state.step + jnp.arange(PROPOSED_STEPS + 1), bank.num_steps[scene.idx] - 1)
        x, y, _, cos, sin, _, _, valid = bank.tracks[scene.idx, steps, :, 0].T
        known = lax.cummax(jnp.where(valid > 0, jnp.arange(len(steps)), 0))
        x, y, cos, sin = x[known], y[known], cos[known], sin[known]
        x, y = x - to_centre * cos, y - to_centre * sin
        heading = jnp.arctan2(sin * cos[0] - cos * sin[0], cos * cos[0] + sin * sin[0])
        x, y = to_frame(x, y, x[0], y[0], cos[0], sin[0])
        return jnp.stack([x, y, heading], 1)[1:]

    def act(self, carry, observation: PrivilegedView, key: jax.Array) -> tuple[tuple[()], Plan]:
        """The log's path and speeds from here on."""
        scene, state = observation
        bank, idx, pose = scene.bank, scene.idx, state.ego
        size = bank.log_arc.shape[1]
        logged_arc = bank.log_arc[idx, jnp.minimum(state.step, size - 1)]
        arc, path = _window(bank.log_path, idx, logged_arc, pose)
        x, y = to_frame(path[:, 0], path[:, 1], pose.x, pose.y, pose.cos, pose.sin)
        steps = jnp.minimum(state.step + jnp.arange(SPEED_STEPS + 2), size - 1)
        logged = bank.log_speed[idx, steps]
        slowing = logged[:-2] - logged[2:] > _SLOWING * 2 * STEP
        speed = jnp.where(slowing, _MIDDLE_OF_BAND, 1.0) * logged[1:-1]
        correction = self.catch_up * (logged_arc - arc)
        # A standing log stays standing: only a moving one is caught up with.
        target_speed = jnp.where(speed > 0.1, jnp.maximum(speed + correction, 0.0), speed)
        return carry, Plan.ahead(jnp.stack([x, y], 1), PATH_SPACING, target_speed)


def _window(paths: jax.Array, idx: jax.Array, around: jax.Array, pose: Pose) -> tuple[jax.Array, jax.Array]:
    """`PATH_POINTS` points of a path from about the pose on, searched near an arc; and the pose's own arc [m]."""
    back = 8
    size = min(PATH_POINTS + 2 * back, paths.shape[1])
    first = jnp.floor(around / PATH_SPACING).astype(jnp.int32) - back
    first = jnp.clip(first, 0, paths.shape[1] - size)
    points = lax.dynamic_slice(paths, (idx, first, jnp.int32(0)), (1, size, 2))[0]
    nearest = jnp.argmin((points[:, 0] - pose.x) ** 2 + (points[:, 1] - pose.y) ** 2)
    start = jnp.clip(nearest, 0, size - min(PATH_POINTS, size)).astype(jnp.int32)
    window = lax.dynamic_slice(points, (start, jnp.int32(0)), (min(PATH_POINTS, size), 2))
    # The pose's arc: the nearest point's, corrected by how far along the path the pose lies from it.
    following = points[jnp.minimum(nearest + 1, size - 1)]
    previous = points[jnp.maximum(nearest - 1, 0)]
    dx, dy = following[0] - previous[0], following[1] - previous[1]
    length = jnp.maximum(jnp.sqrt(dx * dx + dy * dy), 1e-6)
    along = ((pose.x - points[nearest, 0]) * dx + (pose.y - points[nearest, 1]) * dy) / length
    return (first + nearest) * PATH_SPACING + along, window


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConstantVelocity:
    """Goes straight on at the speed it has."""

    privileged: ClassVar[bool] = True
    replays_log: ClassVar[bool] = False

    def init(self, scene: Scene, start: jax.Array, key: jax.Array) -> jax.Array:
        """The speed at the start [m/s]."""
        return scene.bank.log_speed[scene.idx, start]

    def propose(self, scene: Scene, state: SimState, key: jax.Array) -> jax.Array:
        """Poses ``[40, 3]`` straight ahead over 4 s."""
        distance = STEP * state.ego.speed * jnp.arange(1, PROPOSED_STEPS + 1)
        return jnp.stack([distance, jnp.zeros_like(distance), jnp.zeros_like(distance)], 1)

    def act(self, carry: jax.Array, observation: PrivilegedView, key: jax.Array) -> tuple[jax.Array, Plan]:
        """A straight path at that speed."""
        distance = jnp.arange(PATH_POINTS) * PATH_SPACING
        path = jnp.stack([distance, jnp.zeros_like(distance)], 1)
        return carry, Plan.ahead(path, PATH_SPACING, jnp.full(SPEED_STEPS, carry))
