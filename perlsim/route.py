"""The ego's route: its driven path matched to the lane graph and led on beyond its last pose.

Matching is a Viterbi search over the driven poses (one every 2 m). The states of a pose are the lanes within
3 m whose direction fits, and "off the graph"; staying on a lane or following successors is free, lane changes
and leaving the graph cost. Runs on lanes become lane centre lines, runs off the graph the driven path itself,
and a lane change is a straight line over up to 20 m. So the route stays within a lane's width of the logged
path. Where it would deviate by over 3 m or turn by over 0.3 rad within a metre (U-turns, short cuts), it is
the driven path itself, led on along the lane of the last pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.geometry import polylines
from perlsim.scenario import Array, Lanes, Route, Scenario
from perlsim.vocabulary import LaneType

SPACING = 1.0  # m between route points
AHEAD = 100.0  # m of route beyond the last driven pose
BEHIND = 5.0  # m of route before the first pose: the ego's own length lies on it
REACH = 3.0  # m, farthest that a pose may lie from the lane it is matched to
_POSE_STEP = 2.0  # m between matched poses
_PATH_STEP = 0.5  # m between points of the driven path
_MAX_KINK = 0.3  # rad within a metre: tighter than any car turns
_MAX_TURN = np.pi / 3  # rad, largest angle between ego and lane
_HEIGHT = 3.0  # m, lanes further above or below are of another level
_CANDIDATES = 8
_OFF = -1
# Costs in units of squared standard deviations (1 m across, 0.35 rad in direction), chosen so that a lane
# change or an exit needs more than one pose of evidence.
_OFF_COST, _LEAVE_COST, _CHANGE_COST, _JUMP_COST, _BACK_COST = 8.0, 6.0, 3.0, 9.0, 4.0


def build_route(scenario: Scenario) -> Route:
    """Builds the route of the scenario's ego.

    Args:
        scenario: in the scenario frame, tracks finite, ego valid at one step at least.

    Returns:
        Points every metre (the last interval may be shorter), from 5 m before the ego's first pose to at
        least 100 m beyond its last one; ``lane_idx`` is −1 where the route follows the driven path or a
        tangent. Empty where there is no ego.
    """
    if not scenario.has_ego:
        return Route(np.zeros((0, 3), np.float32), np.zeros(0, np.int32))
    path = _driven_poses(scenario, _PATH_STEP)
    driven = _led_on(path[:, :3].copy(), np.full(len(path), _OFF), path)
    if not len(scenario.road.lanes):
        return _uniform(*driven)
    poses = _driven_poses(scenario, _POSE_STEP)
    graph = LaneGraph(scenario.road.lanes)
    states = _match(graph, poses)
    for route in (_strung(graph, poses, states), _driven_then_lanes(graph, path, states[-1])):
        done = _uniform(*route)
        if _deviation(done.points, path) <= REACH and _sharpest(done.points) <= _MAX_KINK:
            return done
    return _uniform(*driven)


def _driven_poses(scenario: Scenario, step: float) -> Array:
    """Valid ego poses ``[n, 4]`` (x, y, z, heading) from the first on, forward only, ``step`` m apart."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    valid = tracks.valid[ego]
    poses = np.column_stack([tracks.position[ego], tracks.heading[ego]])[valid].astype(np.float64)
    kept = [0]
    for i, (x, y, _, heading) in enumerate(poses):
        dx, dy = x - poses[kept[-1], 0], y - poses[kept[-1], 1]
        # Poses beside or behind the last one (reversing, noise at rest) would make the route turn back.
        if np.hypot(dx, dy) >= step and dx * np.cos(heading) + dy * np.sin(heading) > 0.5 * step:
            kept.append(i)
    return poses[kept]


@dataclass(frozen=True)
class _Candidate:
    """A lane under a pose: index, arc length [m] on it, emission cost."""

    lane: int
    arc: float
    cost: float


