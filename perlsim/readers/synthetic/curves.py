"""Smooth curves in the plane, of which generated roads and driven paths are made. Metres and rad."""

from __future__ import annotations

import numpy as np

from perlsim.geometry.polylines import Array, arc_lengths, wrap

SPACING = 0.5
"""m between the points of a driven path."""


def tangents(points: Array) -> Array:
    """Unwrapped tangent directions `[n]` rad of a polyline `[n, 2]`, by central differences."""
    step = np.empty_like(points)
    step[1:-1] = points[2:] - points[:-2]
    step[0], step[-1] = points[1] - points[0], points[-1] - points[-2]
    angle = np.arctan2(step[:, 1], step[:, 0])
    # np.unwrap does the same, several times slower on short lines.
    angle[1:] -= np.cumsum(2.0 * np.pi * np.rint(np.diff(angle) / (2.0 * np.pi)))
    return angle


def resample(points: Array, spacing: float) -> Array:
    """Points exactly `spacing` m of arc apart, `[m, 2]`; a last piece shorter than that is left out."""
    lengths = arc_lengths(points)
    at = np.arange(0.0, lengths[-1] + 1e-9, spacing)
    return np.stack([np.interp(at, lengths, points[:, 0]), np.interp(at, lengths, points[:, 1])], -1)


def offset(points: Array, distance: float | Array) -> Array:
    """The polyline `[n, 2]` moved by `distance` m (a number or `[n]`) to its left."""
    heading = tangents(points)
    normal = np.stack([-np.sin(heading), np.cos(heading)], -1)
    return points + np.asarray(distance)[..., None] * normal


def from_curvature(curvature: Array, spacing: float, start: Array, heading: float) -> Array:
    """Integrates a curvature profile.

    Args:
        curvature: `[n]` 1/m at equally spaced arc lengths.
        spacing: m between them.
        start: `[2]` m, first point.
        heading: rad, direction at the first point.

    Returns:
        The points `[n, 2]` m.
    """
    middle = 0.5 * (curvature[1:] + curvature[:-1])
    direction = heading + np.concatenate([[0.0], np.cumsum(middle * spacing)])
    middle = 0.5 * (direction[1:] + direction[:-1])
    steps = spacing * np.stack([np.cos(middle), np.sin(middle)], -1)
    return start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def connect(start: Array, start_heading: float, end: Array, end_heading: float) -> Array:
    """A quintic Hermite curve without curvature at its ends, points about 0.5 m apart, `[n, 2]`."""
    chord = float(np.hypot(*(end - start)))
    half = 0.5 * abs(float(wrap(np.asarray(end_heading - start_heading))))
    # Tangents as long as the arc of the circle with this chord and turn: curvature stays near that circle's.
    scale = chord * (half / np.sin(half) if half > 1e-3 else 1.0)
    t = np.linspace(0.0, 1.0, max(int(scale / SPACING), 8) + 1)[:, None]
    end_weight = t**3 * (10 - 15 * t + 6 * t**2)
    start_slope = t - 6 * t**3 + 8 * t**4 - 3 * t**5
    end_slope = -4 * t**3 + 7 * t**4 - 3 * t**5
    return (
        (1 - end_weight) * start
        + end_weight * end
        + start_slope * scale * direction(start_heading)
        + end_slope * scale * direction(end_heading)
    )


def direction(heading: float) -> Array:
    """Unit vector `[2]` of a heading in rad."""
    return np.array([np.cos(heading), np.sin(heading)])


def join(*pieces: Array) -> Array:
    """Polylines `[n_i, 2]` that follow each other, as one; the repeated joints are left out."""
    return np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])


def smooth_step(x: Array) -> tuple[Array, Array]:
    """The quintic from 0 to 1 over x in [0, 1] with flat, uncurved ends, and its derivative."""
    x = np.clip(x, 0.0, 1.0)
    rest = 1.0 - x
    return x * x * x * (10.0 + x * (6.0 * x - 15.0)), 30.0 * x * x * rest * rest
