"""Comfort of an ego's motion as Bench2Drive counts it: the share of 20-frame chunks inside six bounds.

Bounds and filter are nuPlan's comfort metric, applied chunk by chunk. Bench2Drive's own evaluation departs
from it in three points, which `comfortable_chunks` reproduces on request so that figures compare:

- it differentiates with 0.1 s between frames, while CARLA's log has 0.05 s (jerks come out halved);
- what it compares with the bound of the yaw acceleration is the smoothed yaw rate;
- CARLA gives angular velocities in degrees a second, and it compares them as they are with bounds in rad/s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from perlsim.scenario import Array

CHUNK = 20  # frames judged together (Bench2Drive)
WINDOW, ORDER = 7, 2  # of the Savitzky-Golay filter (Bench2Drive)
COMPAT_STEP = 0.1  # s between frames, as Bench2Drive assumes


@dataclass(frozen=True)
class Bounds:
    """Motion that passengers find comfortable; every bound is exclusive (nuPlan's comfort metric).

    Attributes:
        longitudinal_acceleration: lowest and highest, m/s².
        lateral_acceleration: magnitude, m/s².
        jerk: magnitude, m/s³: the rate at which the magnitude of the acceleration changes.
        longitudinal_jerk: magnitude, m/s³.
        yaw_rate: magnitude, rad/s.
        yaw_acceleration: magnitude, rad/s².
    """

    longitudinal_acceleration: tuple[float, float] = (-4.05, 2.40)
    lateral_acceleration: float = 4.89
    jerk: float = 8.37
    longitudinal_jerk: float = 4.13
    yaw_rate: float = 0.95
    yaw_acceleration: float = 1.93


@dataclass(frozen=True)
class Motion:
    """An ego's motion over evenly spaced frames.

    Attributes:
        longitudinal: ``[T]`` m/s², acceleration along the heading.
        lateral: ``[T]`` m/s², acceleration across it; either side may be positive.
        magnitude: ``[T]`` m/s², of the acceleration in the plane.
        yaw_rate: ``[T]`` rad/s.
        step: s between frames.
    """

    longitudinal: Array
    lateral: Array
    magnitude: Array
    yaw_rate: Array
    step: float

    def __len__(self) -> int:
        return len(self.yaw_rate)


def savitzky_golay(
    values: Array,
    *,
    window: int = WINDOW,
    order: int = ORDER,
    derivative: int = 0,
    step: float = 1.0,
) -> Array:
    """Smooths or differentiates along the last axis by least-squares polynomials in a sliding window.

    The first and last half window take the polynomial of the first and last whole window.

    Args:
        values: ``[..., T]``, T at least ``window``.
        window: odd number of samples, more than ``order``.
        order: degree of the polynomials.
        derivative: 0 smooths, 1 gives the first derivative, and so on.
        step: distance between samples, in the unit in which the derivative is wanted.

    Returns:
        ``[..., T]``.

    Raises:
        ValueError: an even window, one that is too short for the order or longer than the values.

    Source: Savitzky and Golay, Analytical Chemistry 36 (1964).
    """
    values = np.asarray(values, float)
    length = values.shape[-1]
    if window % 2 == 0 or window <= order or window > length:
        raise ValueError(f"window {window} does not suit order {order} and {length} values")
    at = np.arange(window) - window // 2
    powers = np.polynomial.polynomial.polyvander(at, order)
    # Column k: derivative of t^k at each place of the window.
    wanted = np.stack(
        [
            np.polynomial.Polynomial.basis(k).deriv(derivative)(at) if derivative else powers[:, k]
            for k in range(order + 1)
        ],
        axis=-1,
    )
    weights = wanted @ np.linalg.pinv(powers) / step**derivative
    first = np.clip(np.arange(length) - window // 2, 0, length - window)
    windows = sliding_window_view(values, window, axis=-1)[..., first, :]
    return np.einsum("...tw,tw->...t", windows, weights[np.arange(length) - first])


def comfortable_chunks(motion: Motion, *, bounds: Bounds | None = None, compat: bool = False) -> Array:
    """Whether each chunk of `CHUNK` frames is comfortable; frames left over at the end are not judged.

    Args:
        motion: of one drive. Shorter than a chunk, it is one chunk by itself.
        bounds: the bounds; nuPlan's by default.
        compat: whether to judge as Bench2Drive's own evaluation does (see above).

    Returns:
        bool ``[C]``; empty where there are fewer than three frames.
    """
    bounds = bounds or Bounds()
    frames = min(len(motion), CHUNK)
    window = min(WINDOW, frames - 1 + frames % 2)
    if window <= ORDER:
        return np.zeros(0, bool)
    step = COMPAT_STEP if compat else motion.step

    def chunks(values: Array) -> Array:
        return values[: len(values) // frames * frames].reshape(-1, frames)

    def smooth(values: Array, derivative: int = 0) -> Array:
        return savitzky_golay(values, window=window, derivative=derivative, step=step)

    longitudinal = smooth(chunks(motion.longitudinal))
    lateral = smooth(chunks(motion.lateral))
    magnitude = smooth(chunks(motion.magnitude))
    yaw_rate = np.rad2deg(motion.yaw_rate) if compat else motion.yaw_rate
    # Its evaluation unwraps the rates as if they were angles.
    yaw_rate = smooth(np.unwrap(chunks(yaw_rate)) if compat else chunks(yaw_rate))
    yaw_acceleration = yaw_rate if compat else smooth(yaw_rate, 1)
    low, high = bounds.longitudinal_acceleration
    inside = (
        (longitudinal > low)
        & (longitudinal < high)
        & (np.abs(lateral) < bounds.lateral_acceleration)
        & (np.abs(smooth(magnitude, 1)) < bounds.jerk)
        & (np.abs(smooth(longitudinal, 1)) < bounds.longitudinal_jerk)
        & (np.abs(yaw_rate) < bounds.yaw_rate)
        & (np.abs(yaw_acceleration) < bounds.yaw_acceleration)
    )
    return np.asarray(inside.all(-1))


def comfort(motion: Motion, *, bounds: Bounds | None = None, compat: bool = False) -> float:
    """Share of comfortable chunks, in [0, 1]; NaN where none can be judged. Arguments as above."""
    chunks = comfortable_chunks(motion, bounds=bounds, compat=compat)
    return float(chunks.mean()) if len(chunks) else float("nan")
