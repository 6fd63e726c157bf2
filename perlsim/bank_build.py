"""Builds `ScenarioBank`s from `Scenario`s on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perlsim.agent_paths import agent_paths_of, no_paths, stacked
from perlsim.bank import (
    COS,
    LINE_HALF_WIDTH,
    PATH_SPACING,
    SIN,
    STEP,
    VALID,
    BankInfo,
    HostBank,
    ScenarioBank,
    X,
    Y,
)
from perlsim.errors import PerlsimError
from perlsim.geometry.polylines import arc_lengths, interpolate, project, wrap
from perlsim.road_tables import piece_tables, road_tables
from perlsim.route_tables import route_tables
from perlsim.scenario import Scenario

# Margin of the lookups around everything that drives [m].
MARGIN = 30.0
# Straight extension of paths and routes [m], so that a plan never runs off them.
EXTENSION = 60
DEFAULT_LINE_HALF_WIDTH = 1.75
# A log whose ego drove less than this [m] has no goal to reach.
LEAST_DRIVEN = 5.0
# Acceleration at full throttle [m/s²], and the throttle that controllers allow themselves. An ego that
# accelerated faster in its log gets an engine that can.
THROTTLE_ACCELERATION, FULL_THROTTLE = 3.0, 0.75
# Buckets: sizes are rounded up to these so that scenarios of similar size share one compiled program.
AGENT_BUCKETS = (16, 32, 64, 128, 256, 512, 1024)


def bucket_of(scenario: Scenario, max_agents: int | None = None) -> int:
    """Agent slots of the bucket that a scenario belongs in.

    Raises:
        PerlsimError: with more road users than the largest bucket and no explicit limit.
    """
    count = scenario.tracks.num_agents + (not scenario.has_ego)
    if max_agents is not None:
        return min(next((b for b in AGENT_BUCKETS if b >= count), max_agents), max_agents)
    for size in AGENT_BUCKETS:
        if size >= count:
            return size
    raise PerlsimError(
        f"scenario {scenario.scenario_id} has {count} road users, more than {AGENT_BUCKETS[-1]}",
        remedy="limit them with --max-agents",
    )


def build_bank(
    scenarios: Sequence[Scenario],
    *,
    max_agents: int | None = None,
    outcomes_for: str = "ego",
    observed_pieces: tuple[int, int] | None = (64, 40),
    agent_paths: bool = False,
    in_order: bool = False,
) -> HostBank:
    """Puts scenarios into one bank of numpy arrays; `jax.device_put` moves it to the device.

    Args:
        scenarios: finalized scenarios of one bucket (any sizes work, at the price of padding).
        max_agents: agent slots, ego included; the road users that come nearest to the ego are kept. None
            keeps all.
        outcomes_for: "ego", or "all" where outcomes of every road user are asked for, whose larger footprints
            need a farther lookup of markings.
        observed_pieces: most lane and boundary pieces of an observation; None where nothing is observed.
        agent_paths: whether to add the lane paths that reacting road users follow.
        in_order: whether road users keep their order, the ego first, in place of nearest first.

    Raises:
        PerlsimError: without scenarios.
    """
    if not scenarios:
        raise PerlsimError("no scenarios to simulate", remedy="import or generate some first")
    slots = max(bucket_of(scenario, max_agents) for scenario in scenarios)
    tracks = [_Tracks(scenario, slots, in_order) for scenario in scenarios]
    paths = [_Paths(scenario, track) for scenario, track in zip(scenarios, tracks, strict=True)]
    steps = max(track.rows.shape[0] for track in tracks)
    everyone = outcomes_for == "all"
    reach = max(track.reach(everyone) for track in tracks)
    extents = [
        _extent(scenario, track, path, everyone)
        for scenario, track, path in zip(scenarios, tracks, paths, strict=True)
    ]
    tables, overflow = road_tables(scenarios, extents, reach, everyone)
    tables |= piece_tables(scenarios, extents, observed_pieces)
    stop_lines, light_state = _stop_lines(scenarios, tracks, steps)
    valid = np.concatenate([track.rows[:, 7].ravel() for track in tracks]).sum()
    arrays: dict[str, Any] = {
        "tracks": np.stack([_pad(track.rows, 0, steps) for track in tracks]),
        "boxes": np.stack([track.boxes for track in tracks]),
        "num_steps": np.array([track.rows.shape[0] for track in tracks], np.int32),
        "has_ego": np.array([scenario.has_ego for scenario in scenarios]),
        "chassis": np.array(
            [_chassis(s, path) for s, path in zip(scenarios, paths, strict=True)], np.float32
        ),
        "log_path": _stack_paths([path.driven for path in paths]),
        "log_arc": np.stack([_pad(path.arc, 0, steps, edge=True) for path in paths]).astype(np.float32),
        "log_speed": np.stack([_pad(path.speed, 0, steps, edge=True) for path in paths]).astype(np.float32),
        "route": _stack_paths([path.route for path in paths]),
        "goal_arc": np.array([path.goal_arc for path in paths], np.float32),
        **route_tables(scenarios, [path.route for path in paths]),
        "stop_lines": stop_lines,
        "light_state": light_state,
        "has_edges": np.array([len(scenario.road.edges) > 0 for scenario in scenarios]),
        "has_lanes": np.array([len(scenario.road.lanes) > 0 for scenario in scenarios]),
        "log_poses": _log_poses(tracks, steps if observed_pieces else 1),
        "log_events": np.zeros((len(scenarios), 1, 1), np.int32),
        "once": np.int32(1),
        **tables,
        **(_agent_paths(scenarios, tracks, steps) if agent_paths else no_paths()),
    }
    info = BankInfo(
        scenario_ids=tuple(scenario.scenario_id for scenario in scenarios),
        sources=tuple(scenario.source for scenario in scenarios),
        num_agents=slots,
        dropped_agents=sum(track.dropped for track in tracks),
        pad_fraction=float(1 - valid / (len(scenarios) * steps * slots)),
        overflowing_cells=overflow,
        map_points=max(_map_points(scenario) for scenario in scenarios),
    )
    return HostBank(
        ScenarioBank(**arrays),
        info,
        np.stack([scenario.origin for scenario in scenarios]),
        np.array([track.first for track in tracks]),
        np.array([track.last for track in tracks]),
    )


class _Tracks:
    """Tracks of one scenario at `STEP` intervals, ego first, in the layout of a bank.

    Attributes:
        rows: float32 ``[T, 8, A]``; boxes: float32 ``[3, A]``; dropped: road users left out;
        first, last: first and last step at which the ego is valid (the whole log without one).
    """

    def __init__(self, scenario: Scenario, slots: int, in_order: bool = False):
        tracks = scenario.tracks
        order = np.arange(tracks.num_agents) if in_order else agent_order(scenario)
        self.dropped = max(len(order) + (not scenario.has_ego) - slots, 0)
        first_slot = 0 if scenario.has_ego else 1
        order = order[: slots - first_slot]
        position, heading, velocity, valid = _resampled(scenario)
        self.rows = np.zeros((position.shape[1], 8, slots), np.float32)
        self.rows[:, 3] = 1.0
        used = slice(first_slot, first_slot + len(order))
        self.rows[:, 0:3, used] = position[order].transpose(1, 2, 0)
        self.rows[:, 3, used] = np.cos(heading[order]).T
        self.rows[:, 4, used] = np.sin(heading[order]).T
        self.rows[:, 5:7, used] = velocity[order].transpose(1, 2, 0)
        self.rows[:, 7, used] = valid[order].T
        self.boxes = np.zeros((3, slots), np.float32)
        self.boxes[:2] = 0.5
        self.boxes[0, used] = tracks.size[order, 0] / 2
        self.boxes[1, used] = tracks.size[order, 1] / 2
        self.boxes[2, used] = tracks.kind[order]
        known = np.flatnonzero(self.rows[:, 7, 0]) if scenario.has_ego else np.arange(len(self.rows))
        self.first, self.last = int(known[0]), int(known[-1])

    def reach(self, everyone: bool) -> float:
        """Half diagonal [m] of the largest footprint that outcomes are asked for."""
        half = self.boxes[:2] if everyone else self.boxes[:2, :1]
        return float(np.hypot(half[0], half[1]).max())


def _log_poses(tracks: list[_Tracks], steps: int) -> np.ndarray:
    """`ScenarioBank.log_poses`."""
    rows = np.stack([_pad(track.rows[:steps], 0, steps) for track in tracks])
    poses = np.stack([rows[:, :, X], rows[:, :, Y], rows[:, :, COS], rows[:, :, SIN]], -1)
    return poses * rows[:, :, VALID, :, None]


def _agent_paths(scenarios, tracks: list[_Tracks], steps: int) -> dict[str, np.ndarray]:
    """Lane paths of all road users."""
    pairs = zip(scenarios, tracks, strict=True)
    return stacked([agent_paths_of(scenario, track.rows, track.boxes[2]) for scenario, track in pairs], steps)


def agent_order(scenario: Scenario) -> np.ndarray:
    """Indices of the road users, ego first, then by least distance to it over the log."""
    tracks = scenario.tracks
    if not tracks.num_agents:
        return np.zeros(0, int)
    anchor = tracks.position[scenario.ego.idx] if scenario.has_ego else np.zeros_like(tracks.position[0])
    both = tracks.valid & (tracks.valid[scenario.ego.idx] if scenario.has_ego else True)
    distance = np.hypot(*(tracks.position - anchor)[..., :2].transpose(2, 0, 1))
    nearest = np.where(both, distance, np.inf).min(1)
    if scenario.has_ego:
        nearest[scenario.ego.idx] = -1.0
    return np.argsort(nearest, kind="stable")


def _resampled(scenario: Scenario):
    """Tracks at `STEP` intervals: position, heading, velocity ``[A, T, …]``, valid ``[A, T]``.

    Between two valid logged steps values are interpolated (headings the short way round); next to an
    invalid one the road user counts as invalid.
    """
    tracks = scenario.tracks
    if abs(scenario.dt - STEP) < 1e-6:
        return tracks.position, tracks.heading, tracks.velocity, tracks.valid
    times = np.arange(int(np.floor(scenario.duration / STEP + 1e-6)) + 1) * STEP / scenario.dt
    low = np.minimum(times.astype(int), tracks.num_steps - 1)
    share = np.where(np.abs(times - np.round(times)) < 1e-4, np.round(times) - low, times - low)
    high = np.minimum(low + (share > 0), tracks.num_steps - 1)
    weight = share[None, :, None]
    position = tracks.position[:, low] * (1 - weight) + tracks.position[:, high] * weight
    velocity = tracks.velocity[:, low] * (1 - weight) + tracks.velocity[:, high] * weight
    turn = wrap(tracks.heading[:, high] - tracks.heading[:, low])
    return (
        position,
        tracks.heading[:, low] + share * turn,
        velocity,
        tracks.valid[:, low] & tracks.valid[:, high],
    )


class _Paths:
    """Driven path and route of the ego, every `PATH_SPACING` m."""

    def __init__(self, scenario: Scenario, track: _Tracks):
        ego = track.rows[:, :, 0].astype(np.float64)
        known = np.flatnonzero(ego[:, 7])
        if not scenario.has_ego or not len(known):
            self.driven = self.route = np.zeros((2, 2))
            self.arc = self.speed = np.zeros(len(ego))
            self.goal_arc = np.inf
            return
        steps = np.arange(len(ego))
        place = np.stack([np.interp(steps, known, ego[known, axis]) for axis in (0, 1)], 1)
        heading = np.arctan2(ego[known, 4], ego[known, 3])
        line = _thinned(place)
        self.driven = _extended(line, heading[0] if len(line) < 2 else None)
        along = ego[:, 5] * ego[:, 3] + ego[:, 6] * ego[:, 4]
        self.speed = np.maximum(np.interp(steps, known, along[known]), 0.0)
        self.arc = np.maximum.accumulate(project(self.driven, place).arc)
        route = scenario.route.points[:, :2].astype(np.float64)
        self.route = _extended(route, None) if len(route) > 1 else self.driven
        self.goal_arc = project(self.route, place[-1:]).arc[0] if self.arc[-1] > LEAST_DRIVEN else np.inf


def _thinned(place: np.ndarray) -> np.ndarray:
    """Positions at least half a metre apart, so that the jitter of a standing car is no path."""
    kept = [0]
    for step in range(1, len(place)):
        if np.hypot(*(place[step] - place[kept[-1]])) >= 0.5:
            kept.append(step)
    return place[kept]


def _extended(line: np.ndarray, heading: float | None) -> np.ndarray:
    """A line every `PATH_SPACING` m, prolonged straight by `EXTENSION` m."""
    if heading is None:
        step = line[-1] - line[-2]
        direction = step / max(np.hypot(*step), 1e-9)
    else:
        direction = np.array([np.cos(heading), np.sin(heading)])
    line = np.concatenate([line, line[-1:] + direction * (EXTENSION + PATH_SPACING)])
    length = arc_lengths(line)[-1]
    return interpolate(line, np.arange(0.0, length, PATH_SPACING))


def _stack_paths(paths: list[np.ndarray]) -> np.ndarray:
    """Paths padded to one length by going on straight, float32 ``[S, P, 2]``."""
    longest = max(map(len, paths))
    stacked = np.zeros((len(paths), longest, 2), np.float32)
    for row, path in enumerate(paths):
        more = np.arange(1, longest - len(path) + 1)[:, None]
        stacked[row] = np.concatenate([path, path[-1] + more * (path[-1] - path[-2])])
    return stacked


def _pad(values: np.ndarray, axis: int, size: int, edge: bool = False) -> np.ndarray:
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, size - values.shape[axis])
    return np.pad(values, widths, mode="edge" if edge else "constant")


def _chassis(scenario: Scenario, path: _Paths) -> tuple[float, float, float]:
    """See `ScenarioBank.chassis`."""
    if not scenario.has_ego:
        return 3.0, 1.5, THROTTLE_ACCELERATION
    window = round(0.5 / STEP)
    gained = path.speed[window:] - path.speed[:-window]
    fastest = gained.max(initial=0.0) / (window * STEP)
    throttle = max(THROTTLE_ACCELERATION, fastest / FULL_THROTTLE)
    return scenario.ego.wheelbase, scenario.ego.rear_axle_to_centre, throttle


def _stop_lines(scenarios, tracks, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Stop lines of lights and signs ``[S, 7, L]`` and the states of the lights ``[S, T, L]``."""
    count = max([1] + [len(s.lights.position) + len(s.road.stop_signs.position) for s in scenarios])
    lines = np.zeros((len(scenarios), 7, count), np.float32)
    lines[:, 2] = 1.0
    state = np.zeros((len(scenarios), steps, count), np.int8)
    for row, (scenario, track) in enumerate(zip(scenarios, tracks, strict=True)):
        lights, signs = scenario.lights, scenario.road.stop_signs
        position = np.concatenate([lights.position, signs.position])
        heading = np.concatenate([lights.heading, signs.heading])
        lane = np.concatenate([lights.lane_idx, signs.lane_idx]).astype(int)
        used = len(position)
        if not used:
            continue
        lines[row, 0:2, :used] = position[:, :2].T
        lines[row, 2, :used], lines[row, 3, :used] = np.cos(heading), np.sin(heading)
        lines[row, LINE_HALF_WIDTH, :used] = [
            _line_half_width(scenario, k, position[i]) for i, k in enumerate(lane)
        ]
        lines[row, 5, :used] = position[:, 2]
        lines[row, 6, len(lights.position) : used] = 1.0
        if len(lights.position):
            # After the log's end its last states hold.
            logged = np.minimum(np.arange(steps), len(track.rows) - 1)
            times = np.round(logged * STEP / scenario.dt - 1e-4).astype(int)
            times = np.clip(times, 0, lights.state.shape[1] - 1)
            state[row, :, : len(lights.position)] = lights.state[:, times].T
    return lines, state


