"""Traffic lights: what each road user faces while a batch is driven, and the states that are logged."""

from __future__ import annotations

import numpy as np

from perlsim.readers.synthetic.maps import Program
from perlsim.readers.synthetic.relations import Batch
from perlsim.scenario import Array
from perlsim.vocabulary import LightState


class GroupLights:
    """The signal of each road user's path over time."""

    def __init__(self, batch: Batch, group: Array):
        programs = [town.program for town in batch.towns if town.program is not None]
        self.signalised = bool(programs)
        self.none = np.zeros(len(group), bool)
        if not self.signalised:
            return
        size = max(len(p.start) for p in programs)
        start, green = (
            np.stack([np.pad(getattr(p, name), (0, size - len(p.start))) for p in programs])[
                batch.scene, group
            ]
            for name in ("start", "green")
        )
        self.cycle = np.array([p.cycle for p in programs])[batch.scene]
        self.shift, self.green = batch.clock[batch.scene] - start, green
        self.governed = group >= 0

    def _elapsed(self, time: float) -> Array:
        return (time + self.shift) % self.cycle

    def closed(self, time: float) -> Array:
        """Who faces red."""
        if not self.signalised:
            return self.none
        return self.governed & (self._elapsed(time) >= self.green + Program.YELLOW)

    def yellow(self, time: float) -> Array:
        """Who faces yellow."""
        if not self.signalised:
            return self.none
        elapsed = self._elapsed(time)
        return self.governed & (elapsed >= self.green) & (elapsed < self.green + Program.YELLOW)

    def walk(self, time: float) -> Array:
        """Which pedestrians may set out: well inside the red of the arm that they cross."""
        if not self.signalised:
            return ~self.none
        elapsed = self._elapsed(time)
        return (elapsed > self.green + Program.YELLOW + 1.0) & (elapsed < self.cycle - 9.0)


def light_states(program: Program, group: Array, times: Array) -> Array:
    """States int8 `[L, T]` of light groups `[L]` at `times` s in the cycle `[T]`."""
    elapsed = (times[None, :] - program.start[group][:, None]) % program.cycle
    green = program.green[group][:, None]
    return np.where(
        elapsed < green,
        np.int8(LightState.GREEN),
        np.where(elapsed < green + Program.YELLOW, np.int8(LightState.YELLOW), np.int8(LightState.RED)),
    )
