"""Tags of a scene, for filters: pure functions of a `Scenario`.

Tags speak about the ego where the log names one; the tags of traffic and map then cover what lies within
`NEAR` of it. The thresholds are our own choice.
"""

from __future__ import annotations

import numpy as np

from perlsim.scenario import Scenario
from perlsim.vocabulary import AgentType, LaneType, LightState

NEAR = 50.0  # m round the ego in which traffic counts
STANDSTILL = 0.3  # m/s
STOP_TIME = 1.0  # s below STANDSTILL that make a stop
STOPPED_DISTANCE = 2.0  # m driven in all, below which the ego was stopped
CURVED_ANGLE = np.deg2rad(15.0)
TURN_ANGLE = np.deg2rad(45.0)
FAST_SPEED = 60.0 / 3.6  # m/s
DENSE_AGENTS = 20.0  # mean number near
SPARSE_AGENTS = 5.0
JUNCTION_DISTANCE = 3.0  # m between the ego and the centre line of a lane inside a junction

TAGS = {
    "stopped": f"the ego drives less than {STOPPED_DISTANCE:g} m in all",
    "moving": f"the ego drives {STOPPED_DISTANCE:g} m or more",
    "stops": f"the ego moves, and stands (< {STANDSTILL:g} m/s) for {STOP_TIME:g} s or more",
    "fast": f"the ego exceeds {FAST_SPEED * 3.6:g} km/h",
    "curved": "the ego's heading changes by 15 degrees or more",
    "turning_left": "the ego's heading ends 45 degrees or more to the left of its start",
    "turning_right": "the ego's heading ends 45 degrees or more to the right of its start",
    "lane_change": "the ego's route moves into a neighbouring lane",
    "highway": "the ego's route uses motorway lanes",
    "junction": "the ego crosses a junction (without an ego: the map holds one)",
    "signalised": "a traffic light has a known state",
    "dense": f"on average {DENSE_AGENTS:g} or more road users within {NEAR:g} m of the ego",
    "sparse": f"on average {SPARSE_AGENTS:g} or fewer road users within {NEAR:g} m of the ego",
    "pedestrians": f"a pedestrian comes within {NEAR:g} m of the ego",
    "cyclists": f"a cyclist comes within {NEAR:g} m of the ego",
    "no_ego": "the log names no ego",
    "no_lane_graph": "the map has no lanes, or none that leads to or lies beside another",
}


def tags_of(scenario: Scenario) -> tuple[str, ...]:
    """The tags of a scenario in the order of `TAGS`."""
    found = _traffic_tags(scenario) | _map_tags(scenario)
    found |= _motion_tags(scenario) if scenario.has_ego else {"no_ego"}
    return tuple(tag for tag in TAGS if tag in found)


def _motion_tags(scenario: Scenario) -> set[str]:
    tracks, ego = scenario.tracks, scenario.ego.idx
    valid = tracks.valid[ego]
    if valid.sum() < 2:
        return set()
    position = tracks.position[ego, valid, :2].astype(np.float64)
    speed = np.linalg.norm(tracks.velocity[ego, valid], axis=-1)
    turned = np.unwrap(tracks.heading[ego, valid].astype(np.float64))
    turned = turned - turned[0]
    driven = np.linalg.norm(np.diff(position, axis=0), axis=-1).sum()

    found = {"moving"} if driven >= STOPPED_DISTANCE else {"stopped"}
    if "moving" in found and _longest_run(speed < STANDSTILL) * scenario.dt >= STOP_TIME:
        found.add("stops")
    if speed.max() > FAST_SPEED:
        found.add("fast")
    if np.abs(turned).max() >= CURVED_ANGLE:
        found.add("curved")
    if abs(turned[-1]) >= TURN_ANGLE:
        found.add("turning_left" if turned[-1] > 0 else "turning_right")
    if _nearest_junction(scenario, position) <= JUNCTION_DISTANCE:
        found.add("junction")
    return found | _route_tags(scenario)


def _route_tags(scenario: Scenario) -> set[str]:
    lanes, on_route = scenario.road.lanes, scenario.route.lane_idx
    on_route = on_route[on_route >= 0]
    found = set()
    if (lanes.kind[on_route] == LaneType.FREEWAY).any():
        found.add("highway")
    changes = np.flatnonzero(np.diff(on_route))
    for current, following in zip(on_route[changes], on_route[changes + 1], strict=True):
        if following in lanes.left[current] or following in lanes.right[current]:
            found.add("lane_change")
    return found


def _map_tags(scenario: Scenario) -> set[str]:
    lanes = scenario.road.lanes
    found = set()
    if not scenario.has_ego and lanes.in_junction.any():
        found.add("junction")
    if not any(len(links.values) for links in (lanes.successors, lanes.left, lanes.right)):
        found.add("no_lane_graph")
    known = (scenario.lights.state != LightState.UNKNOWN) & (scenario.lights.state != LightState.OFF)
    if known.any():
        found.add("signalised")
    return found


def _traffic_tags(scenario: Scenario) -> set[str]:
    tracks, ego = scenario.tracks, scenario.ego.idx
    near = tracks.valid & (tracks.kind != AgentType.STATIC)[:, None]
    if scenario.has_ego:
        # Squared distances: hundreds of agents times hundreds of steps, so no needless root.
        offset = tracks.position[..., :2] - tracks.position[ego, None, :, :2]
        near = near & tracks.valid[ego] & (np.square(offset).sum(-1) <= NEAR**2)
        near[ego] = False
    steps = tracks.valid[ego].sum() if scenario.has_ego else tracks.num_steps
    mean = near.sum() / max(steps, 1)

    found = set()
    if mean >= DENSE_AGENTS:
        found.add("dense")
    if mean <= SPARSE_AGENTS:
        found.add("sparse")
    for tag, kind in (("pedestrians", AgentType.PEDESTRIAN), ("cyclists", AgentType.CYCLIST)):
        if near[tracks.kind == kind].any():
            found.add(tag)
    return found


def _nearest_junction(scenario: Scenario, position: np.ndarray) -> float:
    lanes = scenario.road.lanes
    low, high = position.min(0) - JUNCTION_DISTANCE, position.max(0) + JUNCTION_DISTANCE
    lines = [lanes.centre[lane][:, :2] for lane in np.flatnonzero(lanes.in_junction).tolist()]
    near = [line for line in lines if (line.min(0) <= high).all() and (line.max(0) >= low).all()]
    if not near:
        return np.inf
    # Resampled to a point per metre or so: centre lines may have few, far points.
    dense = np.concatenate([_densify(line) for line in near])
    squared = np.square(position[::2, None] - dense[None]).sum(-1)
    return float(np.sqrt(squared.min()))


def _densify(line: np.ndarray) -> np.ndarray:
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=-1))])
    stations = np.linspace(0.0, along[-1], int(along[-1]) + 2)
    return np.stack([np.interp(stations, along, line[:, axis]) for axis in (0, 1)], -1)


def _longest_run(mask: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))
