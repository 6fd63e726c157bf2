"""Mends the tracks of a raw scenario: what logs get wrong about road users, and how it is put right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from perlsim.errors import FormatError
from perlsim.geometry.polylines import wrap
from perlsim.scenario import Array, Ego, Scenario, Tracks
from perlsim.vocabulary import DEFAULT_SIZE, AgentType

MAX_SPEED = 100.0  # m/s between consecutive valid steps; beyond it a step is taken for an error [S]
MAX_SPREAD = 1e7  # m; positions further apart are not of one scene
MAX_SIZE = (60.0, 10.0, 15.0)  # m, larger boxes are reported, not changed (road trains reach 53 m)
_ABSURD_SIZE = 1000.0  # m, from which on a size is no size: filled by class


class Notes:
    """Collects what was mended and states it in a bounded number of sentences."""

    def __init__(self):
        self._counts: dict[str, int] = defaultdict(int)
        self._names: dict[str, list[str]] = defaultdict(list)

    def add(self, what: str, count: int | np.integer, name: str = "") -> None:
        """Notes ``count`` cases of ``what`` ("steps with … were masked"), of the thing called ``name``."""
        if count:
            self._counts[what] += int(count)
            if name:
                self._names[what].append(name)

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each kind of repair."""
        return tuple(f"{count} {what}{self._of(what)}" for what, count in self._counts.items())

    def _of(self, what: str) -> str:
        names = self._names[what]
        if not names:
            return ""
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f" ({', '.join(names[:3])}{more})"


def mend_tracks(raw: Scenario, notes: Notes) -> tuple[Tracks, Ego, set[str]]:
    """Tracks in float64 and still in the world frame, free of everything that `Scenario.validate` refuses.

    Returns:
        Tracks, the ego with its index among them, and the names of what the format lacks.

    Raises:
        FormatError: where the named ego is never valid, or positions lie more than 10,000 km apart.
    """
    tracks = _typed(raw.tracks)
    tracks = replace(tracks, valid=_finite_steps(tracks, notes))
    _check_spread(raw, tracks)
    tracks = replace(tracks, heading=_mended_headings(tracks, notes))
    tracks = replace(tracks, valid=_without_jumps(tracks, raw.dt, notes))
    tracks, ego = _without_absent(raw, tracks, notes)
    tracks = replace(tracks, kind=_known_kinds(tracks, notes), ids=unique_ids(tracks.ids, "agents", notes))
    size, no_sizes = _sizes(tracks, notes)
    velocity, no_velocity = _velocities(tracks, raw.dt, notes)
    tracks = replace(tracks, size=size, velocity=velocity)
    gaps = {name for name, lacking in (("box_sizes", no_sizes), ("velocity", no_velocity)) if lacking}
    if ego.idx >= 0:
        wheelbase = ego.wheelbase if _plausible(ego.wheelbase, 20.0) else 0.6 * float(size[ego.idx, 0])
        offset = ego.rear_axle_to_centre
        ego = Ego(ego.idx, wheelbase, offset if np.isfinite(offset) and abs(offset) < 20 else wheelbase / 2)
    valid = tracks.valid
    tracks = replace(
        tracks,
        position=np.where(valid[..., None], tracks.position, 0.0),
        heading=np.where(valid, wrap(np.where(valid, tracks.heading, 0.0)), 0.0),
        velocity=np.where(valid[..., None], tracks.velocity, 0.0),
    )
    return tracks, ego, gaps


def unique_ids(ids: tuple[str, ...], things: str, notes: Notes) -> tuple[str, ...]:
    """The ids with ``#2``, ``#3`` … added to repeats."""
    seen: dict[str, int] = {}
    taken, result = set(ids), []
    for name in ids:
        seen[name] = seen.get(name, 0) + 1
        new = name
        if seen[name] > 1:
            new = f"{name}#{seen[name]}"
            while new in taken:
                seen[name] += 1
                new = f"{name}#{seen[name]}"
            taken.add(new)
            notes.add(f"{things} had an id that was taken and were given a new one", 1, name)
        result.append(new)
    return tuple(result)