class LaneGraph:
    """Lane centre lines with what the search asks of them."""

    def __init__(self, lanes: Lanes):
        self.lines = [row.astype(np.float64) for row in lanes.centre.rows()]
        self.arcs = [polylines.arc_lengths(line) for line in self.lines]
        self.kind = lanes.kind
        self.successors = [row.tolist() for row in lanes.successors.rows()]
        sides = zip(lanes.left.rows(), lanes.right.rows(), strict=True)
        self.beside = [set(a.tolist()) | set(b.tolist()) for a, b in sides]
        self.low = np.array([line[:, :2].min(0) for line in self.lines])
        self.high = np.array([line[:, :2].max(0) for line in self.lines])
        self._ahead: dict[int, dict[int, tuple[float, tuple[int, ...]]]] = {}

    def length(self, lane: int) -> float:
        """Length of a lane [m]."""
        return float(self.arcs[lane][-1])

    def ahead(self, lane: int) -> dict[int, tuple[float, tuple[int, ...]]]:
        """Lanes reached from the end of ``lane`` within 50 m: metres between, and lanes passed on the way."""
        if lane not in self._ahead:
            found: dict[int, tuple[float, tuple[int, ...]]] = {}
            queue: list[tuple[int, float, tuple[int, ...]]] = [(lane, 0.0, ())]
            while queue:
                last, gone, passed = queue.pop(0)
                for following in self.successors[last]:
                    if following in found and found[following][0] <= gone:
                        continue
                    found[following] = (gone, passed)
                    beyond = gone + self.length(following)
                    if beyond < 50.0 and len(passed) < 8:
                        queue.append((following, beyond, (*passed, following)))
            self._ahead[lane] = found
        return self._ahead[lane]

    def candidates(self, poses: Array) -> list[list[_Candidate]]:
        """Lanes within reach of each pose, best first, "off the graph" last."""
        box = poses[:, :2].min(0) - REACH, poses[:, :2].max(0) + REACH
        found: list[list[_Candidate]] = [[] for _ in poses]
        for lane in np.flatnonzero(((self.low <= box[1]) & (self.high >= box[0])).all(1)).tolist():
            line = self.lines[lane]
            hit = polylines.project(line, poses)
            turn = np.abs(polylines.wrap(polylines.headings(line)[hit.segment] - poses[:, 3]))
            height = np.abs(polylines.interpolate(line, hit.arc)[:, 2] - poses[:, 2])
            extra = 0.0 if self.kind[lane] in (LaneType.DRIVING, LaneType.FREEWAY, LaneType.UNKNOWN) else 4.0
            fits = (hit.distance <= REACH) & (turn <= _MAX_TURN) & (height <= _HEIGHT)
            for i in np.flatnonzero(fits).tolist():
                cost = hit.distance[i] ** 2 + (turn[i] / 0.35) ** 2 + extra
                found[i].append(_Candidate(lane, float(hit.arc[i]), float(cost)))
        off = _Candidate(_OFF, 0.0, _OFF_COST)
        return [[*sorted(row, key=lambda c: c.cost)[:_CANDIDATES], off] for row in found]

    def transition(self, one: _Candidate, two: _Candidate, step: float) -> float:
        """Cost of going from a candidate of one pose to one of the next, ``step`` metres further."""
        if one.lane == _OFF or two.lane == _OFF:
            return 0.0 if one.lane == two.lane else _LEAVE_COST
        if one.lane == two.lane:
            return 0.2 * abs(two.arc - one.arc - step) + (_BACK_COST if two.arc < one.arc - 0.5 else 0.0)
        following = self.ahead(one.lane).get(two.lane)
        if following is not None:
            gone = self.length(one.lane) - one.arc + following[0] + two.arc
            if abs(gone - step) < 5.0:
                return 0.2 * abs(gone - step)
        near = self.beside[one.lane]
        beside = two.lane in near or any(two.lane in self.successors[lane] for lane in near)
        return _CHANGE_COST if beside else _JUMP_COST

    def straightest(self, lane: int) -> int | None:
        """The successor that turns least within 30 m, or None at a dead end."""
        line = self.lines[lane]
        heading = polylines.headings(line)[-1]

        def turn(following: int) -> float:
            start, end = polylines.interpolate(self.lines[following], np.array([0.0, 30.0]))
            return abs(float(polylines.wrap(np.arctan2(end[1] - start[1], end[0] - start[0]) - heading)))

        return min(self.successors[lane], key=turn, default=None)

    def cut(self, lane: int, first: float, last: float) -> Array:
        """The lane's centre line between two arc lengths, ``[n, 3]``."""
        arcs = self.arcs[lane]
        inner = arcs[(arcs > first) & (arcs < last)]
        return polylines.interpolate(self.lines[lane], np.concatenate([[first], inner, [last]]))


