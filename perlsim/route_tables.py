"""What a bank holds along the ego's route: speed limits, and the stop lines that govern it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perlsim.agent_paths import lines_on_path
from perlsim.bank import AGENT_PATH_SPACING, PATH_HEADING, PATH_X, PATH_Z
from perlsim.geometry.polylines import arc_lengths, interpolate
from perlsim.scenario import Scenario


def route_tables(scenarios: Sequence[Scenario], routes: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays ``route_limit`` and ``route_stops`` of a `perlsim.bank.ScenarioBank`.

    Args:
        scenarios: the scenarios.
        routes: of each the points of its route in the bank ``[n, 2]``, before padding.
    """
    stops = [_stops(scenario) for scenario in scenarios]
    limits = np.full((len(scenarios), max(map(len, routes))), np.nan, np.float32)
    table = np.full((len(scenarios), max([1, *map(len, stops)]), 2), -1.0, np.float32)
    for row, (scenario, own) in enumerate(zip(scenarios, stops, strict=True)):
        limits[row] = _limits(scenario, limits.shape[1])
        table[row, : len(own)] = own
    return {"route_limit": limits, "route_stops": table}


def _limits(scenario: Scenario, count: int) -> np.ndarray:
    """Limits [m/s] of the lanes under the first ``count`` points of the route.

    Where the route is on no lane, or on one without a limit, the last known limit goes on; before the first known
    one, that one holds.
    """
    lane = scenario.route.lane_idx
    limits = np.full(len(lane), np.nan)
    on = lane >= 0
    if len(scenario.road.lanes):
        limits[on] = scenario.road.lanes.speed_limit[lane[on]]
    known = np.flatnonzero(limits > 0)
    if not len(known):
        return np.full(count, np.nan)
    last = np.searchsorted(known, np.arange(count), side="right") - 1
    return limits[known[np.maximum(last, 0)]]


def _stops(scenario: Scenario) -> np.ndarray:
    """Arcs on the route of the stop lines that govern it, and their indices in the bank ``[n, 2]``.

    Lights come first in a bank's stop lines, then signs.
    """
    points = scenario.route.points.astype(np.float64)
    lights, signs = scenario.lights, scenario.road.stop_signs
    if len(points) < 2 or not (len(lights.position) or len(signs.position)):
        return np.zeros((0, 2))
    points = interpolate(points, np.arange(0.0, arc_lengths(points)[-1], AGENT_PATH_SPACING))
    chord = np.diff(points, axis=0, append=2 * points[-1:] - points[-2:-1])
    path = np.zeros((len(points), 5))
    path[:, PATH_X : PATH_X + 2] = points[:, :2]
    path[:, PATH_HEADING] = np.unwrap(np.arctan2(chord[:, 1], chord[:, 0]))
    path[:, PATH_Z] = points[:, 2]
    by_sign = lines_on_path(scenario, signs, path) + np.array([0.0, len(lights.position)])
    found = np.concatenate([lines_on_path(scenario, lights, path), by_sign])
    return found[np.argsort(found[:, 0], kind="stable")]
