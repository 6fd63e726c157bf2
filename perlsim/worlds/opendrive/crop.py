"""Cutting the surroundings of a route or log out of a town."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from perlsim.scenario import Array, Lanes, Markings, Ragged, Road, StopSigns

# (x_min, y_min, x_max, y_max) m, or several such rows.
Region: TypeAlias = tuple[float, float, float, float] | Array


def box_around(points: Array, margin: float) -> tuple[float, float, float, float]:
    """``(x_min, y_min, x_max, y_max)`` [m] of points ``[n, 2 or 3]``, widened by ``margin`` m."""
    low, high = points[:, :2].min(0) - margin, points[:, :2].max(0) + margin
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def boxes_along(points: Array, margin: float, stride: float = 50.0) -> Array:
    """Boxes ``[K, 4]`` m around stretches of about ``stride`` m of a line ``[n, 2 or 3]``, widened by ``margin``.

    Along a slanting route they hold far less of a town than the one box around it.
    """
    ends = np.stack([points[:-1, :2], points[1:, :2]], axis=1) if len(points) > 1 else points[None, :1, :2]
    pieces = []
    for a, b in ((segment[0], segment[-1]) for segment in ends):
        parts = max(int(np.ceil(np.linalg.norm(b - a) / stride)), 1)
        line = a + (b - a) * np.linspace(0.0, 1.0, parts + 1)[:, None]
        pieces += [np.stack([line[i], line[i + 1]]) for i in range(parts)]
    joined, boxes = pieces[0], []
    for piece in pieces[1:]:
        both = np.concatenate([joined, piece])
        if np.ptp(both, axis=0).max() > stride:
            boxes.append(box_around(joined, margin))
            both = piece
        joined = both
    return np.array([*boxes, box_around(joined, margin)])


def crop(road: Road, region: Region) -> tuple[Road, Array]:
    """What of a road lies in a region.

    Lanes and crosswalks that reach into the region stay whole; markings and edges are cut down to the runs of
    segments that reach into it.

    Args:
        road: any road.
        region: ``(x_min, y_min, x_max, y_max)`` m in the road's frame, or several such boxes ``[K, 4]``.

    Returns:
        The smaller road, and int32 ``[P]``: the new index of each old lane, −1 where it is gone.
    """
    lanes = road.lanes
    kept = rows_in(lanes.centre, region)
    new_idx = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    keep_points = np.repeat(kept, np.diff(lanes.centre.offsets))
    markings_line, origin = _cut(road.markings.line, region)
    signs = road.stop_signs
    inside = points_in(signs.position, region)
    lane_of_sign = np.where(signs.lane_idx >= 0, new_idx[signs.lane_idx] if len(lanes) else -1, -1)
    cropped = replace(
        road,
        lanes=Lanes(
            centre=select(lanes.centre, kept),
            width=lanes.width[keep_points],
            kind=lanes.kind[kept],
            speed_limit=lanes.speed_limit[kept],
            in_junction=lanes.in_junction[kept],
            successors=reindexed(lanes.successors, kept, new_idx),
            left=reindexed(lanes.left, kept, new_idx),
            right=reindexed(lanes.right, kept, new_idx),
            ids=tuple(name for name, keep in zip(lanes.ids, kept, strict=True) if keep),
        ),
        markings=Markings(markings_line, road.markings.kind[origin]),
        edges=_cut(road.edges, region)[0],
        crosswalks=select(road.crosswalks, rows_in(road.crosswalks, region)),
        stop_signs=StopSigns(
            signs.position[inside], signs.heading[inside], lane_of_sign[inside].astype(np.int32)
        ),
    )
    return cropped, new_idx


def select(rows: Ragged, kept: Array) -> Ragged:
    """Some of the rows, bool ``[P]``."""
    lengths = np.diff(rows.offsets)
    offsets = np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64)
    return Ragged(rows.values[np.repeat(kept, lengths)], offsets)


def reindexed(rows: Ragged, kept: Array, new_idx: Array) -> Ragged:
    """Some of the rows of indices, with new indices in place of the old, without what is gone (−1)."""
    chosen = select(rows, kept)
    values = new_idx[chosen.values] if len(chosen.values) else chosen.values
    owner = np.repeat(np.arange(len(chosen)), np.diff(chosen.offsets))
    counts = np.bincount(owner[values >= 0], minlength=len(chosen))
    return Ragged(values[values >= 0], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def points_in(points: Array, region: Region) -> Array:
    """Whether each point ``[n, 2 or 3]`` lies in the region; bool ``[n]``."""
    x, y = points[:, 0], points[:, 1]
    return _boxes_meet(x, x, y, y, region)


def _boxes_meet(x_low: Array, x_high: Array, y_low: Array, y_high: Array, region: Region) -> Array:
    """Whether boxes, each bound ``[n]``, meet the region, ``[n]``."""
    boxes = np.atleast_2d(np.asarray(region, np.float64))
    found = np.zeros(len(x_low), bool)
    # Column by column, and all boxes at once first: whole towns have a million segments.
    (x_min, y_min), (x_max, y_max) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    near = np.flatnonzero((x_high >= x_min) & (x_low <= x_max) & (y_high >= y_min) & (y_low <= y_max))
    x_low, x_high, y_low, y_high = x_low[near], x_high[near], y_low[near], y_high[near]
    for x_min, y_min, x_max, y_max in boxes:
        meets = (x_high >= x_min) & (x_low <= x_max) & (y_high >= y_min) & (y_low <= y_max)
        found[near[meets]] = True
    return found


def _segments_in(values: Array, region: Region) -> Array:
    """Whether the bounding box of each segment between consecutive points meets the region, ``[N - 1]``."""
    x, y = values[:, 0], values[:, 1]
    x_low, x_high = np.minimum(x[:-1], x[1:]), np.maximum(x[:-1], x[1:])
    y_low, y_high = np.minimum(y[:-1], y[1:]), np.maximum(y[:-1], y[1:])
    return _boxes_meet(x_low, x_high, y_low, y_high, region)


def _within_rows(rows: Ragged) -> Array:
    """Whether consecutive points belong to the same row, ``[N - 1]``."""
    within = np.ones(len(rows.values) - 1, bool)
    starts = rows.offsets[1:-1]
    within[starts[(starts > 0) & (starts < len(rows.values))] - 1] = False
    return within


def rows_in(rows: Ragged, region: Region) -> Array:
    """Whether a segment of each row meets the region, by bounding boxes; bool ``[P]``."""
    found = _rows_near(rows, region)
    near = select(rows, found)
    if not len(near.values):
        return found
    meets = np.flatnonzero(_segments_in(near.values, region) & _within_rows(near))
    of_near = np.zeros(len(near), bool)
    of_near[np.searchsorted(near.offsets, meets, side="right") - 1] = True
    found[found] = of_near
    return found


def _rows_near(rows: Ragged, region: Region) -> Array:
    """Whether the bounding box of each row meets that of the region; of most of a town it does not."""
    boxes = np.atleast_2d(np.asarray(region, np.float64))
    x_low, y_low, x_high, y_high = rows.bounds.T
    whole = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    return _boxes_meet(x_low, x_high, y_low, y_high, whole)


def _cut(whole: Ragged, region: Region) -> tuple[Ragged, Array]:
    """Runs of segments that meet the region, and the row each came from."""
    near = _rows_near(whole, region)
    rows = select(whole, near)
    if len(rows.values) < 2:
        return Ragged(rows.values[:0], np.zeros(1, np.int64)), np.zeros(0, np.int64)
    meets = np.concatenate([[False], _segments_in(rows.values, region) & _within_rows(rows), [False]])
    first, last = np.flatnonzero(~meets[:-1] & meets[1:]), np.flatnonzero(meets[:-1] & ~meets[1:])
    origin = np.flatnonzero(near)[np.searchsorted(rows.offsets, first, side="right") - 1]
    width = rows.values.shape[1]
    pieces = [rows.values[a : b + 1] for a, b in zip(first, last, strict=True)]
    return Ragged.from_rows(pieces, width=width, dtype=rows.values.dtype), origin
