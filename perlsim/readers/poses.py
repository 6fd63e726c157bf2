"""Rigid poses in space: quaternions (w, x, y, z) to rotations and headings, and poses between time stamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.scenario import Array


def rotations(quaternion: Array) -> Array:
    """Rotation matrices ``[N, 3, 3]`` of quaternions ``[N, 4]`` (w first); a length of 0 or inf gives NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(quaternion, axis=-1, keepdims=True)
        w, x, y, z = (quaternion / np.where((length > 0) & np.isfinite(length), length, np.nan)).T
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.moveaxis(np.array(rows), -1, 0)


def heading_of(rotation: Array) -> Array:
    """Headings [rad] ``[N]`` of the x axes of rotations ``[N, 3, 3]``."""
    return np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])


@dataclass(frozen=True)
class Poses:
    """Poses of one body over time.

    Attributes:
        stamps: ``[N]``, strictly increasing, of any number type and unit.
        position: ``[N, 3]`` m.
        quaternion: ``[N, 4]``.
    """

    stamps: Array
    position: Array
    quaternion: Array

    def at(self, stamps: Array) -> tuple[Array, Array]:
        """Position ``[M, 3]`` and rotation ``[M, 3, 3]`` at stamps within the time of the poses.

        Positions are interpolated linearly, rotations along the chord between quaternions; for poses a few
        hundredths of a second apart both differ from the true motion by less than a millimetre and a
        milliradian.
        """
        after = np.clip(np.searchsorted(self.stamps, stamps), 1, max(len(self.stamps) - 1, 1))
        after = np.minimum(after, len(self.stamps) - 1)
        before = np.maximum(after - 1, 0)
        span = (self.stamps[after] - self.stamps[before]).astype(np.float64)
        share = ((stamps - self.stamps[before]) / np.where(span == 0, 1.0, span))[:, None]
        one, two = self.quaternion[before], self.quaternion[after]
        two = two * np.where((one * two).sum(1, keepdims=True) < 0, -1.0, 1.0)
        position = self.position[before] * (1 - share) + self.position[after] * share
        return position, rotations(one * (1 - share) + two * share)
