"""How candidates are driven: NAVSIM's LQR tracker and kinematic bicycle, or not at all.

Constants and equations are those of nuPlan's tracker (batched in NAVSIM; FACTS §6). The least-squares fits are
rewritten: that of the speeds does not depend on the headings but through the projected displacements, so its solution
is one constant matrix; that of the curvatures is a chain of springs, eliminated from end to end without cancellation.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from perlsim.bank import STEP
from perlsim.geometry.numerics import wrap_angle
from perlsim.metrics.pdm.savgol import savgol_matrix
from perlsim.metrics.pdm.types import Driven, PdmConfig
from perlsim.sim.types import Pose

TRACKING_HORIZON = 10
JERK_PENALTY, CURVATURE_RATE_PENALTY, INITIAL_CURVATURE_PENALTY = 1e-4, 1e-2, 1e-10
# Weights of the LQRs: speed error (input 1); lateral and heading error (input 1).
SPEED_WEIGHT, LATERAL_WEIGHT, HEADING_WEIGHT = 10.0, 1.0, 10.0
STOPPING_SPEED, STOPPING_GAIN = 0.2, 0.5
# Time constants [s] of acceleration and steering, and the largest wheel angle [rad].
ACCELERATION_LAG, STEERING_LAG = 0.2, 0.05
MAX_STEER = np.pi / 3


def history_of(ego: Pose, past: jax.Array, rear_axle: jax.Array) -> Driven:
    """Motion of the ego before and at the start, ``[P + 1, 1]`` rows, from its poses.

    Args:
        ego: box centre at the start.
        past: ``[P, 4]``, see `perlsim.metrics.pdm.score.score_candidates`.
        rear_axle: m from the rear axle to the box centre.
    """
    x, y = jnp.append(past[:, 0], ego.x), jnp.append(past[:, 1], ego.y)
    cos, sin = jnp.append(past[:, 2], ego.cos), jnp.append(past[:, 3], ego.sin)
    heading = jnp.arctan2(sin * ego.cos - cos * ego.sin, cos * ego.cos + sin * ego.sin)
    rear_x, rear_y = x - rear_axle * cos, y - rear_axle * sin
    if x.shape[0] < 4:
        speed = jnp.full(x.shape, ego.speed)
        acceleration = yaw_rate = yaw_acceleration = jnp.zeros(x.shape)
    else:
        speed = _forward_speed(rear_x[:, None], rear_y[:, None], cos[:, None], sin[:, None])[:, 0]
        speed = speed.at[-1].set(ego.speed)
        heading = _unwrapped(heading[:, None])[:, 0]
        # Logged positions jitter: acceleration is the slope of parabolas through 7 speeds [S].
        acceleration = _dot(savgol_matrix(x.shape[0], 7, 2, 1, STEP), speed[:, None])[:, 0]
        yaw_rate = _differentiated(heading[:, None])[:, 0]
        yaw_acceleration = _differentiated(yaw_rate[:, None])[:, 0]
    known = (past[:, 2] ** 2 + past[:, 3] ** 2 > 0.5).all()
    rows = (heading, speed, acceleration, speed * yaw_rate, yaw_rate, yaw_acceleration)
    # At the start nothing is unknown but accelerations: taken as none.
    start = jnp.arange(x.shape[0]) == x.shape[0] - 1
    kept = [jnp.where(known, row, jnp.where(start, 0.0, jnp.nan)) for row in rows]
    kept[1] = jnp.where(start, ego.speed, kept[1])
    return Driven(*(row[:, None] for row in (x, y, cos, sin, rear_x, rear_y, *kept)))


def drive_candidates(
    config: PdmConfig,
    ego: Pose,
    history: Driven,
    wheelbase: jax.Array,
    rear_axle: jax.Array,
    candidates: jax.Array,
) -> Driven:
    """Motion of the candidates from the start on, ``[H + 1, N]``.

    Args:
        config: choices.
        ego: box centre at the start, scenario frame.
        history: motion up to the start.
        wheelbase, rear_axle: m.
        candidates: ``[N, H, 3]`` in the ego frame, see `perlsim.metrics.pdm.score.score_candidates`.
    """
    poses = candidates.transpose(2, 1, 0)
    poses = jnp.concatenate([jnp.zeros((3, 1, candidates.shape[0])), poses], 1)
    first = jax.tree.map(lambda row: row[-1, 0], history)
    if config.tracker == "lqr":
        moved = _track(poses, first, wheelbase)
    else:
        moved = _as_they_are(poses, first)
    x, y, heading, cos, sin, speed, acceleration, lateral, yaw_rate, yaw_acceleration = moved
    rear_x = ego.x - rear_axle * ego.cos + x * ego.cos - y * ego.sin
    rear_y = ego.y - rear_axle * ego.sin + x * ego.sin + y * ego.cos
    cos, sin = cos * ego.cos - sin * ego.sin, sin * ego.cos + cos * ego.sin
    return Driven(
        rear_x + rear_axle * cos,
        rear_y + rear_axle * sin,
        cos,
        sin,
        rear_x,
        rear_y,
        heading,
        speed,
        acceleration,
        lateral,
        yaw_rate,
        yaw_acceleration,
    )


def _as_they_are(poses: jax.Array, first: Driven) -> tuple[jax.Array, ...]:
    """Poses ``[3, T, N]`` with speeds and accelerations by differences."""
    x, y = poses[0], poses[1]
    heading = _unwrapped(poses[2])
    cos, sin = jnp.cos(heading), jnp.sin(heading)
    speed = _forward_speed(x, y, cos, sin).at[0].set(first.speed)
    yaw_rate = _differentiated(heading)
    acceleration = _differentiated(speed)
    return x, y, heading, cos, sin, speed, acceleration, speed * yaw_rate, yaw_rate, _differentiated(yaw_rate)


def _track(poses: jax.Array, first: Driven, wheelbase: jax.Array) -> tuple[jax.Array, ...]:
    """Motion along the poses ``[3, T, N]`` of the ego frame."""
    count = poses.shape[1] - 1
    reference_x, reference_y, reference_heading = poses
    turn = wrap_angle(jnp.diff(reference_heading, axis=0))
    cos, sin = jnp.cos(reference_heading), jnp.sin(reference_heading)
    moved = jnp.diff(reference_x, axis=0) * cos[:-1] + jnp.diff(reference_y, axis=0) * sin[:-1]
    speeds = _dot(_speed_fit(count), moved)
    curvatures = _curvature_fit(speeds, turn)
    # What the controller looks at from each step on: the last values hold beyond the end.
    last = count - 1
    target = speeds[np.minimum(np.arange(count) + TRACKING_HORIZON, last)]
    ahead = jnp.concatenate([curvatures, jnp.repeat(curvatures[last:], TRACKING_HORIZON, 0)])
    steps = (reference_x[:-1], reference_y[:-1], reference_heading[:-1], cos[:-1], sin[:-1], target)
    zero = jnp.zeros(poses.shape[2:])
    begin = (zero, zero, zero, zero + first.speed, zero + first.acceleration, zero, zero)

    def advance(state, inputs):
        step, reference = inputs
        x, y, heading, speed, acceleration, steer, yaw_rate = state
        curvature = lax.dynamic_slice_in_dim(ahead, step, TRACKING_HORIZON)
        command, steer_rate = _control(reference, curvature, x, y, heading, speed, steer, wheelbase)
        own = jnp.cos(heading), jnp.sin(heading)
        acceleration = acceleration + STEP / (STEP + ACCELERATION_LAG) * (command - acceleration)
        turned = steer + STEP / (STEP + STEERING_LAG) * STEP * steer_rate
        x, y = x + STEP * speed * own[0], y + STEP * speed * own[1]
        heading = heading + STEP * speed * jnp.tan(steer) / wheelbase
        speed = speed + STEP * acceleration
        steer = jnp.clip(turned, -MAX_STEER, MAX_STEER)
        following = speed * jnp.tan(steer) / wheelbase
        rows = (x, y, heading, speed, acceleration, following, (following - yaw_rate) / STEP)
        return (x, y, heading, speed, acceleration, steer, following), rows

    _, rows = lax.scan(advance, begin, (jnp.arange(count), steps))
    starts = (zero, zero, zero, begin[3], begin[4], zero, zero)
    x, y, heading, speed, acceleration, yaw_rate, yaw_acceleration = (
        jnp.concatenate([start[None], row]) for start, row in zip(starts, rows, strict=True)
    )
    # The bicycle has no lateral acceleration at its rear axle: that of the box centre is what NAVSIM bounds.
    lateral = jnp.zeros_like(x).at[0].set(first.lateral)
    return (
        x,
        y,
        heading,
        jnp.cos(heading),
        jnp.sin(heading),
        speed,
        acceleration,
        lateral,
        yaw_rate,
        yaw_acceleration,
    )


def _control(reference, curvature, x, y, heading, speed, steer, wheelbase):
    """Acceleration [m/s²] and steering rate [rad/s] that the LQRs ask for."""
    reference_x, reference_y, reference_heading, cos, sin, target = reference
    reach = TRACKING_HORIZON * STEP
    stops = (target <= STOPPING_SPEED) & (speed <= STOPPING_SPEED)
    gain = reach * SPEED_WEIGHT / (reach * reach * SPEED_WEIGHT + 1.0)
    command = jnp.where(stops, STOPPING_GAIN, gain) * (target - speed)
    # Errors at the end of the look-ahead without steering, and what one unit of steering rate adds to them.
    lateral = (y - reference_y) * cos - (x - reference_x) * sin
    turn = wrap_angle(heading - reference_heading)
    by_lateral, by_turn = jnp.zeros_like(x), jnp.zeros_like(x)
    for k in range(TRACKING_HORIZON):
        driven = STEP * (speed + k * STEP * command)
        lateral, by_lateral = lateral + driven * turn, by_lateral + driven * by_turn
        turn = turn + driven * (steer / wheelbase - curvature[k])
        by_turn = by_turn + driven * (k * STEP / wheelbase)
    error = LATERAL_WEIGHT * by_lateral * lateral + HEADING_WEIGHT * by_turn * wrap_angle(turn)
    cost = LATERAL_WEIGHT * by_lateral**2 + HEADING_WEIGHT * by_turn**2 + 1.0
    return command, jnp.where(stops, 0.0, -error / cost)


@cache
def _speed_fit(count: int) -> np.ndarray:
    """Speeds [m/s] from displacements along the headings [m], ``[count, count]``.

    Least squares over the first speed and the accelerations, with nuPlan's penalty on the differences of these as
    NAVSIM's code has it: its matrix of differences keeps only their first terms, but for the last row, so that it is
    the accelerations themselves that cost. Kept, since scores are to compare.
    """
    integrate = STEP * np.tri(count)
    integrate[:, 0] = 1.0
    distance = STEP * integrate
    rough = np.zeros((count - 2, count))
    rows = np.arange(count - 2)
    rough[rows, rows + 1] = -1.0
    rough[-1, -1] = 1.0
    solved = np.linalg.solve(distance.T @ distance + JERK_PENALTY * rough.T @ rough, distance.T)
    return (integrate @ solved).astype(np.float32)


def _curvature_fit(speeds: jax.Array, turn: jax.Array) -> jax.Array:
    """Curvatures [1/m] that explain the turns [rad] of each step, ``[T, N]``.

    Minimises the squared errors of the turns, a penalty on curvature rates and a tiny one on the first curvature:
    nodes in a chain, tied to their neighbours and to the ground.
    """
    tie = CURVATURE_RATE_PENALTY / STEP**2
    driven = STEP * speeds
    ground = (driven * driven).at[0].add(INITIAL_CURVATURE_PENALTY)
    pull = driven * turn

    def onward(carry, node):
        held, pulled = carry
        share = tie / (tie + held)
        held, pulled = node[0] + held * share, node[1] + pulled * share
        return (held, pulled), (held, pulled)

    nothing = (jnp.zeros_like(turn[0]), jnp.zeros_like(turn[0]))
    (held, pulled), rows = lax.scan(onward, nothing, (ground, pull))
    last = pulled / held

    def back(following, node):
        value = (node[1] + tie * following) / (node[0] + tie)
        return value, value

    _, before = lax.scan(back, last, (rows[0][:-1], rows[1][:-1]), reverse=True)
    return jnp.concatenate([before, last[None]])


def _forward_speed(x, y, cos, sin) -> jax.Array:
    """Speed along the heading [m/s] from positions ``[T, N]``, by central differences."""
    return _differentiated(x) * cos + _differentiated(y) * sin


def _differentiated(values: jax.Array) -> jax.Array:
    """Time derivative of rows ``[T, N]``: central differences, one-sided at the ends."""
    inner = (values[2:] - values[:-2]) / (2 * STEP)
    return jnp.concatenate([(values[1:2] - values[:1]) / STEP, inner, (values[-1:] - values[-2:-1]) / STEP])


def _unwrapped(heading: jax.Array) -> jax.Array:
    """Angles ``[T, N]`` without jumps along T."""
    steps = wrap_angle(jnp.diff(heading, axis=0))
    return jnp.concatenate([heading[:1], heading[:1] + jnp.cumsum(steps, axis=0)])


def _dot(matrix: np.ndarray, rows: jax.Array) -> jax.Array:
    return jnp.dot(matrix, rows, precision="highest")
