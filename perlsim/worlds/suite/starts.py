"""Starts of drives moved off the route's own, so that logs show how to get back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from perlsim.geometry.polylines import headings, interpolate, wrap
from perlsim.scenario import Array, Scenario
from perlsim.worlds.suite.scene import Case

# Room to everyone else [m, S], and draws before a start stays as it was.
ROOM, TRIES = 3.0, 20


class Bounds(NamedTuple):
    """Most by which a start is moved: to either side and along the route [m], heading [rad], speed [m/s]."""

    aside: float
    along: float
    heading: float
    speed: float


def moved_start(case: Case, bounds: Bounds, seed: Sequence[int]) -> Case:
    """The case with the ego moved aside, ahead, turned, and with a speed, each drawn uniformly.

    Args:
        case: whose ego stands at the route's start.
        bounds: to either side, but along the route only ahead and of speed only forward.
        seed: of the draw.

    Returns:
        The case as it was, where in `TRIES` draws no start keeps `ROOM` from everyone.
    """
    scenario, rng = case.scenario, np.random.default_rng(list(seed))
    route = scenario.route.points.astype(np.float64)
    for _ in range(TRIES):
        aside, turned = rng.uniform(-1.0, 1.0, 2) * (bounds.aside, bounds.heading)
        along, speed = rng.uniform(0.0, 1.0, 2) * (bounds.along, bounds.speed)
        ahead = int(along)  # route points are 1 m apart
        way = float(headings(route)[min(ahead, len(route) - 1)])
        place = interpolate(route, np.array([along]))[0] + aside * np.array([-np.sin(way), np.cos(way), 0.0])
        if _is_free(scenario, place):
            return _begun_at(case, place, way + turned, speed)
    return case


def _is_free(scenario: Scenario, place: Array) -> bool:
    tracks = scenario.tracks
    others = tracks.valid[1:, 0]
    apart = np.hypot(*(tracks.position[1:, 0, :2] - place[:2]).T)
    reach = np.hypot(tracks.size[1:, 0], tracks.size[1:, 1]) / 2 + tracks.size[0, 0] / 2 + ROOM
    return not (others & (apart < reach)).any()


def _begun_at(case: Case, place: Array, heading: float, speed: float) -> Case:
    tracks = case.scenario.tracks
    position, headings_, velocity = (a.copy() for a in (tracks.position, tracks.heading, tracks.velocity))
    position[0, 0], headings_[0, 0] = place, wrap(np.array(heading))
    velocity[0, 0] = speed * np.cos(heading), speed * np.sin(heading)
    moved = replace(tracks, position=position, heading=headings_, velocity=velocity)
    return replace(case, scenario=case.scenario.replace(tracks=moved))
