"""Movements through junctions, and which of them conflict."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import shapely

from perlsim.scenario import Array, Lanes, Ragged

LEVELS = 3.0  # m, ways that far apart in height pass over each other
OPPOSITE = np.deg2rad(135.0)  # least angle between approaches that face each other


class Movements:
    """The ways that lead on from lanes through a junction.

    Args:
        lanes: the lanes of a map.
        junctions: id of the junction of each lane, "" outside.
    """

    def __init__(self, lanes: Lanes, junctions: tuple[str, ...]):
        self._lanes = lanes
        self._junctions = junctions
        self._known: dict[int, tuple[int, ...]] = {}
        self._pairs: dict[tuple[int, int], bool] = {}

    def through(self, lane: int) -> tuple[int, ...]:
        """The lanes of the junction that traffic passes from ``lane`` on, in it or just before it."""
        if lane not in self._known:
            successors = self._lanes.successors
            ahead = [lane] if self._junctions[lane] else successors[lane].tolist()
            ahead = [other for other in ahead if self._junctions[other]]
            found = dict.fromkeys(ahead)
            while ahead:
                here = ahead.pop()
                for other in successors[here].tolist():
                    if self._junctions[other] == self._junctions[here] and other not in found:
                        found[other] = None
                        ahead.append(other)
            self._known[lane] = tuple(found)
        return self._known[lane]

    def junction_of(self, lanes: list[int]) -> str:
        """Id of the junction that the first of the lanes leads through; "" where none does."""
        return next((self._junctions[way] for lane in lanes for way in self.through(lane)), "")

    def conflict(self, first: int, second: int) -> bool:
        """Whether the ways on from two lanes cross or join.

        Ways out of one and the same lane part, and do not conflict.
        """
        return any(self._meet(a, b) for a in self.through(first) for b in self.through(second))

    def are_opposite(self, first: int, second: int) -> bool:
        """Whether traffic enters the two lanes in opposite directions, so that one who turns left gives way."""
        turn = self._entry_heading(first) - self._entry_heading(second)
        return abs((turn + np.pi) % (2 * np.pi) - np.pi) > OPPOSITE

    def _entry_heading(self, lane: int) -> float:
        way = (self.through(lane) or (lane,))[0]
        step = self._lanes.centre[way][1] - self._lanes.centre[way][0]
        return float(np.arctan2(step[1], step[0]))

    def _meet(self, a: int, b: int) -> bool:
        pair = (a, b) if a < b else (b, a)
        if pair not in self._pairs:
            self._pairs[pair] = self._work_out(*pair)
        return self._pairs[pair]

    def _work_out(self, a: int, b: int) -> bool:
        if a == b or set(self._predecessors[a].tolist()) & set(self._predecessors[b].tolist()):
            return False
        first, second = self._lanes.centre[a], self._lanes.centre[b]
        if abs(first[:, 2].mean() - second[:, 2].mean()) > LEVELS:
            return False
        if set(self._lanes.successors[a].tolist()) & set(self._lanes.successors[b].tolist()):
            return True
        return bool(shapely.LineString(first[:, :2]).crosses(shapely.LineString(second[:, :2])))

    @cached_property
    def _predecessors(self) -> Ragged:
        following = self._lanes.successors
        owner: Array = np.repeat(np.arange(len(following), dtype=np.int32), np.diff(following.offsets))
        order = np.argsort(following.values, kind="stable")
        counts = np.bincount(following.values, minlength=len(following))
        return Ragged(owner[order], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
