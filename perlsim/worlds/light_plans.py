"""Light programmes of a town: a cycle for each junction, by CARLA's default or from files (`given_lights`).

By default every controller of a junction has its turn of green, yellow and red, and no two movements that cross
or join are green together. Programmes from files may let opposite approaches go together, as real ones do: who
turns left then gives way to oncoming traffic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from perlsim.lights import LightProgramme
from perlsim.scenario import Array, Ragged
from perlsim.vocabulary import LightState
from perlsim.worlds.movements import Movements
from perlsim.worlds.opendrive import OpenDriveMap, SignalKind

# s of one turn, the defaults of CARLA 0.9.16 (TrafficLightController.h, LightStates): the controllers of a junction
# take turns, and all others show red meanwhile.
TURN = ((LightState.GREEN, 10.0), (LightState.YELLOW, 3.0), (LightState.RED, 2.0))


@dataclass(frozen=True)
class LightPlan:
    """Programmes of the lanes that lights govern.

    Attributes:
        rows: int32 ``[R]``, rows of `Signals.lane_idx` and its fellows.
        states: rows of int8, `LightState` of each phase.
        durations: rows of s, parallel to ``states``.
        offset: ``[R]`` s, when the first phase begins.
        given: bool ``[R]``, whether the programme comes from a file; the others are CARLA's default.
    """

    rows: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    states: Ragged = field(default_factory=lambda: Ragged.from_rows([], dtype=np.int8))
    durations: Ragged = field(default_factory=lambda: Ragged.from_rows([]))
    offset: Array = field(default_factory=lambda: np.zeros(0))
    given: Array = field(default_factory=lambda: np.zeros(0, bool))

    @classmethod
    def of(cls, programmes: dict[int, LightProgramme], given: Iterable[int] = ()) -> LightPlan:
        """The plan of programmes by row, some of them given."""
        rows = sorted(programmes)
        chosen = [programmes[row] for row in rows]
        return cls(
            np.array(rows, np.int32),
            Ragged.from_rows([programme.states for programme in chosen], dtype=np.int8),
            Ragged.from_rows([programme.durations for programme in chosen]),
            np.array([programme.offset for programme in chosen], np.float64),
            np.isin(rows, list(given)),
        )

    def programme(self, idx: int) -> LightProgramme:
        """The programme of entry ``idx`` of ``rows``."""
        states, durations = self.states[idx].tolist(), self.durations[idx].tolist()
        return LightProgramme(states, durations, float(self.offset[idx]))

    def at(self, times: Array) -> Array:
        """`LightState` of every row at each time [s], int8 ``[R, T]``."""
        if not len(self.rows):
            return np.zeros((0, len(times)), np.int8)
        return np.stack([self.programme(idx).at(times) for idx in range(len(self.rows))])


def default_plan(town: OpenDriveMap) -> LightPlan:
    """CARLA's default programme of every light that governs a lane.

    The lights of a controller whose movements conflict (opposite approaches with left turns, in CARLA's Town11
    above all) get turns of their own, and so does a light without a controller.
    """
    movements = Movements(town.road.lanes, town.junctions)
    programmes = {}
    for turns in _turns(town, movements).values():
        for turn, rows in enumerate(turns):
            for row in rows:
                programmes[row] = turn_programme(turn, len(turns))
    return LightPlan.of(programmes)


def turn_programme(turn: int, num_turns: int) -> LightProgramme:
    """The programme of who has one of several turns, all of the same length."""
    states, durations = [state for state, _ in TURN], [seconds for _, seconds in TURN]
    if num_turns > 1:
        durations[-1] += (num_turns - 1) * sum(durations)
    return LightProgramme(states, durations, turn * sum(seconds for _, seconds in TURN))


def light_rows(town: OpenDriveMap) -> Array:
    """Rows of `Signals.lane_idx` that belong to lights, int ``[R]``."""
    signals = town.signals
    return np.flatnonzero(signals.kind[signals.lane_signal_idx] == SignalKind.LIGHT)


def _turns(town: OpenDriveMap, movements: Movements) -> dict[str, list[list[int]]]:
    """Rows of governed lanes by turn and junction."""
    signals, controllers = town.signals, town.controllers
    rows_of: dict[int, list[int]] = {}
    for row in light_rows(town).tolist():
        rows_of.setdefault(int(signals.lane_signal_idx[row]), []).append(row)
    groups = [
        (controllers.junctions[idx], [signal for signal in row.tolist() if signal in rows_of])
        for idx, row in enumerate(controllers.signals.rows())
    ]
    controlled = {signal for _, members in groups for signal in members}
    groups += [("", [signal]) for signal in rows_of if signal not in controlled]
    turns: dict[str, list[list[int]]] = {}
    for junction, members in groups:
        if members:
            lanes = {signal: signals.lane_idx[rows_of[signal]].tolist() for signal in members}
            # A light outside any junction has a cycle of its own.
            place = junction or movements.junction_of(lanes[members[0]]) or f"light {signals.ids[members[0]]}"
            for part in _apart(members, lanes, movements):
                turns.setdefault(place, []).append([row for signal in part for row in rows_of[signal]])
    return turns


def _apart(members: list[int], lanes: dict[int, list[int]], movements: Movements) -> list[list[int]]:
    """Deals lights to as few turns as come by taking them in order, without conflicts within a turn."""
    parts: list[list[int]] = []
    for signal in members:
        for part in parts:
            if not any(
                movements.conflict(a, b) for other in part for a in lanes[signal] for b in lanes[other]
            ):
                part.append(signal)
                break
        else:
            parts.append([signal])
    return parts
