"""Path and speed controllers, as the agents that drive in CARLA use them, by name.

Sources: the constants are Bench2Drive's and SimLingo's (FACTS: vehicle and control constants). Steering is positive
to the left here, to the right in CARLA.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.errors import unknown_name
from perlsim.geometry.cells import sort_key
from perlsim.geometry.numerics import safe_arctan2, to_frame
from perlsim.sim.types import ControlMemory, Plan, Pose
from perlsim.sim.vehicle import Controls

# Bits that hold a point's number on a path: paths have at most 64 points.
_RANK_BITS = 6
# Places so far off the path are never reached.
_FAR = 1e6


@dataclass(frozen=True)
class Pid:
    """Gains of the error, its mean over the last ``window`` steps of 0.05 s, and its last change."""

    proportional: float
    integral: float
    derivative: float
    window: int

    def output(self, errors: jax.Array) -> jax.Array:
        """Control from the past errors ``[window]``, newest last."""
        last = errors[-1]
        mean = jnp.dot(errors, jnp.full(self.window, 1.0 / self.window), precision="highest")
        return self.proportional * last + self.integral * mean + self.derivative * (last - errors[-2])


@dataclass(frozen=True)
class Controller:
    """A pair of PIDs with the rules around them.

    Attributes:
        steer, speed: the PIDs. The steering error is the bearing of the aim point in units of 90°, the speed
            error the missing speed [m/s], clipped to [0, ``max_speed_error``].
        aim: m ahead on the path: ``clip(aim[0] + aim[1] · speed, aim[2], aim[3])``.
        max_throttle: limit of the throttle.
        brake_speed: full brake below this target speed [m/s].
        brake_ratio: full brake above this ratio of speed to target speed.
        max_speed_error: m/s.
    """

    steer: Pid
    speed: Pid
    aim: tuple[float, float, float, float]
    max_throttle: float
    brake_speed: float
    brake_ratio: float
    max_speed_error: float

    def memory(self) -> ControlMemory:
        """Memory at the start of an episode."""
        return ControlMemory(
            jnp.zeros(self.steer.window, jnp.float32), jnp.zeros(self.speed.window, jnp.float32)
        )


CONTROLLERS = {
    "bench2drive": Controller(
        steer=Pid(0.75, 0.75, 0.3, 40),
        speed=Pid(5.0, 0.5, 1.0, 40),
        aim=(4.0, 0.0, 4.0, 4.0),
        max_throttle=0.75,
        brake_speed=0.4,
        brake_ratio=1.1,
        max_speed_error=0.25,
    ),
    # The look-ahead is 0.9755 · km/h + 1.915 points of 0.1 m.
    "simlingo": Controller(
        steer=Pid(3.118, 0.641, 1.378, 6),
        speed=Pid(1.75, 1.0, 2.0, 20),
        aim=(0.1915, 0.09755 * 3.6, 2.4, 10.5),
        max_throttle=1.0,
        brake_speed=0.4,
        brake_ratio=1.1,
        max_speed_error=1.0,
    ),
}


def controller_of(name: str) -> Controller:
    """The controller of a name.

    Raises:
        PerlsimError: for an unknown name.
    """
    if name not in CONTROLLERS:
        raise unknown_name("controller", name, CONTROLLERS)
    return CONTROLLERS[name]


def control(
    controller: Controller, memory: ControlMemory, pose: Pose, plan: Plan, target_speed: jax.Array
) -> tuple[Controls, ControlMemory]:
    """Controls for one step of 0.05 s.

    Args:
        controller: gains.
        memory: past errors.
        pose: the ego.
        plan: whose path is followed.
        target_speed: m/s.
    """
    speed = pose.speed
    aim = jnp.clip(controller.aim[0] + controller.aim[1] * speed, controller.aim[2], controller.aim[3])
    bearing = _bearing(pose, plan, aim)
    # A standing car does not turn its wheels: the bearing would wind up the integral.
    error = jnp.where(speed < 0.01, 0.0, bearing * (2.0 / jnp.pi))
    steer_errors = jnp.concatenate([memory.steer[1:], error[None]])
    steer = jnp.clip(controller.steer.output(steer_errors), -1.0, 1.0)
    brake = (target_speed < controller.brake_speed) | (speed > controller.brake_ratio * target_speed)
    missing = jnp.clip(target_speed - speed, 0.0, controller.max_speed_error)
    speed_errors = jnp.concatenate([memory.speed[1:], missing[None]])
    throttle = jnp.clip(controller.speed.output(speed_errors), 0.0, controller.max_throttle)
    controls = Controls(steer, jnp.where(brake, 0.0, throttle), brake.astype(jnp.float32))
    return controls, ControlMemory(steer_errors, speed_errors)


def _bearing(pose: Pose, plan: Plan, aim: jax.Array) -> jax.Array:
    """Bearing [rad, left positive] of the point ``aim`` metres ahead on the path from where the ego is on it."""
    x, y = to_frame(pose.x, pose.y, plan.anchor[0], plan.anchor[1], plan.anchor[2], plan.anchor[3])
    cos = pose.cos * plan.anchor[2] + pose.sin * plan.anchor[3]
    sin = pose.sin * plan.anchor[2] - pose.cos * plan.anchor[3]
    place = project_on_path(plan.path, plan.spacing, x, y) + aim / plan.spacing
    aim_x, aim_y = point_on_path(plan.path, place)
    ahead, left = to_frame(aim_x, aim_y, x, y, cos, sin)
    return safe_arctan2(left, ahead)


def project_on_path(path: jax.Array, spacing: jax.Array | float, x: jax.Array, y: jax.Array) -> jax.Array:
    """Place of the nearest point of an evenly spaced path ``[W, 2]``, in units of its spacing.

    Negative before its start and above W − 1 beyond its end, where it goes on straight.
    """
    last = path.shape[0] - 2
    rank = jnp.arange(last + 1, dtype=jnp.int32)
    # By the nominal spacing, not each chord's own length: one division for all.
    scale = 1.0 / (spacing * spacing)
    # The nearest chord is a choice, not something to differentiate; the place on it is.
    fixed, at_x, at_y = lax.stop_gradient((path, x, y))
    chords = fixed[1:] - fixed[:-1]
    px, py = at_x - fixed[:-1, 0], at_y - fixed[:-1, 1]
    share = jnp.clip((px * chords[:, 0] + py * chords[:, 1]) * scale, *_bounds(rank, last))
    ex, ey = px - share * chords[:, 0], py - share * chords[:, 1]
    nearest = sort_key(ex * ex + ey * ey, rank, _RANK_BITS).min() & ((1 << _RANK_BITS) - 1)
    ends = lax.dynamic_slice(path, (nearest, jnp.int32(0)), (2, 2))
    dx, dy = ends[1, 0] - ends[0, 0], ends[1, 1] - ends[0, 1]
    share = ((x - ends[0, 0]) * dx + (y - ends[0, 1]) * dy) * scale
    return nearest.astype(jnp.float32) + jnp.clip(share, *_bounds(nearest, last))


def _bounds(rank: jax.Array, last: int) -> tuple[jax.Array, jax.Array]:
    """Range of places on a chord: open at the two ends of the path."""
    return jnp.where(rank == 0, -_FAR, 0.0), jnp.where(rank == last, _FAR, 1.0)


def point_on_path(path: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The point of a path ``[W, 2]`` at a place as `project_on_path` gives it."""
    first = jnp.clip(jnp.floor(place), 0, path.shape[0] - 2)
    ends = lax.dynamic_slice(path, (first.astype(jnp.int32), jnp.int32(0)), (2, 2))
    share = place - first
    return (
        ends[0, 0] + share * (ends[1, 0] - ends[0, 0]),
        ends[0, 1] + share * (ends[1, 1] - ends[0, 1]),
    )
