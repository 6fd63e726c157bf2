"""The motion log that Bench2Drive's agents write beside a result file: ``<save_name>/metric_info.json``.

Format: an object with one entry a frame, its key the simulator step; each holds ``acceleration`` [m/s²],
``angular_velocity`` [degrees/s, CARLA], ``forward_vector`` and ``right_vector``, all ``[x, y, z]`` in CARLA's
left-handed world.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from perlsim.errors import FormatError
from perlsim.metrics.bench2drive.records import load_json
from perlsim.metrics.comfort import Motion
from perlsim.scenario import Array

FILE_NAME = "metric_info.json"
TICK = 0.05  # s, a step of the simulator (Bench2Drive)


def read_motion(path: Path) -> Motion:
    """Reads the motion of one drive.

    Raises:
        FormatError: no frames, frames that are not evenly spaced, vectors that are not three finite numbers.
    """
    content = load_json(path)
    if not isinstance(content, dict) or not content:
        raise FormatError("expected an object with one entry a frame", file=path)
    try:
        frames = sorted(((int(step), entry) for step, entry in content.items()), key=lambda frame: frame[0])
    except ValueError as error:
        raise FormatError("expected step numbers as keys", file=path) from error
    strides = {int(stride) for stride in np.diff([step for step, _ in frames])}
    if len(strides) > 1:
        raise FormatError(f"expected evenly spaced frames, found strides {sorted(strides)}", file=path)

    def vectors(name: str) -> Array:
        return np.array([_vector(entry, name, step, path) for step, entry in frames])

    acceleration = vectors("acceleration")[:, :2]
    return Motion(
        longitudinal=(acceleration * vectors("forward_vector")[:, :2]).sum(-1),
        lateral=(acceleration * vectors("right_vector")[:, :2]).sum(-1),
        magnitude=np.hypot(*acceleration.T),
        yaw_rate=np.deg2rad(vectors("angular_velocity")[:, 2]),
        step=TICK * (strides.pop() if strides else 1),
    )


def _vector(entry: Any, name: str, step: int, path: Path) -> Array:
    try:
        value = np.array(entry[name], float)
    except (KeyError, TypeError, ValueError):
        value = np.zeros(0)
    if value.shape != (3,) or not np.isfinite(value).all():
        raise FormatError("expected three finite numbers", file=path, field=f"{step}.{name}")
    return value
