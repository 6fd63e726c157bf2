"""Closed forms of the vehicle and the controllers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from perlsim.errors import PerlsimError
from perlsim.sim.control import (
    CONTROLLERS,
    Pid,
    control,
    controller_of,
    point_on_path,
    project_on_path,
)
from perlsim.sim.types import Plan, Pose
from perlsim.sim.vehicle import (
    CARLA_REAR_AXLE,
    PHYSICS_STEP,
    Controls,
    carla_vehicle,
    drive,
    logged_vehicle,
)

LOGGED = logged_vehicle(2.7, 1.35)


def pose_at(x=0.0, y=0.0, heading=0.0, speed=0.0):
    values = (x, y, 0.0, heading, np.cos(heading), np.sin(heading), speed)
    return Pose(*(jnp.float32(value) for value in values))


def driven(pose, controls, vehicle, steps):
    """All poses of a drive with constant controls."""
    controls = Controls(*(jnp.float32(value) for value in controls))

    def advance(pose, _):
        pose = drive(pose, controls, vehicle)
        return pose, pose

    return jax.tree.map(np.asarray, jax.jit(lambda p: lax.scan(advance, p, None, length=steps)[1])(pose))


@pytest.mark.parametrize("vehicle", [LOGGED, carla_vehicle()], ids=["logged", "carla"])
@pytest.mark.parametrize("steer", [0.3, -0.8])
def test_constant_steering_drives_a_circle_of_the_bicycle_radius(vehicle, steer):
    poses = driven(pose_at(speed=2.0), (steer, 0.0, 0.0), vehicle, 600)
    slip = np.arctan(vehicle.rear_axle / vehicle.wheelbase * np.tan(vehicle.steering_gain * steer))
    radius = vehicle.rear_axle / np.sin(abs(slip))
    # The circle through three points: the centre of the box moves on it.
    points = np.stack([poses.x, poses.y], 1).astype(float)
    a, b, c = points[50], points[150], points[250]
    sides = [np.linalg.norm(a - b), np.linalg.norm(b - c), np.linalg.norm(c - a)]
    (ux, uy), (vx, vy) = b - a, c - a
    area = abs(ux * vy - uy * vx) / 2
    # Chords of 0.1 m: the polygon's radius differs by less than a thousandth.
    assert np.prod(sides) / (4 * area) == pytest.approx(radius, rel=2e-3)
    assert np.sign(poses.heading[0]) == np.sign(steer)
    np.testing.assert_allclose(poses.speed, 2.0, rtol=1e-5)


def test_full_braking_stops_within_v_squared_over_two_a():
    poses = driven(pose_at(speed=10.0), (0.0, 0.0, 1.0), LOGGED, 60)
    # Explicit Euler adds half a step at the initial speed.
    assert poses.x[-1] == pytest.approx(10.0**2 / (2 * 8.0) + 10.0 * PHYSICS_STEP / 2, rel=1e-3)
    assert poses.speed[-1] == 0.0
    assert (poses.speed >= 0).all()


def test_throttle_of_a_logged_vehicle_accelerates_linearly():
    poses = driven(pose_at(speed=1.0), (0.0, 0.5, 0.0), LOGGED, 20)
    assert poses.speed[-1] == pytest.approx(1.0 + 1.5, rel=1e-5)


def test_speeds_of_carlas_vehicle_are_those_of_the_fitted_law():
    def after(speed, throttle, brake):
        return driven(pose_at(speed=speed / 3.6), (0.0, throttle, brake), carla_vehicle(), 1).speed[0] * 3.6

    assert after(30.0, 0.29, 0.0) == pytest.approx(30.0, rel=1e-6)
    v, u = 30.0, 0.5
    expected = 0.963873001 * v + 4.37535692e-4 * v**2 - 0.380192912 * u + 1.74950069 * u**2
    expected += 0.0916787414 * v * u - 0.070546153 * v * u**2
    expected += -1.05996152e-3 * v**2 * u + 6.71079346e-4 * v**2 * u**2
    assert after(v, u, 0.0) == pytest.approx(expected, rel=1e-5)
    factors = (
        9.3171137e-3,
        0.0820967431,
        -2.83832427e-3,
        5.06587474e-5,
        -4.90357228e-7,
        2.44419284e-9,
        -4.91381935e-12,
    )
    expected = sum(factor * v ** (power + 1) for power, factor in enumerate(factors))
    assert after(v, 0.0, 1.0) == pytest.approx(expected, rel=1e-4)
    assert CARLA_REAR_AXLE == 1.4178275


def test_the_integral_of_a_constant_error_fills_the_window_and_stays():
    pid = Pid(2.0, 3.0, 5.0, 4)
    errors, outputs = jnp.zeros(4), []
    for _ in range(6):
        errors = jnp.concatenate([errors[1:], jnp.array([0.5])])
        outputs.append(float(pid.output(errors)))
    # Proportional 1; integral a quarter of 1.5 more each step up to the window; the change only at first.
    assert outputs == pytest.approx([1 + 0.375 + 2.5, 1 + 0.75, 1 + 1.125, 2.5, 2.5, 2.5])


def straight(target):
    path = jnp.stack([jnp.arange(20.0), jnp.zeros(20)], 1)
    return Plan.ahead(path, 1.0, jnp.full(20, target)).anchored(pose_at())


@pytest.mark.parametrize("name", CONTROLLERS)
def test_throttle_and_brake_follow_the_rules_of_the_controller(name):
    controller = CONTROLLERS[name]

    def pedals(speed, target):
        controls, _ = control(
            controller, controller.memory(), pose_at(speed=speed), straight(target), jnp.float32(target)
        )
        return float(controls.throttle), float(controls.brake)

    assert pedals(0.0, 10.0)[0] == pytest.approx(controller.max_throttle)
    assert pedals(10.0, 10.0) == (0.0, 0.0)
    assert pedals(11.5, 10.0) == (0.0, 1.0)
    assert pedals(10.9, 10.0) == (0.0, 0.0)
    assert pedals(0.0, 0.3) == (0.0, 1.0)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_the_wheels_turn_towards_the_path_and_not_while_standing(name):
    controller = CONTROLLERS[name]

    def steer(y, speed):
        controls, _ = control(
            controller, controller.memory(), pose_at(y=y, speed=speed), straight(5.0), jnp.float32(5.0)
        )
        return float(controls.steer)

    assert steer(1.0, 5.0) < 0 < steer(-1.0, 5.0)
    assert steer(1.0, 5.0) == pytest.approx(-steer(-1.0, 5.0), rel=1e-5)
    assert steer(0.0, 5.0) == pytest.approx(0.0, abs=1e-6)
    assert steer(1.0, 0.0) == 0.0
    assert abs(steer(-30.0, 5.0)) <= 1.0


@pytest.mark.parametrize("name", CONTROLLERS)
def test_controllers_converge_to_a_path_one_metre_aside(name):
    controller, plan = CONTROLLERS[name], straight(5.0)

    def advance(carry, _):
        pose, memory = carry
        controls, memory = control(controller, memory, pose, plan, jnp.float32(5.0))
        return (drive(pose, controls, LOGGED), memory), pose

    start = (pose_at(y=1.0, speed=5.0), controller.memory())
    poses = jax.jit(lambda s: lax.scan(advance, s, None, length=400)[1])(start)
    assert abs(float(poses.y[-1])) < 0.05
    assert abs(float(poses.speed[-1]) - 5.0) < 0.3


def test_places_on_a_path_go_on_straight_beyond_its_ends():
    path = jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    for place, (x, y) in ((-2.0, (-2.0, 0.0)), (0.5, (0.5, 0.0)), (1.5, (1.0, 0.5)), (4.0, (1.0, 3.0))):
        np.testing.assert_allclose(point_on_path(path, jnp.float32(place)), (x, y), atol=1e-6)
        assert float(project_on_path(path, 1.0, jnp.float32(x), jnp.float32(y))) == pytest.approx(place)


def test_an_unknown_controller_is_refused_with_the_known_names():
    with pytest.raises(PerlsimError, match="simlingo"):
        controller_of("pid")
