"""Polylines on the host: arc lengths, resampling, simplification and projection, in numpy.

A polyline is ``[n, 2]`` or ``[n, 3]`` metres. Arc lengths, distances and sides are horizontal (x and y); z
rides along by linear interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

_CHUNK = 2_000_000  # point-segment pairs at a time in `project`: about 100 MB of temporaries


def wrap(angle: Array) -> Array:
    """Angles [rad] wrapped to [−π, π)."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def arc_lengths(points: Array) -> Array:
    """Horizontal arc length [m] from the first point to each point, ``[n]``."""
    steps = np.linalg.norm(np.diff(points[:, :2].astype(np.float64), axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])[: len(points)]


def interpolate(points: Array, arcs: Array) -> Array:
    """Points at arc lengths ``arcs`` [m], ``[m, D]``; beyond either end the end point itself."""
    own = arc_lengths(points)
    return np.stack([np.interp(arcs, own, points[:, axis]) for axis in range(points.shape[1])], axis=-1)


def resample(points: Array, spacing: float) -> Array:
    """The polyline with points every ``spacing`` metres of arc, and its own last point."""
    length = arc_lengths(points)[-1]
    arcs = np.arange(0.0, length, spacing)
    if len(arcs) and length - arcs[-1] > 1e-6:
        arcs = np.append(arcs, length)
    return interpolate(points, arcs) if len(arcs) else points[:1].copy()


def headings(points: Array) -> Array:
    """Direction [rad] at each point, ``[n]``: that of the segment ahead, at the end of the one behind."""
    steps = np.diff(points[:, :2], axis=0)
    if not len(steps):
        return np.zeros(len(points))
    angles = np.arctan2(steps[:, 1], steps[:, 0])
    return np.append(angles, angles[-1])


def without_repeats(points: Array, tolerance: float = 1e-3) -> Array:
    """Mask ``[n]`` of the points more than ``tolerance`` metres (horizontally) from the one before."""
    if not len(points):
        return np.zeros(0, bool)
    return np.append(True, np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1) > tolerance)


def simplify(points: Array, tolerance: float, z_tolerance: float = 0.1) -> Array:
    """Indices of the points that Douglas and Peucker's algorithm keeps, ends included, ``[m]``.

    Args:
        points: ``[n, 3]`` m.
        tolerance: m, greatest horizontal distance of a dropped point from the simplified line.
        z_tolerance: m, greatest height error of a dropped point against linear interpolation.
    """
    kept = np.zeros(len(points), bool)
    kept[[0, -1]] = True
    stack = [(0, len(points) - 1)]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        error = _chord_error(points[first : last + 1].astype(np.float64), tolerance, z_tolerance)
        worst = int(np.argmax(error))
        if error[worst] > 1.0:
            kept[first + 1 + worst] = True
            stack += [(first, first + 1 + worst), (first + 1 + worst, last)]
    return np.flatnonzero(kept)


def _chord_error(points: Array, tolerance: float, z_tolerance: float) -> Array:
    """Error of the inner points against the chord, in units of the tolerances (over 1: must be kept)."""
    start, inner, chord = points[0], points[1:-1] - points[0], points[-1] - points[0]
    squared = chord[:2] @ chord[:2]
    along = np.clip(inner[:, :2] @ chord[:2] / squared, 0.0, 1.0) if squared > 0 else np.zeros(len(inner))
    aside = np.linalg.norm(inner[:, :2] - along[:, None] * chord[:2], axis=1) / tolerance
    if len(start) < 3:
        return aside
    return np.maximum(aside, np.abs(inner[:, 2] - along * chord[2]) / z_tolerance)


@dataclass(frozen=True)
class Projection:
    """Nearest points of a polyline, one for each query.

    Attributes:
        distance: ``[Q]`` m, horizontal, not negative.
        arc: ``[Q]`` m, arc length of the nearest point.
        segment: int ``[Q]``, index of the segment it lies on.
        side: int ``[Q]``, +1 where the query lies left of the line, −1 right, 0 on it.
    """

    distance: Array
    arc: Array
    segment: Array
    side: Array


def project(points: Array, queries: Array) -> Projection:
    """Projects points onto a polyline.

    Where a vertex is nearest, two segments tie; the side is then taken from the one whose line lies
    farther from the query, which is the right one at convex and at reflex corners alike.

    Args:
        points: ``[n, D]`` m, at least two points.
        queries: ``[Q, D]`` m.
    """
    line, asked = points[:, :2].astype(np.float64), queries[:, :2].astype(np.float64)
    start, chord = line[:-1], np.diff(line, axis=0)
    length = np.linalg.norm(chord, axis=1)
    safe = np.where(length > 0, length, 1.0)
    arcs = arc_lengths(points)
    size = max(1, _CHUNK // max(len(start), 1))
    parts = []
    for chunk in (asked[i : i + size] for i in range(0, len(asked), size)):
        to_query = chunk[:, None] - start
        along = np.clip((to_query * chord).sum(-1) / safe**2, 0.0, 1.0)
        squared = ((to_query - along[..., None] * chord) ** 2).sum(-1)
        offset = (chord[:, 0] * to_query[..., 1] - chord[:, 1] * to_query[..., 0]) / safe
        best = squared.min(axis=1)
        tied = squared <= best[:, None] + 1e-9
        segment = np.argmax(np.where(tied, np.abs(offset), -1.0), axis=1)
        rows = np.arange(len(chunk))
        arc = arcs[segment] + along[rows, segment] * length[segment]
        parts.append((np.sqrt(best), arc, segment, np.sign(np.nan_to_num(offset[rows, segment])).astype(int)))
    if not parts:
        return Projection(np.zeros(0), np.zeros(0), np.zeros(0, int), np.zeros(0, int))
    distance, arc, segment, side = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Projection(distance, arc, segment, side)
