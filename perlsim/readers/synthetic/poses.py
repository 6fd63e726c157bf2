"""From motion along paths to boxes in the plane, and the checks that a generated log must pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.geometry.polylines import wrap
from perlsim.readers.synthetic.curves import SPACING
from perlsim.readers.synthetic.relations import Batch
from perlsim.readers.synthetic.traffic import Motion
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType

LATERAL_BOUND = 4.0
"""m/s²; a log with more lateral acceleration is drawn again."""


@dataclass(frozen=True)
class Poses:
    """Boxes over time, `[N, T]` where nothing else is said.

    Attributes:
        x, y: m, box centres. heading: rad, wrapped. vx, vy: m/s, of the centres.
        turned: `[N]` rad, most that each has turned since the first step.
        lateral: `[N]` m/s², largest acceleration across the rear axle.
    """

    x: Array
    y: Array
    heading: Array
    vx: Array
    vy: Array
    turned: Array
    lateral: Array


def place(batch: Batch, motion: Motion, dt: float) -> Poses:
    """Rear axles follow the paths, heading along them; box centres lie `rear` m ahead."""
    crowd, table = batch.crowd, batch.table
    along = motion.rear * (1.0 / SPACING)
    row = np.minimum(np.maximum(batch.base + along.astype(np.int64), batch.base), batch.last - 1)
    part = along - (row - batch.base)
    x, y, angle = (_between(c, row, part) for c in (table.x, table.y, table.heading))
    heading = angle
    if any(town.corridors for town in batch.towns):
        x, y = x - motion.side * _sin(angle), y + motion.side * _cos(angle)
        heading = angle + np.arctan2(motion.slope, 1.0 - table.curvature[row] * motion.side)
    parked = crowd.path < 0
    heading = np.where(parked, crowd.heading, heading)
    turn = np.gradient(heading, dt, axis=0) if len(heading) > 1 else np.zeros_like(heading)
    cos, sin = _cos(heading), _sin(heading)
    swing = turn * crowd.rear
    columns = (
        np.where(parked, crowd.x, x + crowd.rear * cos),
        np.where(parked, crowd.y, y + crowd.rear * sin),
        wrap(heading),
        motion.speed * cos - swing * sin,
        motion.speed * sin + swing * cos,
    )
    return Poses(
        *(np.ascontiguousarray(column.T) for column in columns),
        turned=np.abs(heading - heading[:1]).max(0),
        lateral=np.abs(motion.speed * turn).max(0),
    )


def _sin(angle: Array) -> Array:
    # Single precision errs by 1e-7 here and is several times faster.
    return np.sin(angle.astype(np.float32))


def _cos(angle: Array) -> Array:
    return np.cos(angle.astype(np.float32))


def _between(values: Array, row: Array, part: Array) -> Array:
    """Values a share `part` of the way from `row` to the next."""
    low = values[row]
    return low + part * (values[row + 1] - low)


def rejected(batch: Batch, motion: Motion, poses: Poses, hold: Array, red: Array) -> Array:
    """Which scenarios must be drawn again: an overlap, a line crossed on red, a bend taken too fast.

    Args:
        batch, motion, poses: what was driven.
        hold: `[N]` m, each one's stop line along its path.
        red: bool `[T, N]`, who faces red.
    """
    bad = poses.lateral > LATERAL_BOUND
    front = motion.rear + batch.crowd.rear + 0.5 * batch.crowd.length
    driving = batch.crowd.kind != AgentType.PEDESTRIAN
    bad |= ((front[:-1] <= hold) & (front[1:] > hold) & (red[1:] | red[:-1]) & driving).any(0)
    result = np.zeros(len(batch.towns), bool)
    np.logical_or.at(result, batch.scene, bad)
    result[overlapping(batch, poses, motion.active.T)] = True
    return result


def overlapping(batch: Batch, poses: Poses, active: Array) -> Array:
    """Indices of the scenarios in which two boxes overlap at some step."""
    crowd = batch.crowd
    firsts, seconds = [], []
    for a, b in zip(batch.first, batch.first[1:], strict=False):
        i, j = np.triu_indices(b - a, 1)
        firsts.append(i + a)
        seconds.append(j + a)
    i, j = np.concatenate(firsts), np.concatenate(seconds)
    some = (crowd.path[i] >= 0) | (crowd.path[j] >= 0)
    i, j = i[some], j[some]
    reach = 0.5 * np.hypot(crowd.length, crowd.width)
    near = (reach[i] + reach[j])[:, None] ** 2
    x, y = poses.x.astype(np.float32), poses.y.astype(np.float32)
    found = []
    for k in range(0, len(i), 2048):  # pairs at a time, so that temporaries stay in the cache
        part = slice(k, k + 2048)
        dx, dy = x[i[part]] - x[j[part]], y[i[part]] - y[j[part]]
        pair, step = np.nonzero(dx * dx + dy * dy < near[part])
        found.append((i[part][pair], j[part][pair], step))
    i, j, step = (np.concatenate(column) for column in zip(*found, strict=True))
    alive = active[i, step] & active[j, step]
    i, j, step = i[alive], j[alive], step[alive]
    return np.unique(batch.scene[i[_separation(crowd, poses, i, j, step) <= 0.0]])


def _separation(crowd, poses: Poses, i: Array, j: Array, step: Array) -> Array:
    """The largest gap over the four axes of two boxes: not positive exactly where they overlap."""
    dx, dy = poses.x[j, step] - poses.x[i, step], poses.y[j, step] - poses.y[i, step]
    turn = poses.heading[j, step] - poses.heading[i, step]
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    gaps = []
    for own, other in ((i, j), (j, i)):
        c, s = np.cos(poses.heading[own, step]), np.sin(poses.heading[own, step])
        length, width = 0.5 * crowd.length, 0.5 * crowd.width
        along = np.abs(dx * c + dy * s) - length[own] - length[other] * cos - width[other] * sin
        across = np.abs(dy * c - dx * s) - width[own] - length[other] * sin - width[other] * cos
        gaps.append(np.maximum(along, across))
    return np.maximum(*gaps)