def _match(graph: LaneGraph, poses: Array) -> list[tuple[int, float]]:
    """The cheapest lane (or −1) and arc length for each pose."""
    columns = graph.candidates(poses)
    steps = np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1)
    costs = [candidate.cost for candidate in columns[0]]
    back: list[list[int]] = []
    for before, column, step in zip(columns, columns[1:], steps, strict=False):
        chosen, total = [], []
        for two in column:
            options = [c + graph.transition(one, two, step) for c, one in zip(costs, before, strict=True)]
            best = int(np.argmin(options))
            chosen.append(best)
            total.append(options[best] + two.cost)
        back.append(chosen)
        costs = total
    state = int(np.argmin(costs))
    states = [state]
    for chosen in reversed(back):
        state = chosen[state]
        states.append(state)
    picked = [column[i] for column, i in zip(columns, reversed(states), strict=True)]
    return [(candidate.lane, candidate.arc) for candidate in picked]


def _strung(graph: LaneGraph, poses: Array, states: list[tuple[int, float]]) -> tuple[Array, Array]:
    """Lane centre lines and driven pieces strung together and led on: points ``[n, 3]``, lanes ``[n]``."""
    pieces: list[tuple[Array, Array]] = []  # stretches without a lane change
    first = 0
    while first < len(states):
        last = first
        if states[first][0] == _OFF:
            while last + 1 < len(states) and states[last + 1][0] == _OFF:
                last += 1
            points = poses[first : last + 1, :3]
            pieces.append((points, np.full(len(points), _OFF)))
        else:
            path = [states[first][0]]
            while last + 1 < len(states):
                lane = states[last + 1][0]
                if lane != path[-1]:
                    on_the_way = graph.ahead(path[-1]).get(lane) if lane != _OFF else None
                    if on_the_way is None:
                        break
                    path += [*on_the_way[1], lane]
                last += 1
            begin, end = states[first][1], states[last][1]
            if first == 0:
                begin = max(begin - BEHIND, 0.0)
            if last == len(states) - 1:
                path, end = _extended(graph, path, end)
            pieces.append(_along(graph, path, begin, end))
        first = last + 1
    return _led_on(*_joined(pieces), poses)


def _driven_then_lanes(graph: LaneGraph, path: Array, last: tuple[int, float]) -> tuple[Array, Array]:
    """The driven path, led on along the lane of the last pose if it has one."""
    lane, arc = last
    pieces = [(path[:, :3], np.full(len(path), _OFF))]
    if lane != _OFF:
        lanes, end = _extended(graph, [lane], arc)
        pieces.append(_along(graph, lanes, arc, end))
    return _led_on(*_joined(pieces), path)


def _extended(graph: LaneGraph, path: list[int], end: float) -> tuple[list[int], float]:
    """The lane path led on along successors until 100 m lie ahead of ``end``, or to a dead end."""
    path, left = list(path), AHEAD + _POSE_STEP - (graph.length(path[-1]) - end)
    while left > 0:
        following = graph.straightest(path[-1])
        if following is None or len(path) > 500:
            return path, graph.length(path[-1])
        path.append(following)
        left -= graph.length(following)
    return path, graph.length(path[-1]) + left