def _plausible(value: float, most: float) -> bool:
    return bool(np.isfinite(value)) and 0 < value < most


def _typed(tracks: Tracks) -> Tracks:
    return Tracks(
        position=np.array(tracks.position, np.float64),
        heading=np.array(tracks.heading, np.float64),
        velocity=np.array(tracks.velocity, np.float64),
        size=np.array(tracks.size, np.float64),
        kind=np.array(tracks.kind, np.int64),
        valid=np.array(tracks.valid, bool),
        ids=tuple(str(name) for name in tracks.ids),
    )


def _finite_steps(tracks: Tracks, notes: Notes) -> Array:
    finite = np.all(np.isfinite(tracks.position), axis=-1)
    for agent in np.flatnonzero((tracks.valid & ~finite).any(1)):
        count = np.count_nonzero(tracks.valid[agent] & ~finite[agent])
        notes.add("steps had positions that are not finite: masked", count, f"agent {tracks.ids[agent]}")
    return tracks.valid & finite


def _check_spread(raw: Scenario, tracks: Tracks) -> None:
    seen = tracks.position[tracks.valid]
    if len(seen) and (seen.max(0) - seen.min(0)).max() > MAX_SPREAD:
        raise FormatError(
            f"scenario {raw.scenario_id}: positions lie more than {MAX_SPREAD:.0e} m apart",
            file=raw.source_file,
            field="tracks.position",
            remedy="the file is damaged or its units are not metres",
        )


def _mended_headings(tracks: Tracks, notes: Notes) -> Array:
    """Headings with gaps filled from the nearest step that has one, else from the motion, else 0."""
    heading = tracks.heading.copy()
    good = np.less(np.abs(heading), 1e4)  # NaN and infinity are not
    for agent in np.flatnonzero((tracks.valid & ~good).any(1)):
        lacking = np.flatnonzero((tracks.valid & ~good)[agent])
        known = np.flatnonzero((tracks.valid & good)[agent])
        if len(known):
            nearest = known[np.abs(lacking[:, None] - known).argmin(1)]
            heading[agent, lacking] = heading[agent, nearest]
        else:
            path = tracks.position[agent, tracks.valid[agent], :2]
            moved = path[-1] - path[0]
            heading[agent, lacking] = np.arctan2(moved[1], moved[0]) if np.hypot(*moved) > 1.0 else 0.0
        notes.add(
            "steps had no usable heading: taken from other steps", len(lacking), f"agent {tracks.ids[agent]}"
        )
    return heading


def _without_jumps(tracks: Tracks, dt: float, notes: Notes) -> Array:
    """Masks steps that could only be reached at more than 100 m/s, as few as possible."""
    valid = tracks.valid.copy()
    for agent in range(tracks.num_agents):
        steps = np.flatnonzero(valid[agent])
        points = tracks.position[agent, steps, :2]
        moved = np.linalg.norm(np.diff(points, axis=0), axis=1)
        jumps = np.flatnonzero(moved > MAX_SPEED * dt * np.diff(steps))
        if not len(jumps):
            continue
        starts, ends = np.append(0, jumps + 1), np.append(jumps + 1, len(steps))
        kept = np.zeros(len(steps), bool)
        for piece in _longest_chain(starts, ends, steps, points, dt):
            kept[starts[piece] : ends[piece]] = True
        valid[agent, steps[~kept]] = False
        what = f"steps could only be reached at more than {MAX_SPEED:.0f} m/s: masked"
        notes.add(what, np.count_nonzero(~kept), f"agent {tracks.ids[agent]}")
    return valid


def _longest_chain(starts: Array, ends: Array, steps: Array, points: Array, dt: float) -> list[int]:
    """Pieces of a track, each reachable from the one before, that keep the most steps."""
    best, came = (ends - starts).astype(float), np.full(len(starts), -1)
    for i in range(1, len(starts)):
        reach = MAX_SPEED * dt * (steps[starts[i]] - steps[ends[:i] - 1])
        reachable = np.linalg.norm(points[ends[:i] - 1] - points[starts[i]], axis=1) <= reach
        if reachable.any():
            came[i] = int(np.argmax(np.where(reachable, best[:i], -1.0)))
            best[i] += best[came[i]]
    chain = [int(np.argmax(best))]
    while came[chain[-1]] >= 0:
        chain.append(int(came[chain[-1]]))
    return chain