def _line_half_width(scenario: Scenario, lane: int, position: np.ndarray) -> float:
    """Half the width [m] of the lane at a stop line."""
    if lane < 0:
        return DEFAULT_LINE_HALF_WIDTH
    lanes = scenario.road.lanes
    first, last = lanes.centre.offsets[lane], lanes.centre.offsets[lane + 1]
    nearest = first + np.argmin(np.hypot(*(lanes.centre.values[first:last, :2] - position[:2]).T))
    return float(lanes.width[nearest]) / 2


def _extent(
    scenario: Scenario, track: _Tracks, path: _Paths, everyone: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Box [m] around all that drives, or the ego alone, with a margin: where lookups are needed."""
    valid = track.rows[:, 7].T > 0
    if scenario.has_ego and not everyone:
        valid[1:] = False
    places: list[np.ndarray] = [track.rows[:, :2].transpose(2, 0, 1)[valid]]
    if scenario.has_ego:
        places.append(path.route)
    points = np.concatenate(places)
    if not len(points):
        points = scenario.road.lanes.centre.values[:, :2] if len(scenario.road.lanes) else np.zeros((1, 2))
    return points.min(0) - MARGIN, points.max(0) + MARGIN


def _map_points(scenario: Scenario) -> int:
    road = scenario.road
    return len(road.edges.values) + len(road.markings.line.values) + len(road.lanes.centre.values)
