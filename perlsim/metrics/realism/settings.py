"""What is compared, with which bins and weights: the public settings of the Waymo Open Sim Agents Challenge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Feature(NamedTuple):
    """How one feature is scored.

    Attributes:
        name: field of `perlsim.metrics.realism.features.Features`.
        low, high: range of the histogram, in the feature's unit; values beyond it count in its end bins.
        num_bins: number of equal bins.
        smoothing: added to the count of each bin, so that none is empty.
        weight: in the meta metric.
        once: whether a road user has one value in a scene, "did it ever", rather than one at each step.
    """

    name: str
    low: float
    high: float
    num_bins: int
    smoothing: float
    weight: float
    once: bool = False


def _indicator(name: str, weight: float) -> Feature:
    # 0 and 1 in a bin each.
    return Feature(name, -0.5, 1.5, 2, 0.001, weight, once=True)


# `challenge_2025_sim_agents_config.textproto` of the Waymo Open Dataset; the smoothing of indicators is the default of
# its schema.
CHALLENGE_2025 = (
    Feature("linear_speed", 0.0, 25.0, 10, 0.1, 0.05),
    Feature("linear_acceleration", -12.0, 12.0, 11, 0.1, 0.05),
    Feature("angular_speed", -0.628, 0.628, 11, 0.1, 0.05),
    Feature("angular_acceleration", -3.14, 3.14, 11, 0.1, 0.05),
    Feature("distance_to_nearest_object", -5.0, 40.0, 10, 0.1, 0.1),
    _indicator("collision_indication", 0.25),
    Feature("time_to_collision", 0.0, 5.0, 10, 0.1, 0.1),
    Feature("distance_to_road_edge", -20.0, 40.0, 10, 0.1, 0.05),
    _indicator("offroad_indication", 0.25),
    _indicator("traffic_light_violation", 0.05),
)

# `challenge_2024_config.textproto`: the same without traffic lights, whose weight the distance to the edge had.
CHALLENGE_2024 = tuple(
    feature._replace(weight=0.1) if feature.name == "distance_to_road_edge" else feature
    for feature in CHALLENGE_2025
    if feature.name != "traffic_light_violation"
)

# The challenge's groups of features.
GROUPS = {
    "kinematic": ("linear_speed", "linear_acceleration", "angular_speed", "angular_acceleration"),
    "interactive": ("distance_to_nearest_object", "collision_indication", "time_to_collision"),
    "map_based": ("distance_to_road_edge", "offroad_indication", "traffic_light_violation"),
}


@dataclass(frozen=True)
class RealismSettings:
    """What is simulated and how it is scored; the defaults are those of the challenge of 2025.

    Attributes:
        start: step of the log at which simulation begins, after a second of history.
        horizon: simulated steps of 0.1 s.
        features: what is scored.
        least_driven: m; who drives less than this in the logged future is simulated but not scored. Parked cars are
            easy, and the challenge's choice of whom to predict holds few of them.
    """

    start: int = 10
    horizon: int = 80
    features: tuple[Feature, ...] = CHALLENGE_2025
    least_driven: float = 0.0
