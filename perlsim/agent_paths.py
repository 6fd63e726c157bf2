"""Lane paths of road users on the host: where each drives if its simulated self keeps its own pace.

A path is what the road user drove in the log, led on along the lane of its last pose and that lane's
straightest successors, then straight. Points are `AGENT_PATH_SPACING` apart by arc length.

Reacting road users are motor vehicles and cyclists that drive at least `MIN_DRIVEN` forwards in the log. All
others (pedestrians, statics, what is parked or reverses) repeat the log.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.bank import (
    AGENT_PATH_SPACING,
    COS,
    PATH_HEADING,
    PATH_LIMIT,
    PATH_X,
    PATH_Z,
    SIN,
    STEP,
    VALID,
    VX,
    VY,
    X,
    Z,
)
from perlsim.geometry.polylines import arc_lengths, interpolate, project
from perlsim.route import LaneGraph
from perlsim.scenario import Lights, Scenario, StopSigns
from perlsim.vocabulary import AgentType

# Path beyond the last logged pose [m].
LED_ON = 100.0
# A road user that drives less than this in the log is parked [m]; one that reverses faster than this [m/s]
# for longer than this [s] is manoeuvring. Both repeat the log.
MIN_DRIVEN = 2.0
REVERSE_SPEED, REVERSE_TIME = 0.5, 0.5
# Distance between the logged poses that a path goes through [m], so that jitter is no path.
_THINNING = 0.5
# A desired speed is the greatest logged one, this at least [m/s]: who creeps in a queue would drive on.
MIN_DESIRED_SPEED = 5.0
# Curves are taken with this lateral acceleration, or as fast as in the log, and braked for ahead with the
# second [m/s²].
LATERAL_ACCELERATION, CURVE_BRAKING = 3.0, 2.0
_MIN_CURVE_SPEED = 2.0
# A light governs a path that crosses its line in its direction and follows the controlled lane: this share of
# the lane's points lies within this distance [m].
_LINE_REACH, _LINE_COS, _LANE_SHARE, _LANE_REACH = 2.0, 0.7, 0.7, 2.0
_REACTING = (
    AgentType.VEHICLE,
    AgentType.CYCLIST,
    AgentType.MOTORCYCLIST,
    AgentType.BUS,
    AgentType.TRUCK,
)


@dataclass(frozen=True)
class AgentPaths:
    """Paths of one scenario's road users.

    Attributes:
        points: by slot, ``[P, 5]`` in the order ``PATH_*`` of `perlsim.bank`, or None where the road user
            repeats the log.
        arc: ``[T, A]`` m, where on its path each was at each step.
        stops: by slot, ``[n, 2]``: arc [m] and index of the lines of lights on the path.
    """

    points: list[np.ndarray | None]
    arc: np.ndarray
    stops: list[np.ndarray]


def agent_paths_of(scenario: Scenario, rows: np.ndarray, kinds: np.ndarray) -> AgentPaths:
    """Paths of the road users of a scenario.

    Args:
        scenario: finalized.
        rows: ``[T, 8, A]``, its tracks in the layout of a bank.
        kinds: ``[A]``, `AgentType`.
    """
    count = rows.shape[2]
    paths = AgentPaths([None] * count, np.zeros((len(rows), count)), [np.zeros((0, 2))] * count)
    driven = {}
    for slot in range(1, count):
        if (
            int(kinds[slot]) in _REACTING
            and (found := _driven(rows[:, :, slot].astype(np.float64))) is not None
        ):
            driven[slot] = found
    if not driven:
        return paths
    graph = LaneGraph(scenario.road.lanes) if len(scenario.road.lanes) else None
    ends = np.stack([track.last_pose for track in driven.values()])
    fastest = np.stack([track.fastest_pose for track in driven.values()])
    lanes = _nearest_lanes(graph, np.concatenate([ends, fastest]))
    for number, (slot, track) in enumerate(driven.items()):
        limit = _speed_limit(scenario, lanes[len(ends) + number][0], lanes[number][0])
        line = _led_on(graph, track, *lanes[number])
        paths.points[slot] = points = _tabulated(line, track, limit)
        paths.arc[:, slot] = track.arc
        paths.stops[slot] = lines_on_path(scenario, scenario.lights, points)
    return paths


def stacked(paths: list[AgentPaths], steps: int) -> dict[str, np.ndarray]:
    """The arrays of a `perlsim.bank.ScenarioBank`, padded to its largest scenario and longest path."""
    count = len(paths[0].points)
    longest = max([2] + [len(points) for path in paths for points in path.points if points is not None])
    most = max([1] + [len(stops) for path in paths for stops in path.stops])
    points = np.zeros((len(paths), count, longest, 5), np.float32)
    arc = np.zeros((len(paths), steps, count), np.float32)
    stops = np.full((len(paths), count, most, 2), -1.0, np.float32)
    reacts = np.zeros((len(paths), count), bool)
    for row, path in enumerate(paths):
        arc[row] = np.pad(path.arc, ((0, steps - len(path.arc)), (0, 0)), mode="edge")
        for slot, own in enumerate(path.points):
            if own is None:
                continue
            more = np.arange(1, longest - len(own) + 1)[:, None]
            points[row, slot] = np.concatenate([own, own[-1] + more * _straight_on(own)])
            stops[row, slot, : len(path.stops[slot])] = path.stops[slot]
            reacts[row, slot] = True
    return {"agent_paths": points, "agent_arc": arc, "agent_stops": stops, "agent_reacts": reacts}


def no_paths() -> dict[str, np.ndarray]:
    """The arrays of a bank without paths."""
    return {
        "agent_paths": np.zeros((1, 1, 1, 5), np.float32),
        "agent_arc": np.zeros((1, 1, 1), np.float32),
        "agent_stops": np.zeros((1, 1, 1, 2), np.float32),
        "agent_reacts": np.zeros((1, 1), bool),
    }


@dataclass(frozen=True)
class _Driven:
    """What one road user drove: thinned line ``[n, 3]``, arc and speed ``[T]``, poses (x, y, z, heading)."""

    line: np.ndarray
    arc: np.ndarray
    speed: np.ndarray
    last_pose: np.ndarray
    fastest_pose: np.ndarray


def _driven(rows: np.ndarray) -> _Driven | None:
    """The path of a track ``[T, 8]``; None if it hardly moves or reverses."""
    known = np.flatnonzero(rows[:, VALID])
    if not len(known):
        return None
    along = rows[known, VX] * rows[known, COS] + rows[known, VY] * rows[known, SIN]
    if (along < -REVERSE_SPEED).sum() * STEP > REVERSE_TIME:
        return None
    kept = _thinned(rows[known])
    line = rows[known[kept], X : Z + 1]
    arcs = arc_lengths(line)
    if arcs[-1] < MIN_DRIVEN:
        return None
    arc = _arc_of_steps(rows[known, X : Z + 1], kept, line, arcs)
    poses = np.column_stack([rows[:, X : Z + 1], np.arctan2(rows[:, SIN], rows[:, COS])])
    everywhere = np.arange(len(rows))
    return _Driven(
        line,
        np.interp(everywhere, known, arc),
        np.maximum(np.interp(everywhere, known, along), 0.0),
        poses[known[kept[-1]]],
        poses[known[np.argmax(along)]],
    )


def _thinned(rows: np.ndarray) -> np.ndarray:
    """Indices of rows ``[n, 8]``, the first and then each that lies `_THINNING` ahead of the one before."""
    kept, (x, y) = [0], rows[0, :2]
    for i, (px, py, cos, sin) in enumerate(rows[:, [0, 1, COS, SIN]].tolist()):
        dx, dy = px - x, py - y
        squared = dx * dx + dy * dy
        # What lies beside or behind is noise, or reversing: a path does not turn back.
        if squared >= _THINNING**2 and dx * cos + dy * sin > 0.5 * squared**0.5:
            kept.append(i)
            x, y = px, py
    return np.array(kept)


def _arc_of_steps(places: np.ndarray, kept: np.ndarray, line: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Arc [m] of each place ``[n, 3]`` on the stretch between the kept places around it, never falling."""
    stretch = np.clip(np.searchsorted(kept, np.arange(len(places)), side="right") - 1, 0, len(line) - 2)
    chord = line[stretch + 1, :2] - line[stretch, :2]
    length = arcs[stretch + 1] - arcs[stretch]
    along = ((places[:, :2] - line[stretch, :2]) * chord).sum(1) / np.maximum(length, 1e-9)
    return np.maximum.accumulate(arcs[stretch] + np.clip(along, 0.0, length))