def _along(graph: LaneGraph, path: list[int], begin: float, end: float) -> tuple[Array, Array]:
    """Centre lines along a path of lanes, from ``begin`` on the first to ``end`` on the last."""
    points, lanes = [], []
    for i, lane in enumerate(path):
        start = begin if i == 0 else 0.0
        stop = end if i == len(path) - 1 else graph.length(lane)
        piece = graph.cut(lane, start, max(stop, start))
        points.append(piece)
        lanes.append(np.full(len(piece), lane))
    return np.concatenate(points), np.concatenate(lanes)


def _joined(pieces: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Pieces joined by straight lines, which replace up to 10 m (half at most) of either piece."""
    parts = []
    for i, (line, lanes) in enumerate(pieces):
        length = polylines.arc_lengths(line)[-1]
        trim = min(10.0, 0.5 * length)
        low = trim if i > 0 else 0.0
        high = length - trim if i < len(pieces) - 1 else length
        parts.append(_part(line, lanes, low, high))
    points, lanes = zip(*parts, strict=True)
    return np.concatenate(points), np.concatenate(lanes)


def _part(line: Array, lanes: Array, low: float, high: float) -> tuple[Array, Array]:
    """The line from arc length ``low`` to ``high``, cut exactly there, and the lane of each of its points."""
    arcs = polylines.arc_lengths(line)
    stations = np.unique(np.concatenate([[low], arcs[(arcs > low) & (arcs < high)], [high]]))
    # Where one lane ends the next begins: such a point is of the lane ahead.
    return polylines.interpolate(line, stations), lanes[np.searchsorted(arcs, stations, side="right") - 1]


def _led_on(points: Array, lanes: Array, poses: Array) -> tuple[Array, Array]:
    """Adds straight tangents so that the line begins before the first pose and ends 100 m after the last."""
    length = polylines.arc_lengths(points)[-1]
    ends = np.stack([poses[0, :2], poses[-1, :2]])
    first, last = polylines.project(points, ends).arc if length > 0 else (0.0, 0.0)
    on_lane = lanes[[0, -1]] != _OFF
    directions = polylines.headings(points)[[0, -1]] if length > 0 else np.zeros(2)
    start = directions[0] if on_lane[0] and length > 0 else poses[0, 3]
    end = directions[1] if on_lane[1] and length > 0 else poses[-1, 3]
    if first < BEHIND - 1e-6:
        ahead = (BEHIND - first) * np.array([np.cos(start), np.sin(start), 0.0])
        points, lanes = np.concatenate([points[:1] - ahead, points]), np.append(_OFF, lanes)
    if length - last < AHEAD:
        ahead = (AHEAD - (length - last) + SPACING) * np.array([np.cos(end), np.sin(end), 0.0])
        points, lanes = np.concatenate([points, points[-1:] + ahead]), np.append(lanes, _OFF)
    return points, lanes


def _deviation(points: Array, poses: Array) -> float:
    """Greatest distance [m] of a driven pose from the route."""
    return float(polylines.project(points, poses).distance.max())


def _sharpest(points: Array) -> float:
    """Greatest change of direction [rad] from one stretch to the next."""
    return float(np.abs(polylines.wrap(np.diff(polylines.headings(points)))).max(initial=0.0))


def _uniform(points: Array, lanes: Array) -> Route:
    """The line at 1 m spacing, each point with the lane of the stretch it lies on."""
    kept = polylines.without_repeats(points)
    points, lanes = points[kept], lanes[kept]
    arcs = polylines.arc_lengths(points)
    spaced = np.arange(0.0, arcs[-1] + 1e-9, SPACING)
    segment = np.clip(np.searchsorted(arcs, spaced, side="right") - 1, 0, len(arcs) - 2)
    # A stretch is on a lane only where both its ends are on one; a lane change is on the lane it leaves.
    ahead = np.where(np.arange(len(lanes)) < len(lanes) - 1, np.append(lanes[1:], _OFF), _OFF)
    on = np.where((lanes[segment] == _OFF) | (ahead[segment] == _OFF), _OFF, lanes[segment])
    return Route(polylines.interpolate(points, spaced).astype(np.float32), on.astype(np.int32))
