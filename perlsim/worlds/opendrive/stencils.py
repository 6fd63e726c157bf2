"""Stop signs that are only painted: the word STOP on a lane where no sign of the map governs it.

CARLA's Town03 and Town04 have no other trace of their stop signs in OpenDRIVE.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perlsim.geometry.polylines import arc_lengths, headings, interpolate, project, wrap
from perlsim.scenario import Array, Lanes
from perlsim.worlds.opendrive.crop import rows_in
from perlsim.worlds.opendrive.sections import TRAFFIC, SampledRoad
from perlsim.worlds.opendrive.signals import SignalKind, Signals
from perlsim.worlds.opendrive.xml import child, children, number

BESIDE = 1.2  # m, farthest from the middle of a lane that a stencil is painted on it
SAME_WAY = np.deg2rad(30.0)
KNOWN = 12.0  # m, farthest that a sign's stop point lies from the stencil that goes with it
TO_END = 15.0  # m, farthest before the end of a lane that a stencil stands for a stop at its end
AHEAD = 1.5  # m, from a stencil's middle to where traffic stops, elsewhere: half of a stencil's length


def with_stencils(signals: Signals, lanes: Lanes, roads: dict[str, SampledRoad]) -> Signals:
    """The signals, and a stop sign for every painted STOP that goes with none of them.

    Args:
        signals: those of the map.
        lanes: its lanes.
        roads: sampled roads by id.
    """
    rows = signals.kind[signals.lane_signal_idx] == SignalKind.STOP
    known, known_heading = signals.stop[rows], signals.heading[rows]
    found = []
    for name, position, heading in _stencils(roads):
        gap = np.linalg.norm(known - position, axis=1) if len(known) else np.zeros(0)
        turn = np.abs(wrap(known_heading - heading))
        if ((gap < KNOWN) & (turn < SAME_WAY)).any():
            continue
        placed = _placed(lanes, position, heading)
        if placed is not None:
            found.append((name, position, *placed))
    if not found:
        return signals
    names, positions, lane_idx, stops, stop_headings = zip(*found, strict=True)
    count = len(signals.ids)
    return replace(
        signals,
        ids=(*signals.ids, *names),
        kind=np.append(signals.kind, np.full(len(found), SignalKind.STOP, np.int8)),
        position=np.concatenate([signals.position, positions]),
        lane_signal_idx=np.append(
            signals.lane_signal_idx, np.arange(count, count + len(found), dtype=np.int32)
        ),
        lane_idx=np.append(signals.lane_idx, np.array(lane_idx, np.int32)),
        stop=np.concatenate([signals.stop, stops]),
        heading=np.append(signals.heading, stop_headings),
    )


def _stencils(roads: dict[str, SampledRoad]):
    """Name, point ``[3]`` and direction [rad] of each painted STOP."""
    for road in roads.values():
        for element in children(child(road.element, "objects"), "object"):
            if element.get("name", "").lower().replace("_", "").startswith("stencilstop"):
                s, t = np.array([number(element, "s")]), np.array([number(element, "t", 0.0)])
                point, heading = road.points(s, t)
                yield (
                    f"stencil {element.get('id', '')}",
                    point[0],
                    float(heading[0]) + number(element, "hdg", 0.0),
                )


def _placed(lanes: Lanes, position: Array, heading: float) -> tuple[int, Array, float] | None:
    """Lane under a stencil, the point on it where traffic stops, and the lane's direction there."""
    x, y = position[:2]
    near = np.flatnonzero(rows_in(lanes.centre, (x - BESIDE, y - BESIDE, x + BESIDE, y + BESIDE)))
    best = None
    for lane in near.tolist():
        line = lanes.centre[lane]
        hit = project(line, position[None, :2])
        turn = abs(float(wrap(headings(line)[hit.segment] - heading)[0]))
        apart = float(hit.distance[0])
        level = abs(interpolate(line, hit.arc)[0, 2] - position[2]) < 3.0
        if lanes.kind[lane] in TRAFFIC and apart < BESIDE and level and turn < SAME_WAY:
            # Lanes that lead into a junction before those in it, which overlap there.
            rank = (bool(lanes.in_junction[lane]), apart)
            if best is None or rank < best[0]:
                best = (rank, lane, float(hit.arc[0]))
    if best is None:
        return None
    _, lane, arc = best
    line = lanes.centre[lane]
    length = float(arc_lengths(line)[-1])
    arc = length if length - arc < TO_END and not lanes.in_junction[lane] else min(arc + AHEAD, length)
    hit = project(line, interpolate(line, np.array([arc]))[:, :2])
    return lane, interpolate(line, np.array([arc]))[0], float(headings(line)[hit.segment[0]])