def _nearest_lanes(graph: LaneGraph | None, poses: np.ndarray) -> list[tuple[int, float]]:
    """The best lane and the arc on it for each pose ``[n, 4]``; −1 off the lane graph."""
    if graph is None:
        return [(-1, 0.0)] * len(poses)
    return [(found[0].lane, found[0].arc) for found in graph.candidates(poses)]


def _speed_limit(scenario: Scenario, *lanes: int) -> float:
    """The first known limit of some lanes [m/s], infinite if none is known."""
    limits = [float(scenario.road.lanes.speed_limit[lane]) for lane in lanes if lane >= 0]
    return next((limit for limit in limits if limit > 0), np.inf)


def _led_on(graph: LaneGraph | None, track: _Driven, lane: int, arc: float) -> np.ndarray:
    """The driven line and at least `LED_ON` beyond it: along lanes while there are any, then straight."""
    pieces, length = [track.line], 0.0
    if graph is not None and lane >= 0:
        # Onto the lane at an angle of a quarter at most.
        aside = np.hypot(*(graph.cut(lane, arc, arc)[0, :2] - track.last_pose[:2]))
        skip = max(4.0, 4.0 * float(aside))
        while length < LED_ON + skip:
            if arc + skip < graph.length(lane):
                pieces.append(graph.cut(lane, arc + skip, graph.length(lane)))
            skip = max(arc + skip - graph.length(lane), 0.0)
            length += graph.length(lane) - arc
            following = graph.straightest(lane)
            if following is None or len(pieces) > 100:
                break
            lane, arc = following, 0.0
    line = np.concatenate(pieces)
    apart = np.concatenate([[True], np.hypot(*np.diff(line[:, :2], axis=0).T) > 0.05])
    line = line[apart]
    chord = line[-1] - line[max(len(line) - 4, 0)]
    chord = chord / max(float(np.hypot(*chord[:2])), 1e-6)
    line = np.concatenate([line, line[-1:] + chord * (LED_ON + 2 * AGENT_PATH_SPACING)])
    stations = np.arange(0.0, arc_lengths(track.line)[-1] + LED_ON + AGENT_PATH_SPACING, AGENT_PATH_SPACING)
    return interpolate(line, stations)


