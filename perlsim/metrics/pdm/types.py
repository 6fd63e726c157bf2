"""What the PDM scorer takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import jax

from perlsim.sim.types import Pose

# Steps of 0.1 s that NAVSIM's candidates have.
HORIZON = 40


class SubScore(IntEnum):
    """Sub-scores that can fail at a moment: the order of `PdmScore.failure_time`."""

    NO_AT_FAULT_COLLISIONS = 0
    DRIVABLE_AREA_COMPLIANCE = 1
    DRIVING_DIRECTION_COMPLIANCE = 2
    TRAFFIC_LIGHT_COMPLIANCE = 3
    TIME_TO_COLLISION = 4
    LANE_KEEPING = 5
    HISTORY_COMFORT = 6
    COMFORT = 7
    EXTENDED_COMFORT = 8


@dataclass(frozen=True)
class PdmConfig:
    """Static choices of the scorer; hashable, so a compiled program belongs to one of them.

    Attributes:
        tracker: "lqr": candidates are driven by an LQR and a kinematic bicycle, as in NAVSIM; "none": the ego is
            where the candidates say, and its speeds and accelerations come from differences.
        extended: whether to compute what only EPDMS needs (driving direction, lights, lane keeping, history and
            extended comfort); without, those are NaN.
        replan_steps: steps of 0.1 s between the previous plan's start and this one's (extended comfort).
        extra_steps: steps of traffic beyond the horizon that `PdmScorer` reads from the log. With 0 the look-ahead
            of time to collision starts at steps that end within the horizon (NAVSIM v2), with 9 at every step
            (NAVSIM v1).
        ignore_initial_overlaps: whether road users that the ego overlaps at the start are left out, as PDM-Closed
            does when it scores its own proposals; NAVSIM's evaluation does not.
    """

    tracker: str = "lqr"
    extended: bool = True
    replan_steps: int = 5
    extra_steps: int = 0
    ignore_initial_overlaps: bool = False


class Previous(NamedTuple):
    """The plan of ``replan_steps`` ago, to compare with: see extended comfort.

    Attributes:
        ego: box centre then, scenario frame.
        past: as in `score_candidates`, of then.
        plan: ``[H, 3]``, in the ego frame of then.
    """

    ego: Pose
    past: jax.Array
    plan: jax.Array


class PdmScore(NamedTuple):
    """Scores of N candidates, float32 ``[N]`` each; NaN where an input is missing.

    Attributes:
        no_at_fault_collisions: 0, ½ (an object that cannot move) or 1.
        drivable_area_compliance: 0 or 1.
        driving_direction_compliance: 0, ½ or 1.
        traffic_light_compliance: 0 or 1.
        ego_progress: in [0, 1], under the multipliers of PDMS.
        time_to_collision: 0 or 1.
        lane_keeping: 0 or 1.
        history_comfort: 0 or 1, over past and plan.
        comfort: 0 or 1, over the plan (NAVSIM v1).
        extended_comfort: 0 or 1; NaN without a previous plan.
        pdms: PDM score (NAVSIM v1).
        epdms: extended PDM score (NAVSIM v2); without a previous plan its weights sum to 14, not 16.
        progress: m along the route, not negative.
        failure_time: ``[N, 9]`` s from the start at which each `SubScore` first failed; infinite if it did not.
            History comfort may fail before the start; extended comfort, which judges a whole plan, fails at 0.
        hit_agent: int32, slot of the road user first hit at fault, −1 none.
        ttc_agent: int32, slot of the one first found too close ahead, −1 none.
        extended_progress: ego progress under the multipliers of EPDMS.
    """

    no_at_fault_collisions: jax.Array
    drivable_area_compliance: jax.Array
    driving_direction_compliance: jax.Array
    traffic_light_compliance: jax.Array
    ego_progress: jax.Array
    time_to_collision: jax.Array
    lane_keeping: jax.Array
    history_comfort: jax.Array
    comfort: jax.Array
    extended_comfort: jax.Array
    pdms: jax.Array
    epdms: jax.Array
    progress: jax.Array
    failure_time: jax.Array
    hit_agent: jax.Array
    ttc_agent: jax.Array
    extended_progress: jax.Array


class Driven(NamedTuple):
    """Motion of N candidates at T steps from the start on, ``[T, N]`` each.

    Attributes:
        x, y: box centre [m], scenario frame.
        cos, sin: of the heading.
        rear_x, rear_y: rear axle [m].
        heading: rad from the heading at the start, without jumps.
        speed: of the rear axle, along the heading [m/s].
        acceleration, lateral: of the rear axle, along and across the heading [m/s²].
        yaw_rate, yaw_acceleration: rad/s, rad/s².
    """

    x: jax.Array
    y: jax.Array
    cos: jax.Array
    sin: jax.Array
    rear_x: jax.Array
    rear_y: jax.Array
    heading: jax.Array
    speed: jax.Array
    acceleration: jax.Array
    lateral: jax.Array
    yaw_rate: jax.Array
    yaw_acceleration: jax.Array
