"""Ways through a town: which lanes lead from one waypoint of a route to the next.

The search is that of CARLA's route planner, because route files are made with it: A* over lane sections with
the straight distance as its estimate, lane changes for nothing wherever the markings let them, so that of
equally long ways the one is found that changes towards its goal early.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import numpy as np

from perlsim.geometry import polylines
from perlsim.scenario import Array, Lanes, Ragged
from perlsim.worlds.opendrive.sections import TRAFFIC

HEIGHT = 5.0  # m, lanes farther above or below are of another level; some files round z to metres
CHANGE_LENGTH = 5.0  # m along the lanes that a lane change takes, as in CARLA's planner
AMBIGUOUS = 0.25  # m, lanes that differ less in their distance from a waypoint may both be meant
BACKWARD = 1.0  # m that a waypoint may lie behind the one before it, on the same lane: files are rounded
MIN_TURN = 0.05  # rad, of a lane whose distance from the reference line can be told from its length
MAX_ASIDE = 40.0  # m, more than any lane lies off its reference line
_MAX_VISITS = 20_000


@dataclass(frozen=True)
class Place:
    """A place on a lane: its index, arc length [m] on it, and how far [m] the waypoint lies from it."""

    lane: int
    arc: float
    distance: float = 0.0


@dataclass(frozen=True)
class Stretch:
    """A part of one lane, between two arc lengths [m], and how it is left.

    Attributes:
        lane: index.
        begin, end: m along the lane.
        change: +1 or −1 where the way goes on with a lane change to the left or right, else 0.
    """

    lane: int
    begin: float
    end: float
    change: int = 0


def _lengths(lines: Ragged) -> Array:
    """Lengths of lines in plan, m."""
    steps = np.append(np.hypot(*np.diff(lines.values[:, :2].astype(np.float64), axis=0).T), 0.0)
    steps[lines.offsets[1:] - 1] = 0.0  # from the end of a line to the next one
    return np.add.reduceat(steps, lines.offsets[:-1]) if len(lines) else np.zeros(0)


class TownGraph:
    """The traffic lanes of a town, for finding ways.

    Args:
        lanes: all lanes; indices everywhere are theirs.
        stations: ``[P]`` m of the road's reference line beside each lane, on which CARLA's planner counts its
            metres; None takes the lanes' own lengths, which differ in bends.
    """

    def __init__(self, lanes: Lanes, stations: Array | None = None):
        self.lanes = lanes
        self.lines = [row.astype(np.float64) for row in lanes.centre.rows()]
        self.length = _lengths(lanes.centre)
        # CARLA counts the metre marks inside a lane and one more; a lane up to a metre long has one inside.
        self.stations = self.length if stations is None else stations
        self._cost = np.where(self.stations > 1.0, np.ceil(self.stations - 1e-6) - 1.0, 2.0)
        self.is_traffic = np.isin(lanes.kind, [int(kind) for kind in TRAFFIC])
        # CARLA rounds the ends of lanes to metres, which decides between ways of the same length.
        self._start = np.round(np.array([line[0] for line in self.lines]).reshape(-1, 3))
        # Of traffic lanes alone: least x and y, greatest x and y.
        self._traffic_idx = np.flatnonzero(self.is_traffic)
        self._bounds = np.ascontiguousarray(lanes.centre.bounds[self._traffic_idx].T.astype(np.float64))
        self.successors = [self._traffic(row) for row in lanes.successors.rows()]
        self.left = [self._traffic(row) for row in lanes.left.rows()]
        self.right = [self._traffic(row) for row in lanes.right.rows()]

    def _traffic(self, row: Array) -> list[int]:
        return [lane for lane in row.tolist() if self.is_traffic[lane]]

    def places(self, point: Array, reach: float) -> list[Place]:
        """The traffic lane nearest to a point ``[3]`` and those as near, within ``reach`` m, nearest first."""
        (x, y), (x_low, y_low, x_high, y_high) = point[:2], self._bounds
        near = (x_low <= x + reach) & (x - reach <= x_high) & (y_low <= y + reach) & (y - reach <= y_high)
        found = []
        for lane in self._traffic_idx[near].tolist():
            hit = polylines.project(self.lines[lane], point[None])
            arc, distance = float(hit.arc[0]), float(hit.distance[0])
            height = polylines.interpolate(self.lines[lane], hit.arc)[0, 2] - point[2]
            if distance <= reach and abs(height) <= HEIGHT:
                found.append(Place(lane, arc, distance))
        found.sort(key=lambda place: place.distance)
        return [place for place in found if place.distance <= found[0].distance + AMBIGUOUS]

    def marks(self, lane: int) -> Array:
        """Arc lengths [m] of the metre marks that CARLA's planner sets on a lane, from 0 to its end.

        CARLA counts metres s of the road's reference line. A lane at a constant distance t to its left is
        longer or shorter by dl = ds − t·dθ where the road turns by dθ; t follows from both lengths.
        """
        line, length, stations = self.lines[lane], self.length[lane], self.stations[lane]
        arcs = polylines.arc_lengths(line)
        steps = polylines.headings(line)[:-1]
        bends = np.append(0.0, np.cumsum(polylines.wrap(np.diff(steps, prepend=steps[0], append=steps[-1]))))
        turned = 0.5 * (bends[1:] + bends[:-1]) if len(line) > 2 else np.zeros(len(line))
        total = turned[-1]
        aside = (stations - length) / total if abs(total) > MIN_TURN else np.inf
        at = arcs + aside * turned if abs(aside) < MAX_ASIDE else arcs * (stations / length)
        at = np.maximum.accumulate(at)
        return np.interp(np.append(np.arange(0.0, stations, 1.0), stations), at * (stations / at[-1]), arcs)

    def arc_beside(self, lane: int, arc: float, other: int) -> float:
        """Arc length [m] on ``other`` beside a place on ``lane``."""
        at = polylines.interpolate(self.lines[lane], np.array([arc]))
        return float(polylines.project(self.lines[other], at).arc[0])

    def way(self, start: Place, goal: Place) -> list[Stretch] | None:
        """The way from one place to another; None where there is none."""
        if start.lane == goal.lane and goal.arc >= start.arc - BACKWARD:
            return [Stretch(start.lane, start.arc, max(goal.arc, start.arc))]
        lanes = self._search(start.lane, goal.lane)
        return None if lanes is None else self._stretches(lanes, start, goal)

    def _search(self, start: int, goal: int) -> list[tuple[int, int]] | None:
        """Lanes from ``start`` to ``goal``, each with how it is left (0 at its end, ±1 by a change)."""
        aim, order = self._start[goal], itertools.count()
        queue = [(0.0, next(order), start, 0.0)]
        came: dict[int, tuple[int, int]] = {}
        best: dict[int, float] = {}
        done: set[int] = set()
        while queue and len(done) < _MAX_VISITS:
            _, _, lane, cost = heapq.heappop(queue)
            if lane == goal and lane in came:
                return self._traced(came, start, goal)
            if lane in done:
                continue
            done.add(lane)
            ahead = cost + self._cost[lane]
            options = [(following, ahead, 0) for following in self.successors[lane]]
            if not self.lanes.in_junction[lane]:
                options += [(other, cost, -1) for other in self.right[lane]]
                options += [(other, cost, 1) for other in self.left[lane]]
            for other, reached, change in options:
                # Back to where it starts the way leads round a block, not from lane to lane.
                is_open = other not in done or (other == goal and reached > 0)
                if is_open and reached < best.get(other, np.inf):
                    best[other], came[other] = reached, (lane, change)
                    rest = float(np.linalg.norm(self._start[other] - aim))
                    heapq.heappush(queue, (reached + rest, next(order), other, reached))
        return None

    @staticmethod
    def _traced(came: dict[int, tuple[int, int]], start: int, goal: int) -> list[tuple[int, int]]:
        lane, change = came[goal]
        way = [(goal, 0), (lane, change)]
        while lane != start:
            lane, change = came[lane]
            way.append((lane, change))
        return way[::-1]

    def _stretches(self, lanes: list[tuple[int, int]], start: Place, goal: Place) -> list[Stretch] | None:
        way, arc = [], start.arc
        for idx, (lane, change) in enumerate(lanes):
            if idx == len(lanes) - 1:
                if goal.arc < arc - BACKWARD:
                    return None
                way.append(Stretch(lane, min(arc, goal.arc), goal.arc))
                break
            if not change:
                way.append(Stretch(lane, arc, float(self.length[lane])))
                arc = 0.0
                continue
            way.append(Stretch(lane, arc, arc, change))
            other, is_last = lanes[idx + 1][0], idx == len(lanes) - 2
            beside = self.arc_beside(lane, arc, other)
            arc = min(beside + CHANGE_LENGTH, float(self.length[other]))
            # A goal within the change ends it.
            arc = max(beside, min(arc, goal.arc)) if is_last else arc
        return way
