"""Savitzky–Golay filters as matrices: smoothing and derivatives of short signals are then one product."""

from __future__ import annotations

from functools import cache
from math import factorial

import numpy as np


@cache
def savgol_matrix(
    count: int, window: int, order: int, derivative: int = 0, spacing: float = 1.0
) -> np.ndarray:
    """The filter of a signal of ``count`` samples, float32 ``[count, count]``.

    A polynomial is fitted to the window around each sample and evaluated, or differentiated, in the window's middle;
    near the ends the first and the last window serve all samples, each at its own place. A window of even length
    reaches one sample farther ahead, and its middle lies between samples (as in scipy's ``mode="interp"``, which
    nuPlan's and NAVSIM's comfort metrics call).

    Args:
        count: samples; a longer window is cut to it.
        window: samples of the window.
        order: of the polynomials, below the window.
        derivative: order of the derivative.
        spacing: of the samples, in the unit of the derivative.
    """
    window = min(window, count)
    half = window // 2
    places = np.arange(window, dtype=np.float64)
    matrix = np.zeros((count, count))
    for row in range(count):
        at_end = row < half or row >= count - half
        first = int(np.clip(row - (half if at_end else (window - 1) // 2), 0, count - window))
        at = row - first if at_end else (window - 1) / 2
        powers = np.vander(places - at, order + 1, increasing=True)
        fit = np.linalg.pinv(powers)[derivative] if derivative <= order else np.zeros(window)
        matrix[row, first : first + window] = fit * factorial(derivative) / spacing**derivative
    return matrix.astype(np.float32)
