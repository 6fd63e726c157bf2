"""Light programmes: fixed cycles that give the states of lights, in place of a log of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perlsim.errors import PerlsimError
from perlsim.scenario import Scenario
from perlsim.vocabulary import LightState


@dataclass(frozen=True)
class LightProgramme:
    """A cycle of states.

    Attributes:
        states: `LightState` of each phase.
        durations: s, how long each phase lasts.
        offset: s, when the first phase begins; the cycle repeats before and after.
    """

    states: Sequence[int]
    durations: Sequence[float]
    offset: float = 0.0

    def at(self, times: np.ndarray) -> np.ndarray:
        """`LightState` at each time [s], int8 ``[T]``.

        Raises:
            PerlsimError: without a phase of positive duration, or with a negative one.
        """
        durations = np.asarray(self.durations, np.float64)
        if len(durations) != len(self.states) or not durations.sum() > 0 or durations.min() < 0:
            raise PerlsimError("expected as many durations as states, positive in sum", field="durations")
        phase = (np.asarray(times, np.float64) - self.offset) % durations.sum()
        # A switch belongs to the phase that it begins, whatever the rounding of times and durations.
        phase_idx = np.searchsorted(np.cumsum(durations), phase + 1e-9, side="right") % len(durations)
        return np.asarray(self.states, np.int8)[phase_idx]


def with_programmes(scenario: Scenario, programmes: Mapping[int, LightProgramme]) -> Scenario:
    """The scenario with some of its lights run by programmes in place of the log.

    Args:
        scenario: any.
        programmes: by row of `Scenario.lights`; times are seconds from step 0.

    Raises:
        PerlsimError: for a row that the scenario has not.
    """
    lights = scenario.lights
    unknown = [row for row in programmes if not 0 <= row < len(lights.position)]
    if unknown:
        raise PerlsimError(
            f"scenario {scenario.scenario_id} has {len(lights.position)} lights, none of them {unknown}",
            field="programmes",
        )
    times = np.arange(scenario.tracks.num_steps) * scenario.dt
    state = (
        lights.state.copy() if lights.state.size else np.zeros((len(lights.position), len(times)), np.int8)
    )
    for row, programme in programmes.items():
        state[row] = programme.at(times)
    return replace(scenario, lights=replace(lights, state=state))


def fixed_cycle(green: float, yellow: float, red: float, offset: float = 0.0) -> LightProgramme:
    """Green, yellow, red for the given seconds."""
    return LightProgramme((LightState.GREEN, LightState.YELLOW, LightState.RED), (green, yellow, red), offset)