def _tabulated(line: np.ndarray, track: _Driven, limit: float) -> np.ndarray:
    """A path's points ``[P, 5]``: x, y, z, heading without jumps, desired speed."""
    behind, ahead = np.vstack([line[:1], line[:-1]]), np.vstack([line[1:], line[-1:]])
    chord = ahead - behind
    heading = np.unwrap(np.arctan2(chord[:, 1], chord[:, 0]))
    points = np.zeros((len(line), 5))
    points[:, PATH_X : PATH_X + 2] = line[:, :2]
    points[:, PATH_HEADING], points[:, PATH_Z] = heading, line[:, 2]
    points[:, PATH_LIMIT] = _desired_speed(heading, track, limit)
    return points


def _desired_speed(heading: np.ndarray, track: _Driven, limit: float) -> np.ndarray:
    """Desired speed at each point [m/s], limited by law and by curves, which it slows down for in time."""
    desired = min(max(float(track.speed.max()), MIN_DESIRED_SPEED), limit)
    stations = np.arange(len(heading)) * AGENT_PATH_SPACING
    speed = curve_speed(heading)
    # As fast as it went there itself, whatever the noise of its path says.
    logged = np.interp(stations, track.arc, track.speed, right=0.0)
    speed = np.minimum(np.maximum(speed, logged), desired)
    return slowed_ahead(speed)


def curve_speed(heading: np.ndarray) -> np.ndarray:
    """Speed [m/s] at which a path bends without more than `LATERAL_ACCELERATION`, from its headings ``[P]``."""
    padded = np.pad(heading, 2, mode="edge")
    curvature = np.abs(padded[4:] - padded[:-4]) / (4 * AGENT_PATH_SPACING)
    return np.maximum(np.sqrt(LATERAL_ACCELERATION / np.maximum(curvature, 1e-6)), _MIN_CURVE_SPEED)


def slowed_ahead(speed: np.ndarray) -> np.ndarray:
    """Speeds [m/s] along a path, lowered so that `CURVE_BRAKING` reaches each that follows, ``[P]``."""
    speed = speed.copy()
    for i in range(len(speed) - 2, -1, -1):
        speed[i] = min(speed[i], np.sqrt(speed[i + 1] ** 2 + 2 * CURVE_BRAKING * AGENT_PATH_SPACING))
    return speed


def lines_on_path(scenario: Scenario, lines: Lights | StopSigns, points: np.ndarray) -> np.ndarray:
    """Arcs [m] at which a path crosses the stop lines that govern it, and their indices ``[n, 2]``.

    Args:
        scenario: whose lanes the lines control.
        lines: its lights or its stop signs.
        points: ``[P, 5]``, columns ``PATH_*``, `AGENT_PATH_SPACING` apart.
    """
    if not len(lines.position):
        return np.zeros((0, 2))
    line = points[:, PATH_X : PATH_X + 2]
    hit = project(line, lines.position)
    nearest = np.round(hit.arc / AGENT_PATH_SPACING).astype(int).clip(0, len(points) - 1)
    aligned = np.cos(points[nearest, PATH_HEADING] - lines.heading) > _LINE_COS
    level = np.abs(points[nearest, PATH_Z] - lines.position[:, 2]) < 3.0
    found = []
    for number in np.flatnonzero((hit.distance < _LINE_REACH) & aligned & level).tolist():
        lane = int(lines.lane_idx[number])
        if lane < 0 or _follows(line, points, scenario.road.lanes.centre[lane]):
            found.append((hit.arc[number], number))
    return np.array(sorted(found)).reshape(-1, 2)


def _follows(line: np.ndarray, points: np.ndarray, lane: np.ndarray) -> bool:
    """Whether a path goes along a lane, as far as the path reaches."""
    length = arc_lengths(lane)[-1]
    samples = interpolate(lane, np.arange(0.0, length + 1e-6, 1.0))
    hit = project(line, samples)
    end = (len(line) - 1) * AGENT_PATH_SPACING
    within = (hit.arc > 0) & (hit.arc < end - 1e-6)
    return bool(within.any() and (hit.distance[within] < _LANE_REACH).mean() > _LANE_SHARE)


def _straight_on(points: np.ndarray) -> np.ndarray:
    """What to add for each further point of a path that goes on straight ``[5]``."""
    step = points[-1] - points[-2]
    step[[PATH_HEADING, PATH_LIMIT]] = 0.0
    return step
