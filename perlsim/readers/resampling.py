"""Logs whose frames are not exactly evenly spaced, brought to a constant time step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.errors import FormatError
from perlsim.scenario import Array

_NOMINAL = 0.005  # relative: a frame rate this close to a multiple of 0.1 Hz is taken as that multiple
_LONGEST_GAP = 3.0  # steps, longest gap in a track that is bridged by interpolation
_MOST_STEPS = 200_000  # 5.5 h at 10 Hz


@dataclass(frozen=True)
class TimeGrid:
    """A constant time step laid through the frames of a log.

    Attributes:
        stamps: ``[N]`` s, times of the frames, increasing, the first at 0.
        times: ``[T]`` s, times of the steps, ``dt`` apart.
        dt: s.
    """

    stamps: Array
    times: Array
    dt: float

    @property
    def num_empty(self) -> int:
        """Steps that no frame lies within half a step of."""
        return int((np.abs(self.times - self.stamps[self._nearest()]) > 0.501 * self.dt).sum())

    def _nearest(self) -> Array:
        after = np.clip(np.searchsorted(self.stamps, self.times), 1, max(len(self.stamps) - 1, 1))
        after = np.minimum(after, len(self.stamps) - 1)
        before = np.maximum(after - 1, 0)
        closer = np.abs(self.stamps[before] - self.times) <= np.abs(self.stamps[after] - self.times)
        return np.where(closer, before, after)

    def resample(self, values: Array, valid: Array) -> tuple[Array, Array]:
        """Linear interpolation of tracks at the steps.

        A step takes the frame nearest to it, moved to the step along the line to the neighbouring frame on
        the step's side, or on the other side where the track is absent there (its first and last frames). A
        step that lost its frame is filled where the track has both neighbours, at most three steps apart.

        Args:
            values: ``[A, N, D]``, finite where valid; angles as cosine and sine.
            valid: bool ``[A, N]``.

        Returns:
            Values ``[A, T, D]`` and valid ``[A, T]``.
        """
        count, near = len(self.stamps), self._nearest()
        ahead = self.times - self.stamps[near]
        towards = np.where(ahead >= 0, 1, -1)
        slope = np.zeros((*values.shape[:1], len(near), values.shape[2]))
        bridged = np.zeros((len(values), len(near)), bool)
        for direction in (-towards, towards):  # the step's own side last: it wins
            other = np.clip(near + direction, 0, count - 1)
            span = self.stamps[other] - self.stamps[near]
            usable = valid[:, near] & valid[:, other] & (other != near)
            usable &= np.abs(span) <= _LONGEST_GAP * self.dt + 1e-9
            rate = (values[:, other] - values[:, near]) / np.where(span == 0, 1.0, span)[None, :, None]
            slope = np.where(usable[..., None], rate, slope)
            bridged = usable
        held = valid[:, near] & (np.abs(ahead) <= 0.501 * self.dt)
        return values[:, near] + slope * ahead[None, :, None], held | bridged


def time_grid(stamps: Array, file: object, field: str) -> TimeGrid:
    """Lays a grid of constant step through time stamps.

    The step is the median interval, refined over the whole log, and taken as nominal (0.1 s, say) where it
    lies within 0.5 % of a whole multiple of 0.1 Hz.

    Args:
        stamps: ``[N]`` s, strictly increasing.
        file: named in errors.
        field: named in errors.

    Raises:
        FormatError: where the stamps do not increase or are too irregular for any constant step.
    """
    stamps = np.asarray(stamps, np.float64) - stamps[0]
    intervals = np.diff(stamps)
    if len(stamps) == 1:
        return TimeGrid(stamps, stamps, 0.1)
    if not (np.isfinite(stamps).all() and (intervals > 0).all()):
        raise FormatError("time stamps do not increase", file=file, field=field)
    median = float(np.median(intervals))
    steps = round(stamps[-1] / median)
    if steps > 4 * len(stamps) or steps > _MOST_STEPS:
        raise FormatError(
            f"no constant time step fits {len(stamps)} frames over {stamps[-1]:.6g} s,"
            f" half of which follow within {median:.6g} s",
            file=file,
            field=field,
        )
    dt = float(stamps[-1] / steps)
    nominal = 1 / round(1 / dt, 1) if dt < 10 else dt
    dt = nominal if abs(nominal - dt) <= _NOMINAL * dt else dt
    steps = int(np.floor(stamps[-1] / dt + 0.5))
    return TimeGrid(stamps, np.arange(steps + 1) * dt, dt)
