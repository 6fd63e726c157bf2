"""The ego's motion: a kinematic bicycle with slip at the box centre, one step of 0.05 s.

Equations and CARLA's constants are those of the bicycle fitted to CARLA's ego in PDM-Lite's code (FACTS: vehicle
and control constants); they hold for that step only.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.geometry.numerics import wrap_angle
from perlsim.sim.types import Pose

# Step of physics and controllers [s].
PHYSICS_STEP = 0.05

# Fitted to CARLA's ego (Lincoln MKZ): distances of the axles from the centre [m] and gain of the steering.
CARLA_FRONT_AXLE = -0.090769015
CARLA_REAR_AXLE = 1.4178275
CARLA_STEERING_GAIN = 0.36848336
# Next speed [km/h] from v, v², u, u², v·u, v·u², v²·u, v²·u² at throttle u ≥ 0.3, and from v … v⁷ when braking.
CARLA_THROTTLE = (
    0.963873001,
    4.37535692e-4,
    -0.380192912,
    1.74950069,
    0.0916787414,
    -0.070546153,
    -1.05996152e-3,
    6.71079346e-4,
)
CARLA_BRAKE = (
    9.3171137e-3,
    0.0820967431,
    -2.83832427e-3,
    5.06587474e-5,
    -4.90357228e-7,
    2.44419284e-9,
    -4.91381935e-12,
)
# Curvature [1/m] that CARLA's ego gains per unit of steering. Other vehicles get the same, so that controllers tuned
# on it keep their loop gain.
_CURVATURE_PER_STEER = CARLA_STEERING_GAIN / (CARLA_FRONT_AXLE + CARLA_REAR_AXLE)


class Vehicle(NamedTuple):
    """Parameters of a vehicle; numbers, so that they can differ between episodes and be swept.

    Attributes:
        rear_axle: m from the rear axle forward to the box centre.
        wheelbase: m.
        steering_gain: rad of wheel angle at full steering.
        throttle_acceleration: m/s² at full throttle.
        brake_deceleration: m/s² at full brake.
        carla: 1 where CARLA's fitted speed law holds, 0 where the two linear terms above do.
    """

    rear_axle: jax.Array | float
    wheelbase: jax.Array | float
    steering_gain: jax.Array | float
    throttle_acceleration: jax.Array | float = 3.0
    brake_deceleration: jax.Array | float = 8.0
    carla: jax.Array | float = 0.0


def carla_vehicle() -> Vehicle:
    """CARLA's ego."""
    return Vehicle(CARLA_REAR_AXLE, CARLA_FRONT_AXLE + CARLA_REAR_AXLE, CARLA_STEERING_GAIN, carla=1.0)


def logged_vehicle(wheelbase, rear_axle, throttle_acceleration: jax.Array | float = 3.0) -> Vehicle:
    """A vehicle with the chassis [m] and engine [m/s²] of the log's ego, and linear pedals."""
    return Vehicle(rear_axle, wheelbase, _CURVATURE_PER_STEER * wheelbase, throttle_acceleration)


class Controls(NamedTuple):
    """Steering in [−1, 1], left positive; throttle and brake in [0, 1]."""

    steer: jax.Array
    throttle: jax.Array
    brake: jax.Array


def drive(pose: Pose, controls: Controls, vehicle: Vehicle) -> Pose:
    """Moves the ego by `PHYSICS_STEP`; z is kept."""
    wheel = vehicle.steering_gain * controls.steer
    slip = jnp.arctan(vehicle.rear_axle / vehicle.wheelbase * jnp.tan(wheel))
    cos_slip, sin_slip = jnp.cos(slip), jnp.sin(slip)
    distance = pose.speed * PHYSICS_STEP
    x = pose.x + distance * (pose.cos * cos_slip - pose.sin * sin_slip)
    y = pose.y + distance * (pose.sin * cos_slip + pose.cos * sin_slip)
    heading = wrap_angle(pose.heading + distance / vehicle.rear_axle * sin_slip)
    linear = pose.speed + PHYSICS_STEP * (
        vehicle.throttle_acceleration * controls.throttle - vehicle.brake_deceleration * controls.brake
    )
    speed = jnp.where(jnp.asarray(vehicle.carla) > 0, _carla_speed(pose.speed, controls), linear)
    return Pose(x, y, pose.z, heading, jnp.cos(heading), jnp.sin(heading), jnp.maximum(speed, 0.0))


def _carla_speed(speed: jax.Array, controls: Controls) -> jax.Array:
    """CARLA's fitted speed [m/s] after one step."""
    v, u = speed * 3.6, controls.throttle
    terms = (v, v * v, u, u * u, v * u, v * u * u, v * v * u, v * v * u * u)
    driving = sum(factor * term for factor, term in zip(CARLA_THROTTLE, terms, strict=True))
    driving = jnp.where(u < 0.3, v, driving)
    # The polynomial was fitted up to about 140 km/h, beyond which it runs away.
    low = jnp.minimum(v, 140.0)
    braking = jnp.zeros_like(v)
    for factor in reversed(CARLA_BRAKE):
        braking = (braking + factor) * low
    return jnp.where(controls.brake > 0, jnp.minimum(braking, v), driving) / 3.6
