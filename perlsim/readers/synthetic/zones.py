"""Where the paths of a junction meet: found once per map from samples of their middle stretches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perlsim.geometry.polylines import arc_lengths, interpolate
from perlsim.readers.synthetic.curves import tangents
from perlsim.readers.synthetic.maps import FAR, Path, Zone
from perlsim.scenario import Array

SAMPLES = 36
CLEARANCE = 2.7
"""m between centre lines below which two vehicles could touch."""
CLEARANCE_PEDESTRIAN = 2.0
BEFORE, AFTER = 8.0, 14.0
"""m of the lanes before and after the junction that are looked at."""


def find_zones(paths: Sequence[Path], circular: bool = False) -> Zone:
    """All ordered pairs of paths that come close, with at most two stretches each.

    Args:
        paths: the paths of one map.
        circular: whether it is a roundabout: who is on the ring has priority over who is entering.
    """
    arcs = np.stack([_sampled_arcs(path) for path in paths])
    xy = np.stack([interpolate(path.points, arc) for path, arc in zip(paths, arcs, strict=True)])
    heading = np.stack([tangents(points) for points in xy])
    walked = np.array([path.pedestrian for path in paths])
    flat = xy.reshape(-1, 2).astype(np.float32)
    squared = (flat[:, None, 0] - flat[None, :, 0]) ** 2 + (flat[:, None, 1] - flat[None, :, 1]) ** 2
    squared = squared.reshape(len(paths), SAMPLES, len(paths), SAMPLES).transpose(0, 2, 1, 3)
    nearest = squared.min((2, 3))
    limit = np.where(walked[:, None] | walked[None, :], CLEARANCE_PEDESTRIAN, CLEARANCE) ** 2
    pairs = (nearest < limit) & ~np.eye(len(paths), dtype=bool) & ~(walked[:, None] & walked[None, :])
    path, other = np.nonzero(pairs)
    squared, limit = squared[path, other], limit[path, other]
    close = squared < limit[:, None, None]
    touched = close.any(2)
    begins = touched & ~np.pad(touched, ((0, 0), (1, 0)))[:, :-1]
    run = np.cumsum(begins, 1)
    found = [
        _stretch(paths, arcs, heading, path, other, squared, close, touched & (run == k), circular)
        for k in (1, 2)
    ]
    return Zone(**{name: np.concatenate([part[name] for part in found]) for name in found[0]})


def _stretch(paths, arcs, heading, path, other, squared, close, member, circular) -> dict[str, Array]:
    """The zones given by one run of samples per pair of paths; `member`: bool `[pairs, samples]`."""
    some = member.any(1)
    path, other, member = path[some], other[some], member[some]
    close = close[some] & member[:, :, None]
    squared = np.where(member[:, :, None], squared[some], np.inf)
    rows, last = np.arange(len(path)), SAMPLES - 1
    first, final = member.argmax(1), last - member[:, ::-1].argmax(1)
    facing = close.any(1)
    other_first, other_final = facing.argmax(1), last - facing[:, ::-1].argmax(1)
    here, there = np.divmod(squared.reshape(len(path), SAMPLES * SAMPLES).argmin(1), SAMPLES)
    step, other_step = (arcs[k, 1] - arcs[k, 0] for k in (path, other))
    start, end = arcs[path, first] - step, arcs[path, final] + step
    other_start, other_end = arcs[other, other_first] - other_step, arcs[other, other_final] + other_step
    along = np.cos(heading[path, here] - heading[other, there])
    touching = np.sqrt(squared[rows, here, there]) < 0.6
    shared = (along > 0.8) & touching
    from_start, to_end = (
        shared & (first == 0) & (other_first == 0),
        shared & (final == last) & (other_final == last),
    )
    rank, phase = np.array([p.rank for p in paths]), np.array([p.group for p in paths])
    priority = np.where(phase[path] == phase[other], np.sign(rank[path] - rank[other]), 0)
    if circular:
        entry = np.array([p.entry for p in paths])
        entering, entering_other = start < entry[path] + 12.0, other_start < entry[other] + 12.0
        priority = np.where(entering == entering_other, 0, np.where(entering, 1, -1))
    walked = np.array([p.pedestrian for p in paths])
    priority = np.where(walked[other], 1, np.where(walked[path], -1, priority))
    return {
        "path": path,
        "other": other,
        "start": np.where(from_start, -FAR, start),
        "end": np.where(to_end, FAR, end),
        "other_start": np.where(from_start, -FAR, other_start),
        "other_end": np.where(to_end, FAR, other_end),
        "shift": arcs[path, here] - arcs[other, there],
        "shared": shared,
        "priority": priority,
    }


def crossing_zones(vehicle: int, at: float, walker: int, walked: float) -> Zone:
    """The two zones where a pedestrian's path crosses a lane squarely, `at` and `walked` m along each."""
    half_lane, half_walk = 1.7, 1.8
    return Zone(
        path=np.array([vehicle, walker]),
        other=np.array([walker, vehicle]),
        start=np.array([at - half_walk, walked - half_lane]),
        end=np.array([at + half_walk, walked + half_lane]),
        other_start=np.array([walked - half_lane, at - half_walk]),
        other_end=np.array([walked + half_lane, at + half_walk]),
        shift=np.array([at - walked, walked - at]),
        shared=np.zeros(2, bool),
        priority=np.array([1, -1]),
    )


def join_zones(zones: Sequence[Zone]) -> Zone:
    """All zones in one; an empty sequence gives none."""
    empty = Zone(
        *(np.zeros(0, kind) for kind in (int, int, float, float, float, float, float, bool, int)),
    )
    names = vars(empty)
    return Zone(**{name: np.concatenate([getattr(z, name) for z in (empty, *zones)]) for name in names})


def _sampled_arcs(path: Path) -> Array:
    length = arc_lengths(path.points)[-1]
    if path.pedestrian:
        return np.linspace(0.0, length, SAMPLES)
    return np.linspace(max(path.entry - BEFORE, 0.0), min(path.exit + AFTER, length), SAMPLES)
