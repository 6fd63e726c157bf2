"""Comfort of a motion: six bounds over smoothed signals (nuPlan's), and the change between two plans (NAVSIM's EC)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from perlsim.bank import STEP
from perlsim.geometry.numerics import safe_norm
from perlsim.metrics.pdm.savgol import savgol_matrix
from perlsim.metrics.pdm.types import Driven

# Bounds of the six signals (FACTS §5): m/s², m/s², m/s³, m/s³, rad/s, rad/s².
MIN_LONGITUDINAL, MAX_LONGITUDINAL = -4.05, 2.40
MAX_LATERAL = 4.89
MAX_JERK, MAX_LONGITUDINAL_JERK = 8.37, 4.13
MAX_YAW_RATE, MAX_YAW_ACCELERATION = 0.95, 1.93
# Extended comfort: largest root mean square difference of acceleration, jerk, yaw rate and yaw acceleration.
EXTENDED_LIMITS = (0.7, 0.5, 0.1, 0.1)
# Windows of the filters: accelerations; jerks; headings.
ACCELERATION_WINDOW, JERK_WINDOW, HEADING_WINDOW = 8, 15, 5


class ComfortSignals(NamedTuple):
    """Smoothed signals ``[T, ...]`` that comfort is judged by; SI units."""

    longitudinal: jax.Array
    lateral: jax.Array
    jerk: jax.Array
    longitudinal_jerk: jax.Array
    yaw_rate: jax.Array
    yaw_acceleration: jax.Array


def comfort_signals(
    longitudinal: jax.Array,
    lateral: jax.Array,
    magnitude: jax.Array,
    heading: jax.Array,
    step: float = STEP,
) -> ComfortSignals:
    """The signals that nuPlan smooths by Savitzky–Golay filters.

    Args:
        longitudinal, lateral: accelerations of the box centre ``[T, ...]`` m/s².
        magnitude: of the acceleration of the rear axle, m/s².
        heading: rad, without jumps.
        step: s between samples.
    """
    count = heading.shape[0]
    smooth = savgol_matrix(count, ACCELERATION_WINDOW, 2)
    slope = savgol_matrix(count, JERK_WINDOW, 2, 1, step)
    longitudinal, magnitude = _filtered(smooth, longitudinal), _filtered(smooth, magnitude)
    return ComfortSignals(
        longitudinal,
        _filtered(smooth, lateral),
        _filtered(slope, magnitude),
        _filtered(slope, longitudinal),
        _filtered(savgol_matrix(count, HEADING_WINDOW, 2, 1, step), heading),
        _filtered(savgol_matrix(count, HEADING_WINDOW, 3, 2, step), heading),
    )


def comfort_bounds(signals: ComfortSignals) -> jax.Array:
    """Whether each of the six signals is inside its bounds at each step, bool ``[6, T, ...]``."""
    return jnp.stack(
        [
            (signals.longitudinal > MIN_LONGITUDINAL) & (signals.longitudinal < MAX_LONGITUDINAL),
            jnp.abs(signals.lateral) < MAX_LATERAL,
            jnp.abs(signals.jerk) < MAX_JERK,
            jnp.abs(signals.longitudinal_jerk) < MAX_LONGITUDINAL_JERK,
            jnp.abs(signals.yaw_rate) < MAX_YAW_RATE,
            jnp.abs(signals.yaw_acceleration) < MAX_YAW_ACCELERATION,
        ]
    )


def signals_of(driven: Driven, rear_axle: jax.Array) -> ComfortSignals:
    """The signals of a motion.

    Args:
        driven: rows ``[T, N]``.
        rear_axle: m from the rear axle to the box centre, to which accelerations are moved as nuPlan does (its
            centripetal term has the sign of the offset).
    """
    return comfort_signals(
        driven.acceleration + rear_axle * driven.yaw_rate**2,
        driven.lateral + rear_axle * driven.yaw_acceleration,
        safe_norm(driven.acceleration, driven.lateral),
        driven.heading,
    )


def comfort(driven: Driven, rear_axle: jax.Array, first_time: float) -> tuple[jax.Array, jax.Array]:
    """Comfort (0, 1, or NaN where the motion is unknown) and the time [s] of the first breach, ``[N]``.

    Args:
        driven: rows ``[T, N]``.
        rear_axle: m.
        first_time: s, of the first row.
    """
    signals = signals_of(driven, rear_axle)
    inside = comfort_bounds(signals).all(0)
    times = first_time + STEP * jnp.arange(inside.shape[0], dtype=jnp.float32)[:, None]
    failure = jnp.where(inside, jnp.inf, times).min(0)
    known = jnp.isfinite(sum(part.sum(0) for part in signals))
    score = jnp.where(known, jnp.isinf(failure).astype(jnp.float32), jnp.nan)
    return score, jnp.where(known, failure, jnp.inf)


def extended_comfort(current: Driven, previous: Driven, replan_steps: int) -> jax.Array:
    """Whether two plans made ``replan_steps`` apart agree where they overlap: 0 or 1, ``[N]``.

    Args:
        current: rows ``[T, N]`` from the present start on.
        previous: rows ``[T, 1]`` from the start before on.
        replan_steps: steps between the starts.
    """
    now = _features(jax.tree.map(lambda row: row[:-replan_steps], current))
    then = _features(jax.tree.map(lambda row: row[replan_steps:], previous))
    squared = [jnp.mean((a - b) ** 2, 0) for a, b in zip(now, then, strict=True)]
    agrees = jnp.stack(
        [value <= limit * limit for value, limit in zip(squared, EXTENDED_LIMITS, strict=True)]
    ).all(0)
    return jnp.where(jnp.isfinite(sum(squared)), agrees.astype(jnp.float32), jnp.nan)


def _features(driven: Driven) -> tuple[jax.Array, ...]:
    """Acceleration, jerk, yaw rate and yaw acceleration ``[T, N]``, smoothed."""
    count = driven.heading.shape[0]
    magnitude = safe_norm(driven.acceleration, driven.lateral)
    acceleration = _filtered(savgol_matrix(count, ACCELERATION_WINDOW, 2), magnitude)
    return (
        acceleration,
        _filtered(savgol_matrix(count, JERK_WINDOW, 2, 1, STEP), acceleration),
        _filtered(savgol_matrix(count, HEADING_WINDOW, 2, 1, STEP), driven.heading),
        _filtered(savgol_matrix(count, HEADING_WINDOW, 2, 2, STEP), driven.heading),
    )


def _filtered(matrix, rows: jax.Array) -> jax.Array:
    return jnp.tensordot(matrix, rows, 1, precision="highest")
