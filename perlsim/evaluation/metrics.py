"""The metrics of an evaluation: names, labels, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One column of the table.

    Attributes:
        key: in JSON.
        label: on screen.
        group: heading above it.
        higher_is_better: which way is better; None neither.
        is_percent: whether its mean is shown as a percentage.
        digits: shown after the point.
    """

    key: str
    label: str
    group: str
    higher_is_better: bool | None = True
    is_percent: bool = False
    digits: int = 3


_NAVSIM = "NAVSIM protocol: one plan of 4 s"
_LOOP = "closed loop with replanning"
METRICS = (
    Metric("epdms", "EPDMS", _NAVSIM),
    Metric("pdms", "PDMS", _NAVSIM),
    Metric("no_at_fault_collisions", "no at-fault collisions NC", _NAVSIM),
    Metric("drivable_area_compliance", "drivable area DAC", _NAVSIM),
    Metric("driving_direction_compliance", "driving direction DDC", _NAVSIM),
    Metric("traffic_light_compliance", "traffic lights TLC", _NAVSIM),
    Metric("ego_progress", "ego progress EP", _NAVSIM),
    Metric("time_to_collision", "time to collision TTC", _NAVSIM),
    Metric("lane_keeping", "lane keeping LK", _NAVSIM),
    Metric("history_comfort", "history comfort HC", _NAVSIM),
    Metric("comfort", "comfort C", _NAVSIM),
    Metric("extended_comfort", "extended comfort EC", _NAVSIM),
    Metric("two_stage_epdms", "EPDMS in two stages", _NAVSIM),
    Metric("two_stage_pdms", "PDMS in two stages", _NAVSIM),
    Metric("collision", "collisions", _LOOP, False, True),
    Metric("at_fault_collision", "at-fault collisions", _LOOP, False, True),
    Metric("off_road", "off the road", _LOOP, False, True),
    Metric("red_light", "red lights run", _LOOP, False, True),
    Metric("route_progress", "progress along the route [m]", _LOOP, True, digits=1),
    Metric("ade", "distance to the log, mean: ADE [m]", _LOOP, None, digits=2),
    Metric("fde", "distance to the log at the end: FDE [m]", _LOOP, None, digits=2),
    Metric("min_ttc", "least time to collision [s]", _LOOP, True, digits=2),
    Metric("hard_brakes_forced", "hard brakes forced on others", _LOOP, False, digits=3),
)
BY_KEY = {metric.key: metric for metric in METRICS}


def cell(metric: Metric, entry: dict | None, scenes: int) -> str:
    """Mean and interval as text; "n/a" where it is not available, the count where it is not of every scene.

    Args:
        metric: which.
        entry: of `perlsim.evaluation.statistics.clustered_means`.
        scenes: how many there are.
    """
    if entry is None or entry["mean"] is None:
        return "n/a"
    factor, digits, sign = (100, 1, "%") if metric.is_percent else (1, metric.digits, "")
    text = f"{entry['mean'] * factor:.{digits}f}{sign}"
    if entry["low"] is not None:
        text += f" [{entry['low'] * factor:.{digits}f}, {entry['high'] * factor:.{digits}f}]"
    return text if entry["count"] == scenes else f"{text} n={entry['count']}"
