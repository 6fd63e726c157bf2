"""Cutting a long recording into scenarios."""

from __future__ import annotations

import numpy as np


def windows(num_steps: int, dt: float, longest: float) -> list[slice]:
    """Consecutive slices of steps, equally long but for one step, none of more than ``longest`` s."""
    most = max(int(longest / dt + 1e-6), 1)
    parts = np.array_split(np.arange(num_steps), max(-(-num_steps // most), 1))
    return [slice(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]
