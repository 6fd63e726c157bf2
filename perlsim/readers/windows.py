"""Cutting a long recording into scenarios."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perlsim.scenario import Array, Tracks


def windows(num_steps: int, dt: float, longest: float) -> list[slice]:
    """Consecutive slices of steps, equally long but for one step, none of more than ``longest`` s."""
    most = max(int(longest / dt + 1e-6), 1)
    parts = np.array_split(np.arange(num_steps), max(-(-num_steps // most), 1))
    return [slice(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]


def select(tracks: Tracks, kept: Array) -> Tracks:
    """The agents under a mask ``[A]``."""
    fields = ("position", "heading", "velocity", "size", "kind", "valid")
    return replace(
        tracks,
        **{name: getattr(tracks, name)[kept] for name in fields},
        ids=tuple(name for name, keep in zip(tracks.ids, kept, strict=True) if keep),
    )
