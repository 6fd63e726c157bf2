"""Finds the same scene arriving through two formats, although ids, map origin, orientation and length differ.

At every logged instant each pair of a moving road user and a neighbour gives a *shingle*: their distance now
and one second later, and how far each moves in that second, rounded to `GRID`. These numbers do not change
under rotation, translation or renaming, do not depend on where the window of the recording starts, and hardly
on which other agents a format kept. The `SKETCH` smallest hashes of a scene's shingles are its fingerprint,
a bottom-k sketch (Broder 1997) from which the overlap of two scenes is estimated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from perlsim.scenario import Scenario
from perlsim.vocabulary import AgentType

SKETCH = 64  # hashes kept of a scene
INDEXED = 16  # hashes of a scene under which it can be found
GRID = 0.15  # m; wide against the centimetres by which formats differ
PAIR_RANGE = 30.0  # m between the two of a pair
MOVING = 1.0  # m in the second
MIN_SHARED = 4  # fewer shared hashes are chance; scenes with fewer (nothing moves) are never compared
SAME_SHARE = 0.4  # shared fraction of the shorter scene from which on it is the same; noise of 2 cm halves it
NAMED_APART_SHARE = 0.9  # the same between two scenes to which one data set gives different names
SAME_EGO_SHARE = 0.3
LINK_SHARE = 0.1
_BLOCK = 2**19  # pairs looked at in one go, for the cache
LONGER = 1.25  # a scene this much longer than its match is kept: it holds more


@dataclass(frozen=True)
class Fingerprint:
    """Sketch of a scene.

    Attributes:
        hashes: uint64 ``[<= SKETCH]``, sorted.
        ego_hashes: uint64 ``[<= SKETCH]``, sorted, of the ego's pairs; empty without a driven ego.
        duration: s.
    """

    hashes: np.ndarray
    ego_hashes: np.ndarray
    duration: float

    def packed(self) -> np.ndarray:
        """One array for the store: number of hashes, hashes, hashes of the ego."""
        return np.concatenate([np.array([len(self.hashes)], np.uint64), self.hashes, self.ego_hashes])

    @classmethod
    def empty(cls, duration: float) -> Fingerprint:
        """A fingerprint that is like no other, not even itself."""
        return cls(np.zeros(0, np.uint64), np.zeros(0, np.uint64), duration)

    @classmethod
    def unpack(cls, packed: np.ndarray, duration: float) -> Fingerprint:
        """Inverse of `packed`."""
        count = int(packed[0]) + 1
        return cls(packed[1:count], packed[count:], duration)

    def digest(self) -> str:
        """Short text for manifests and reports."""
        return hashlib.sha256(self.packed().tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Match:
    """A scene in the index that shares instants with a new one.

    Attributes:
        row: its number in the index.
        share: shared fraction of the shorter of the two.
        share_of_longer: the same of the longer: near 1 only where both show the same.
        adds_nothing: whether all the new scene shows is in that one too.
        same_ego: whether the egos are the same road user, None where one of the logs has no driven ego.
    """

    row: int
    share: float
    share_of_longer: float
    adds_nothing: bool
    same_ego: bool | None


def fingerprint_of(scenario: Scenario) -> Fingerprint:
    """The fingerprint of a scenario."""
    tracks = scenario.tracks
    lag = max(round(1.0 / scenario.dt), 1)
    keep = tracks.valid.any(1) & (tracks.kind != AgentType.STATIC)
    is_ego = np.arange(tracks.num_agents) == scenario.ego.idx
    xy = tracks.position[keep, :, :2].astype(np.float64)
    valid = tracks.valid[keep]
    ego_pairs = _pair_shingles(xy, valid, lag, 0.0, firsts=is_ego[keep])
    pairs = _pair_shingles(xy, valid, lag, MOVING)
    if not len(pairs):
        pairs = _own_shingles(xy, valid, lag)
    if not len(pairs):  # one step, or shorter than a second
        pairs = _pair_shingles(xy, valid, 0, 0.0)
    return Fingerprint(_smallest(pairs), _smallest(ego_pairs), scenario.duration)


class DuplicateIndex:
    """Finds, among the scenes added so far, those that share instants with a new one."""

    def __init__(self):
        self._fingerprints: list[Fingerprint] = []
        self._rows: dict[int, list[int]] = {}

    def add(self, fingerprint: Fingerprint) -> int:
        """Adds a scene and returns its row."""
        row = len(self._fingerprints)
        self._fingerprints.append(fingerprint)
        for value in fingerprint.hashes[:INDEXED].tolist():
            self._rows.setdefault(value, []).append(row)
        return row

    def matches(self, fingerprint: Fingerprint) -> list[Match]:
        """The scenes that share instants, most similar first."""
        rows = {row for value in fingerprint.hashes.tolist() for row in self._rows.get(value, ())}
        found = [match for row in sorted(rows) if (match := self._compare(row, fingerprint))]
        return sorted(found, key=lambda match: (not match.adds_nothing, -match.share, match.row))

    def _compare(self, row: int, new: Fingerprint) -> Match | None:
        old = self._fingerprints[row]
        common, new_count, old_count = _overlap(new.hashes, old.hashes)
        share = common / max(min(new_count, old_count), 1)
        if common < MIN_SHARED or share < LINK_SHARE:
            return None
        same = share >= SAME_SHARE and new.duration <= LONGER * max(old.duration, 1.0)
        share_of_longer = common / max(new_count, old_count)
        return Match(row, share, share_of_longer, same, _same_ego(new.ego_hashes, old.ego_hashes))


def _same_ego(new: np.ndarray, old: np.ndarray) -> bool | None:
    if not len(new) or not len(old):
        return None
    common, new_count, old_count = _overlap(new, old)
    comparable = min(new_count, old_count)
    return common >= SAME_EGO_SHARE * comparable if comparable >= MIN_SHARED else None


def _overlap(first: np.ndarray, second: np.ndarray) -> tuple[int, int, int]:
    """Shared hashes, and the size of each sketch, below the smaller of the two largest hashes."""
    limit = min(first[-1], second[-1]) if len(first) and len(second) else np.uint64(0)
    first, second = first[first <= limit], second[second <= limit]
    return len(np.intersect1d(first, second, assume_unique=True)), len(first), len(second)


def _pair_shingles(
    xy: np.ndarray, valid: np.ndarray, lag: int, moving: float, firsts: np.ndarray | None = None
) -> np.ndarray:
    """Shingles of the pairs whose first moves ``moving`` m or more and, where given, is one of ``firsts``."""
    num_agents, num_steps = valid.shape
    if num_steps <= lag:
        return np.zeros(0, np.uint64)
    both = (valid[:, : num_steps - lag] & valid[:, lag:]).T  # [T, A]
    now, later = xy[:, : num_steps - lag].swapaxes(0, 1), xy[:, lag:].swapaxes(0, 1)
    moved = _length(later - now)
    is_first = both & (moved >= moving) & (True if firsts is None else firsts)
    all_steps, all_firsts = np.nonzero(is_first)
    found = []
    block = max(_BLOCK // max(num_agents, 1), 1)
    for start in range(0, len(all_steps), block):
        step, first = all_steps[start : start + block], all_firsts[start : start + block]
        distance = _length(now[step, first, None] - now[step])
        near = both[step] & (distance < PAIR_RANGE)
        near[np.arange(len(first)), first] = False
        row, second = np.nonzero(near)
        step, first = step[row], first[row]
        distance_later = _length(later[step, first] - later[step, second])
        found.append(_hash(distance[row, second], distance_later, moved[step, first], moved[step, second]))
    return _concatenate(found)


def _own_shingles(xy: np.ndarray, valid: np.ndarray, lag: int) -> np.ndarray:
    """Shingles of single road users: how far each moves in each of two seconds, and in both."""
    num_steps = valid.shape[1] - 2 * lag
    if num_steps <= 0:
        return np.zeros(0, np.uint64)
    windows = [slice(k * lag, k * lag + num_steps) for k in range(3)]
    known = np.logical_and.reduce([valid[:, window] for window in windows])
    first, second, third = (xy[:, window][known] for window in windows)
    return _hash(_length(second - first), _length(third - second), _length(third - first))


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(vectors[..., 0] ** 2 + vectors[..., 1] ** 2)


def _hash(*lengths: np.ndarray) -> np.ndarray:
    code = np.zeros(len(lengths[0]), np.uint64)
    for length in lengths:
        code = _mix(code * np.uint64(0x9E3779B97F4A7C15) + np.round(length / GRID).astype(np.uint64))
    return code


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def _smallest(hashes: np.ndarray) -> np.ndarray:
    return np.unique(hashes)[:SKETCH]


def _concatenate(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.uint64), *parts])