def _without_absent(raw: Scenario, tracks: Tracks, notes: Notes) -> tuple[Tracks, Ego]:
    """Drops road users without a valid step and renumbers the ego."""
    present = np.any(tracks.valid, axis=1)
    ego = raw.ego
    if not -1 <= ego.idx < tracks.num_agents or (ego.idx >= 0 and not present[ego.idx]):
        name = tracks.ids[ego.idx] if 0 <= ego.idx < tracks.num_agents else str(ego.idx)
        raise FormatError(
            f"scenario {raw.scenario_id}: the ego ({name}) has no valid step",
            file=raw.source_file,
            field="ego",
            remedy="leave this scenario out, or name another ego",
        )
    if present.all():
        return tracks, ego
    notes.add("agents were never valid: dropped", np.count_nonzero(~present))
    rows = np.flatnonzero(present)
    if ego.idx >= 0:
        ego = replace(ego, idx=int(np.searchsorted(rows, ego.idx)))
    arrays = {name: getattr(tracks, name)[rows] for name in ("position", "heading", "velocity", "size")}
    return Tracks(
        **arrays, kind=tracks.kind[rows], valid=tracks.valid[rows], ids=tuple(tracks.ids[i] for i in rows)
    ), ego


def _known_kinds(tracks: Tracks, notes: Notes) -> Array:
    known = np.isin(tracks.kind, [int(kind) for kind in AgentType])
    notes.add("agents were of an unknown kind: kept as UNKNOWN", np.count_nonzero(~known))
    return np.where(known, tracks.kind, AgentType.UNKNOWN).astype(np.int8)


def _sizes(tracks: Tracks, notes: Notes) -> tuple[Array, bool]:
    """Sizes with gaps filled by class, and whether the format has none."""
    defaults = np.array([DEFAULT_SIZE[AgentType(kind)] for kind in tracks.kind]).reshape(-1, 3)
    lacking = ~((tracks.size > 0) & (tracks.size < _ABSURD_SIZE))  # NaN is lacking too
    absent = bool(len(lacking)) and bool(lacking.all())
    if not absent:
        notes.add("agents lacked a size: filled by class", np.count_nonzero(lacking.any(1)))
    size = np.where(lacking, defaults, tracks.size)
    for agent in np.flatnonzero((size > MAX_SIZE).any(1)):
        notes.add("agents have an implausible size: kept as logged", 1, f"agent {tracks.ids[agent]}")
    return size, absent


def _velocities(tracks: Tracks, dt: float, notes: Notes) -> tuple[Array, bool]:
    """Velocities with gaps filled by differences, and whether the format has none."""
    velocity = tracks.velocity.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        speed = np.linalg.norm(velocity, axis=-1)
    lacking = tracks.valid & ~(speed <= 1.5 * MAX_SPEED)  # NaN is lacking too
    absent = bool(tracks.valid.any()) and bool((lacking | ~tracks.valid).all())
    if not absent:
        notes.add("steps lacked a plausible velocity: taken from positions", np.count_nonzero(lacking))
    for agent in np.flatnonzero(lacking.any(1)):
        own = differences(tracks.position[agent, :, :2], tracks.valid[agent], dt)
        velocity[agent, lacking[agent]] = own[lacking[agent]]
    return velocity, absent


def differences(position: Array, valid: Array, dt: float) -> Array:
    """Velocity ``[T, 2]`` m/s by central differences over valid runs, one-sided at ends, 0 if alone."""
    velocity = np.zeros_like(position)
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], valid.astype(np.int8), [0]])))
    for start, end in bounds.reshape(-1, 2):
        if end - start > 1:
            velocity[start:end] = np.gradient(position[start:end], dt, axis=0)
    return velocity
