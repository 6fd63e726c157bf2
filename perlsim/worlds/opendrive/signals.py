"""Signals of an OpenDRIVE map: lights and signs with the lanes they govern, and their controllers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from perlsim.scenario import Array, Ragged, StopSigns
from perlsim.worlds.opendrive.network import Node, nodes_of
from perlsim.worlds.opendrive.sections import TRAFFIC, SampledRoad
from perlsim.worlds.opendrive.xml import Element, child, children, integer, number


class SignalKind(IntEnum):
    """What a signal asks of traffic."""

    OTHER = 0
    LIGHT = 1
    STOP = 2
    YIELD = 3


# OpenDRIVE's own catalogue (country "OpenDRIVE"): 1000001 to 1000016 are lights, these of them for
# pedestrians and bicycles only. 206 and 205 are the stop and yield signs of the German catalogue, which
# CARLA's maps use.
_LIGHTS = frozenset(f"10000{n:02d}" for n in range(1, 17)) - {"1000002", "1000003", "1000007", "1000013"}
_SIGNS = {"206": SignalKind.STOP, "R1-1": SignalKind.STOP, "205": SignalKind.YIELD, "R1-2": SignalKind.YIELD}


@dataclass(frozen=True)
class Signals:
    """Signals, and one row for each lane that one of them governs.

    Attributes:
        ids: OpenDRIVE's ids, ``S`` of them.
        kind: int8 ``[S]``, `SignalKind`.
        position: ``[S, 3]`` m, where the post or head stands.
        lane_signal_idx: int32 ``[C]``, signal of each governed lane.
        lane_idx: int32 ``[C]``, lane in the road.
        stop: ``[C, 3]`` m, point on that lane's centre line where traffic has to stop.
        heading: ``[C]`` rad, direction of that traffic.
    """

    ids: tuple[str, ...] = ()
    kind: Array = field(default_factory=lambda: np.zeros(0, np.int8))
    position: Array = field(default_factory=lambda: np.zeros((0, 3)))
    lane_signal_idx: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    lane_idx: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    stop: Array = field(default_factory=lambda: np.zeros((0, 3)))
    heading: Array = field(default_factory=lambda: np.zeros(0))

    def stop_signs(self) -> StopSigns:
        """The governed lanes of stop signs."""
        rows = self.kind[self.lane_signal_idx] == SignalKind.STOP
        return StopSigns(self.stop[rows], self.heading[rows], self.lane_idx[rows])


def read_signals(roads: dict[str, SampledRoad], lane_of: dict[Node, int]) -> Signals:
    """All signals, with the lanes that they and the references to them govern.

    Args:
        roads: sampled roads by id.
        lane_of: row of each lane in the road.
    """
    ids: dict[str, int] = {}
    kinds, positions = [], []
    governed: dict[tuple[int, int], tuple[Array, float]] = {}
    places: list[tuple[SampledRoad, Element, str]] = []
    for road in roads.values():
        for element in children(child(road.element, "signals"), "signal"):
            signal_id = element.get("id", "")
            if signal_id not in ids:
                ids[signal_id] = len(ids)
                kinds.append(_kind(element))
                s, t = np.array([number(element, "s")]), np.array([number(element, "t", 0.0)])
                point = road.points(s, t)[0][0]
                positions.append(point + np.array([0, 0, number(element, "zOffset", 0.0)]))
            places.append((road, element, signal_id))
        for element in children(child(road.element, "signals"), "signalReference"):
            places.append((road, element, element.get("id", "")))
    for road, element, signal_id in places:
        signal_idx = ids.get(signal_id, -1)
        if signal_idx >= 0 and kinds[signal_idx] != SignalKind.OTHER:
            for lane_idx, stop, heading in _governed(road, element, lane_of):
                governed.setdefault((signal_idx, lane_idx), (stop, heading))
    if not ids:
        return Signals()
    pairs = np.array(list(governed), np.int32).reshape(-1, 2)
    return Signals(
        tuple(ids),
        np.array(kinds, np.int8),
        np.array(positions),
        pairs[:, 0],
        pairs[:, 1],
        np.array([stop for stop, _ in governed.values()]).reshape(-1, 3),
        np.array([heading for _, heading in governed.values()], np.float64),
    )


def _kind(element: Element) -> SignalKind:
    kind, name = element.get("type", ""), element.get("name", "").lower()
    if element.get("dynamic") == "yes":
        return SignalKind.LIGHT if kind in _LIGHTS else SignalKind.OTHER
    if kind in _SIGNS:
        return _SIGNS[kind]
    return SignalKind.STOP if name.replace("_", "").startswith(("stopsign", "signstop")) else SignalKind.OTHER


def _governed(road: SampledRoad, element: Element, lane_of: dict[Node, int]):
    """(lane, stop point, heading) of each traffic lane that a signal or reference governs on its road.

    The lanes are those of its ``validity``; exporters write lane 0 there for a post that governs nothing by
    itself. Without a validity they are those whose traffic the signal's orientation faces. Traffic stops
    where the signal stands along the road or, on a road inside a junction, where the lane enters it.
    """
    s = float(np.clip(number(element, "s"), 0.0, road.length))
    section_idx = road.section_at(s)
    section = road.sections[section_idx]
    ranges = [(integer(e, "fromLane"), integer(e, "toLane")) for e in children(element, "validity")]
    orientation = element.get("orientation", "none")
    for lane_id, lane in section.lanes.items():
        if lane.kind not in TRAFFIC or not lane.exists:
            continue
        for node in nodes_of(road, section_idx, lane):
            if ranges:
                applies = any(min(r) <= lane_id <= max(r) for r in ranges)
            else:
                applies = orientation not in "+-" or node[3] == (orientation == "+")
            if applies and node in lane_of:
                at = s
                if road.junction not in ("-1", ""):
                    at = float(section.s[0] if node[3] else section.s[-1])
                t = np.interp([at], section.s, 0.5 * (lane.inner + lane.outer))
                point, heading = road.points(np.array([at]), t)
                yield lane_of[node], point[0], float(heading[0] + (0.0 if node[3] else np.pi))


@dataclass(frozen=True)
class Controllers:
    """Groups of signals that change together.

    Attributes:
        ids: OpenDRIVE's ids, ``K`` of them, those of one junction in the order of their ``sequence``.
        junctions: id of the junction that each belongs to; "" where it belongs to none.
        signals: rows of int32, the signals of each; a signal of several controllers is in the first only.
    """

    ids: tuple[str, ...] = ()
    junctions: tuple[str, ...] = ()
    signals: Ragged = field(default_factory=lambda: Ragged.from_rows([], dtype=np.int32))


def read_controllers(root: Element, signals: Signals) -> Controllers:
    """The controllers of the map, each once, with the signals that exist.

    Args:
        root: the ``OpenDRIVE`` element.
        signals: those of the same map.
    """
    signal_of = {name: idx for idx, name in enumerate(signals.ids)}
    controlled = {
        element.get("id", ""): [control.get("signalId", "") for control in children(element, "control")]
        for element in children(root, "controller")
    }
    order: dict[str, str] = {}
    for junction in children(root, "junction"):
        members = children(junction, "controller")
        for member in sorted(members, key=lambda e: number(e, "sequence", 0.0)):
            if member.get("id", "") in controlled:
                order.setdefault(member.get("id", ""), junction.get("id", ""))
    order |= {name: "" for name in controlled if name not in order}
    rows, taken = [], set()
    for name in order:
        row = [signal_of[s] for s in dict.fromkeys(controlled[name]) if s in signal_of]
        rows.append([signal for signal in row if signal not in taken])
        taken.update(row)
    return Controllers(tuple(order), tuple(order.values()), Ragged.from_rows(rows, dtype=np.int32))
