"""Numbers that a correct import of a log with an ego meets.

A flipped y axis, degrees for radians or a wrong ego offset breaks them at once: the logged ego hardly ever
overlaps another box, faces where it goes (median difference up to 0.11 rad), and its velocity is the change
of its position (median relative difference up to 3.1 %).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.geometry.polylines import wrap
from perlsim.scenario import Scenario

MIN_SPEED = 2.0  # m/s, below which direction and relative speed say little
HEIGHT_GATE = 3.0  # m between two boxes' ground contacts, from which on one passes over the other


@dataclass(frozen=True)
class Sanity:
    """Of one scene.

    Attributes:
        overlap_steps: steps at which the ego's box overlaps another.
        overlap_agents: number of others that it overlaps at some step.
        heading_error: rad, median |heading − direction of motion|; NaN where the ego never exceeds
            `MIN_SPEED`.
        speed_error: median relative difference of |velocity| and change of position; NaN likewise.
    """

    overlap_steps: int
    overlap_agents: int
    heading_error: float
    speed_error: float


def sanity_of(scenario: Scenario) -> Sanity | None:
    """The numbers of a scene, None where it has no ego."""
    if not scenario.has_ego:
        return None
    overlap = ego_overlaps(scenario)
    heading_error, speed_error = _motion_errors(scenario)
    return Sanity(int(overlap.any(0).sum()), int(overlap.any(1).sum()), heading_error, speed_error)


def ego_overlaps(scenario: Scenario) -> np.ndarray:
    """Whether the ego's box overlaps each road user's: bool ``[A, T]``, by separating axes, gated by
    height."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    position = tracks.position.astype(np.float64)
    valid = tracks.valid & tracks.valid[ego]
    valid[ego] = False
    offset = position - position[ego]
    reach = np.hypot(tracks.size[:, 0], tracks.size[:, 1]) / 2
    near = np.hypot(offset[..., 0], offset[..., 1]) < (reach + reach[ego])[:, None]
    near &= valid & (np.abs(offset[..., 2]) < HEIGHT_GATE)

    agents, steps = np.nonzero(near)
    half = tracks.size[:, :2].astype(np.float64) / 2
    own = _axes(tracks.heading[ego, steps])
    other = _axes(tracks.heading[agents, steps])
    offset = offset[agents, steps, :2]
    separated = np.zeros(len(agents), bool)
    for axes in (own, other):
        for k in range(2):
            axis = axes[:, k]
            radius = _radius(own, half[ego], axis) + _radius(other, half[agents], axis)
            separated |= np.abs((offset * axis).sum(-1)) >= radius
    overlap = np.zeros_like(near)
    overlap[agents, steps] = ~separated
    return overlap


def _axes(heading: np.ndarray) -> np.ndarray:
    """Unit vectors forward and left: ``[N, 2, 2]``."""
    heading = heading.astype(np.float64)
    cos, sin = np.cos(heading), np.sin(heading)
    return np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)


def _radius(axes: np.ndarray, half: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Half the length of a box's shadow on an axis."""
    return (np.abs((axes * axis[:, None]).sum(-1)) * half).sum(-1)


def _motion_errors(scenario: Scenario) -> tuple[float, float]:
    tracks, ego = scenario.tracks, scenario.ego.idx
    if tracks.num_steps < 3:
        return float("nan"), float("nan")
    valid = tracks.valid[ego]
    position = tracks.position[ego, :, :2].astype(np.float64)
    motion = (position[2:] - position[:-2]) / (2 * scenario.dt)
    speed = np.hypot(*motion.T)
    use = valid[2:] & valid[1:-1] & valid[:-2] & (speed > MIN_SPEED)
    if not use.any():
        return float("nan"), float("nan")
    direction = np.arctan2(motion[use, 1], motion[use, 0])
    turned = tracks.heading[ego, 1:-1][use] - direction
    heading_error = np.median(np.abs(wrap(turned)))
    logged = np.hypot(*tracks.velocity[ego, 1:-1][use].astype(np.float64).T)
    return float(heading_error), float(np.median(np.abs(logged - speed[use]) / speed[use]))
