"""Where in a town a scenario could happen: movements through junctions and stretches of open road."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.vocabulary import LaneType
from perlsim.worlds.opendrive import OpenDriveMap, SignalKind
from perlsim.worlds.routes.dense import RoadOption, turn_of
from perlsim.worlds.routes.graph import TownGraph

BESIDE = 1.0  # m, by which the gap between two lanes' centres may differ from half of both widths
_MAX_PATH = 8  # lanes of a junction passed in a row
NO_LANE = -1


@dataclass(frozen=True)
class Movement:
    """A way through a junction.

    Attributes:
        junction: its id.
        approach, exit: lanes before and behind it.
        path: lanes of the junction, in order.
        turn: LEFT, RIGHT or STRAIGHT.
        lit, stops: whether a light or a stop sign governs it.
    """

    junction: str
    approach: int
    path: tuple[int, ...]
    exit: int
    turn: RoadOption
    lit: bool
    stops: bool


def _medians(values: Array, offsets: Array) -> Array:
    """Median of each row of ``values``, no row empty; row ``i`` lies between ``offsets[i]`` and the next."""
    count = np.diff(offsets)
    ordered = values[np.lexsort((values, np.repeat(np.arange(len(count)), count)))]
    return 0.5 * (ordered[offsets[:-1] + (count - 1) // 2] + ordered[offsets[:-1] + count // 2])


class Sites:
    """The places of a town.

    Args:
        town: its map.
        graph: of the same lanes.
    """

    def __init__(self, town: OpenDriveMap, graph: TownGraph):
        self.town, self.graph = town, graph
        self.lanes = town.road.lanes
        self.is_open = graph.is_traffic & ~self.lanes.in_junction
        self.before: dict[int, list[int]] = defaultdict(list)
        for lane in np.flatnonzero(graph.is_traffic).tolist():
            for following in graph.successors[lane]:
                self.before[following].append(lane)
        self._width = _medians(self.lanes.width, self.lanes.centre.offsets)
        self._idx = {name: idx for idx, name in enumerate(self.lanes.ids)}
        self.left = np.full(len(self.lanes), NO_LANE)
        self.right = np.full(len(self.lanes), NO_LANE)
        for lane in np.flatnonzero(self.is_open).tolist():
            self._find_beside(lane)
        self.movements = self._movements()
        self.at_junction: dict[str, list[Movement]] = defaultdict(list)
        for movement in self.movements:
            self.at_junction[movement.junction].append(movement)

    def _find_beside(self, lane: int) -> None:
        """The lanes of any kind and direction that touch a lane, by the numbers of its section."""
        road, section, name = self.lanes.ids[lane].split(".")
        own = int(name.rstrip("r"))
        line = self.graph.lines[lane]
        middle = 0.5 * (line[0] + line[-1]) if len(line) == 2 else line[len(line) // 2]
        ahead = polylines.headings(line)[len(line) // 2 if len(line) > 2 else 0]
        for other_name in _next_to(own):
            other = self._idx.get(f"{road}.{section}.{other_name}", NO_LANE)
            if other == NO_LANE:
                continue
            hit = polylines.project(self.graph.lines[other], middle[None])
            at = polylines.interpolate(self.graph.lines[other], hit.arc)[0]
            width = 0.5 * (self._width[lane] + self._width[other])
            if abs(float(hit.distance[0]) - width) > BESIDE:
                continue
            is_left = np.cos(ahead) * (at[1] - middle[1]) - np.sin(ahead) * (at[0] - middle[0]) > 0
            (self.left if is_left else self.right)[lane] = other

    def same_way(self, lane: int, other: int) -> bool:
        """Whether ``other`` is a traffic lane in the direction of ``lane``."""
        return other != NO_LANE and bool(self.graph.is_traffic[other]) and self._cosine(lane, other) > 0

    def oncoming(self, lane: int, other: int) -> bool:
        """Whether ``other`` is a traffic lane against the direction of ``lane``."""
        return other != NO_LANE and bool(self.graph.is_traffic[other]) and self._cosine(lane, other) < 0

    def is_kind(self, lane: int, kind: LaneType) -> bool:
        """Whether there is such a lane and it is of that kind."""
        return lane != NO_LANE and self.lanes.kind[lane] == kind

    def _cosine(self, lane: int, other: int) -> float:
        one, two = self.graph.lines[lane], self.graph.lines[other]
        return float((one[-1] - one[0])[:2] @ (two[-1] - two[0])[:2])

    def _movements(self) -> list[Movement]:
        lit, stops = self._governed(SignalKind.LIGHT), self._governed(SignalKind.STOP)
        found = []
        for approach in np.flatnonzero(self.is_open).tolist():
            paths: list[tuple[int, ...]] = [
                (lane,) for lane in self.graph.successors[approach] if self.lanes.in_junction[lane]
            ]
            while paths:
                path = paths.pop()
                for following in self.graph.successors[path[-1]]:
                    if self.lanes.in_junction[following]:
                        if len(path) < _MAX_PATH and following not in path:
                            paths.append((*path, following))
                        continue
                    ruled = {approach, *path}
                    found.append(
                        Movement(
                            self.town.junctions[path[0]],
                            approach,
                            path,
                            following,
                            turn_of(self.graph, approach, path[0], path[-1]),
                            bool(ruled & lit),
                            bool(ruled & stops),
                        )
                    )
        return found

    def _governed(self, kind: SignalKind) -> set[int]:
        signals = self.town.signals
        rows = signals.kind[signals.lane_signal_idx] == kind if len(signals.lane_idx) else []
        return set(signals.lane_idx[rows].tolist())

    def ahead(self, lane: int, metres: float) -> list[int]:
        """Lanes outside junctions from ``lane`` on until they hold ``metres`` m or the road ends."""
        chain = [lane]
        while sum(self.graph.length[chain]) < metres:
            following = [other for other in self.graph.successors[chain[-1]] if self.is_open[other]]
            if len(self.graph.successors[chain[-1]]) != 1 or not following or following[0] in chain:
                break
            chain.append(following[0])
        return chain

    def behind(self, lane: int, metres: float) -> list[int]:
        """Lanes outside junctions that lead to ``lane``, itself last, until they hold ``metres`` m or begin."""
        chain = [lane]
        while sum(self.graph.length[chain]) < metres:
            leading = self.before[chain[0]]
            if len(leading) != 1 or not self.is_open[leading[0]] or leading[0] in chain:
                break
            chain.insert(0, leading[0])
        return chain

    def heading_in(self, movement: Movement) -> float:
        """Direction [rad] in which a movement enters its junction."""
        return float(polylines.headings(self.graph.lines[movement.approach])[-1])

    def line(self, lanes: list[int]) -> Array:
        """The centre line along lanes that follow each other, ``[n, 3]`` m."""
        points = np.concatenate([self.graph.lines[lane] for lane in lanes])
        return points[polylines.without_repeats(points)]


def _next_to(name: int) -> set[int]:
    """Numbers of the lanes beside a lane of an OpenDRIVE section, which has no lane 0."""
    return {name + way if name + way else name + 2 * way for way in (-1, 1)}
