"""Cutting the surroundings of a route or log out of a town."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perlsim.scenario import Array, Lanes, Markings, Ragged, Road, StopSigns


def box_around(points: Array, margin: float) -> tuple[float, float, float, float]:
    """``(x_min, y_min, x_max, y_max)`` [m] of points ``[n, 2 or 3]``, widened by ``margin`` m."""
    low, high = points[:, :2].min(0) - margin, points[:, :2].max(0) + margin
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def crop(road: Road, box: tuple[float, float, float, float]) -> tuple[Road, Array]:
    """What of a road lies in a box.

    Lanes and crosswalks that reach into the box stay whole; markings and edges are cut down to the runs of
    segments that reach into it.

    Args:
        road: any road.
        box: ``(x_min, y_min, x_max, y_max)`` m in the road's frame.

    Returns:
        The smaller road, and int32 ``[P]``: the new index of each old lane, −1 where it is gone.
    """
    lanes = road.lanes
    kept = rows_in(lanes.centre, box)
    new_idx = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    keep_points = np.repeat(kept, np.diff(lanes.centre.offsets))
    markings_line, origin = _cut(road.markings.line, box)
    signs = road.stop_signs
    x_min, y_min, x_max, y_max = box
    inside = (signs.position[:, :2] >= [x_min, y_min]).all(1) & (signs.position[:, :2] <= [x_max, y_max]).all(
        1
    )
    lane_of_sign = np.where(signs.lane_idx >= 0, new_idx[signs.lane_idx] if len(lanes) else -1, -1)
    cropped = replace(
        road,
        lanes=Lanes(
            centre=_select(lanes.centre, kept),
            width=lanes.width[keep_points],
            kind=lanes.kind[kept],
            speed_limit=lanes.speed_limit[kept],
            in_junction=lanes.in_junction[kept],
            successors=_reindexed(lanes.successors, kept, new_idx),
            left=_reindexed(lanes.left, kept, new_idx),
            right=_reindexed(lanes.right, kept, new_idx),
            ids=tuple(name for name, keep in zip(lanes.ids, kept, strict=True) if keep),
        ),
        markings=Markings(markings_line, road.markings.kind[origin]),
        edges=_cut(road.edges, box)[0],
        crosswalks=_select(road.crosswalks, rows_in(road.crosswalks, box)),
        stop_signs=StopSigns(
            signs.position[inside], signs.heading[inside], lane_of_sign[inside].astype(np.int32)
        ),
    )
    return cropped, new_idx


def _select(rows: Ragged, kept: Array) -> Ragged:
    lengths = np.diff(rows.offsets)
    offsets = np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64)
    return Ragged(rows.values[np.repeat(kept, lengths)], offsets)


def _reindexed(rows: Ragged, kept: Array, new_idx: Array) -> Ragged:
    """Index rows of the kept lanes, without what is gone."""
    chosen = _select(rows, kept)
    values = new_idx[chosen.values] if len(chosen.values) else chosen.values
    owner = np.repeat(np.arange(len(chosen)), np.diff(chosen.offsets))
    counts = np.bincount(owner[values >= 0], minlength=len(chosen))
    return Ragged(values[values >= 0], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _segments_in(values: Array, box) -> Array:
    """Whether the bounding box of each segment between consecutive points meets the box, ``[N - 1]``."""
    low, high = np.minimum(values[:-1, :2], values[1:, :2]), np.maximum(values[:-1, :2], values[1:, :2])
    return (high[:, 0] >= box[0]) & (low[:, 0] <= box[2]) & (high[:, 1] >= box[1]) & (low[:, 1] <= box[3])


def _within_rows(rows: Ragged) -> Array:
    """Whether consecutive points belong to the same row, ``[N - 1]``."""
    owner = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
    return owner[1:] == owner[:-1]


def rows_in(rows: Ragged, box: tuple[float, float, float, float]) -> Array:
    """Whether a segment of each row meets the box, by bounding boxes; bool ``[P]``."""
    if not len(rows.values):
        return np.zeros(len(rows), bool)
    meets = _segments_in(rows.values, box) & _within_rows(rows)
    owner = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))[:-1]
    return np.bincount(owner, meets, minlength=len(rows)) > 0


def _cut(rows: Ragged, box) -> tuple[Ragged, Array]:
    """Runs of segments that meet the box, and the row each came from."""
    if len(rows.values) < 2:
        return Ragged(rows.values[:0], np.zeros(1, np.int64)), np.zeros(0, np.int64)
    meets = np.concatenate([[False], _segments_in(rows.values, box) & _within_rows(rows), [False]])
    first, last = np.flatnonzero(~meets[:-1] & meets[1:]), np.flatnonzero(meets[:-1] & ~meets[1:])
    origin = np.searchsorted(rows.offsets, first, side="right") - 1
    width = rows.values.shape[1]
    pieces = [rows.values[a : b + 1] for a, b in zip(first, last, strict=True)]
    return Ragged.from_rows(pieces, width=width, dtype=rows.values.dtype), origin
