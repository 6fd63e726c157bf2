"""Result files in the form of CARLA's Leaderboard 2, as Bench2Drive's public scripts read them.

Places are CARLA's: left-handed, y flipped. A file names its suite, and each record what of its route was left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perlsim import __version__
from perlsim.bank import STEP
from perlsim.geometry import polylines
from perlsim.metrics.bench2drive import PENALTIES
from perlsim.metrics.comfort import Motion
from perlsim.output import as_json, write_file
from perlsim.scenario import Array
from perlsim.worlds.suite.criteria import COMPLETE_SHARE, LAST_CHECKPOINT, TICK, Infraction, Status
from perlsim.worlds.suite.drive import Drives
from perlsim.worlds.suite.scene import MAX_STEPS, MAX_TICKS, Case
from perlsim.worlds.suite.stages import TIMEOUT

# The Leaderboard's words for how a drive ended.
STATUS_TEXTS = {
    Status.COMPLETED: "Completed",
    Status.DEVIATED: "Failed - Agent deviated from the route",
    Status.BLOCKED: "Failed - Agent got blocked",
    Status.OUT_OF_TIME: "Failed - TickRuntime",
    Status.BROKEN: "Failed - Simulation crashed",
}
# Keys of a record's infractions, in the Leaderboard's order.
KINDS = (
    "collisions_layout",
    "collisions_pedestrian",
    "collisions_vehicle",
    "red_light",
    "stop_infraction",
    "outside_route_lanes",
    "min_speed_infractions",
    "yield_emergency_vehicle_infractions",
    "scenario_timeouts",
    "route_dev",
    "vehicle_blocked",
    "route_timeout",
)
_COLLISIONS = {
    Infraction.LAYOUT: "collisions_layout",
    Infraction.PEDESTRIAN: "collisions_pedestrian",
    Infraction.VEHICLE: "collisions_vehicle",
}
# m from where a scenario begins within which the ego sets it off.
_REACHED = 5.0
_LABELS = {
    "Collisions with pedestrians": "collisions_pedestrian",
    "Collisions with vehicles": "collisions_vehicle",
    "Collisions with layout": "collisions_layout",
    "Red lights infractions": "red_light",
    "Stop sign infractions": "stop_infraction",
    "Off-road infractions": "outside_route_lanes",
    "Route deviations": "route_dev",
    "Route timeouts": "route_timeout",
    "Agent blocked": "vehicle_blocked",
    "Yield emergency vehicles infractions": "yield_emergency_vehicle_infractions",
    "Scenario timeouts": "scenario_timeouts",
    "Min speed infractions": "min_speed_infractions",
}


def record_of(case: Case, drives: Drives, idx: int, suite: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The record of one drive.

    Args:
        case: the route.
        drives: of all routes.
        idx: which of them.
        suite: name of the suite.
        notes: what of the route was left out, in plain sentences.
    """
    judged, definition = drives.judged, case.route.definition
    status, ticks = Status(int(judged.status[idx])), int(judged.ticks[idx])
    completed = status == Status.COMPLETED
    completion = 100.0 if completed else round(100 * float(judged.best_arc[idx]) / case.length, 3)
    infractions = _infractions(case, drives, idx, status, ticks)
    penalty = math.prod(factor ** len(infractions[kind]) for kind, factor in PENALTIES.items())
    if infractions["outside_route_lanes"]:
        penalty *= 1 - _outside_share(drives, idx) / 100
    count = sum(map(len, infractions.values()))
    text = "Perfect" if completed and not count else STATUS_TEXTS[status]
    return {
        "index": idx,
        "route_id": f"RouteScenario_{definition.route}_rep0",
        "scenario_name": f"{case.kind}_1" if case.kind else "",
        "weather_id": "0",
        "save_name": save_name(case),
        "status": text,
        "num_infractions": count,
        "infractions": infractions,
        "scores": {
            "score_route": completion,
            "score_penalty": round(penalty, 6),
            "score_composed": round(completion * penalty, 6),
        },
        "meta": {
            "route_length": round(case.route.dense.length, 3),
            "duration_game": round(ticks * TICK, 3),
            "duration_system": 0.0,
        },
        "town_name": definition.town,
        "suite": suite,
        "notes": list(notes),
    }


def save_name(case: Case) -> str:
    """Name of the folder in which a drive's motion is kept."""
    definition = case.route.definition
    parts = ("RouteScenario", definition.route, "rep0", definition.town, case.kind)
    return "_".join(part for part in parts if part)


def result_file(records: Sequence[dict[str, Any]], suite: str, policy: str) -> dict[str, Any]:
    """The content of a result file with all records of one policy."""
    scores = {
        name: [record["scores"][name] for record in records]
        for name in ("score_composed", "score_route", "score_penalty")
    }
    driven = sum(r["meta"]["route_length"] * r["scores"]["score_route"] / 100 for r in records) / 1000
    per_km = {
        kind: round(sum(len(r["infractions"][kind]) for r in records) / max(driven, 1e-3), 3)
        for kind in KINDS
    }
    mean = {name: round(float(np.mean(values)), 6) for name, values in scores.items()}
    values = [mean["score_composed"], mean["score_route"], mean["score_penalty"]]
    values += [per_km[kind] for kind in _LABELS.values()]
    labels = ["Avg. driving score", "Avg. route completion", "Avg. infraction penalty", *_LABELS]
    done = all(record["status"] in ("Completed", "Perfect") for record in records)
    return {
        "suite": suite,
        "simulator": f"perlsim {__version__}, vector space: not a result in CARLA",
        "policy": policy,
        "_checkpoint": {
            "global_record": {
                "index": -1,
                "route_id": -1,
                "status": "Completed" if done else "Failed",
                "infractions": per_km,
                "scores_mean": mean,
                "scores_std_dev": {name: round(float(np.std(values)), 6) for name, values in scores.items()},
                "meta": {
                    "total_length": round(sum(record["meta"]["route_length"] for record in records), 3),
                    "duration_game": round(sum(record["meta"]["duration_game"] for record in records), 3),
                    "duration_system": 0.0,
                    "exceptions": [],
                },
            },
            "progress": [len(records), len(records)],
            "records": list(records),
        },
        "entry_status": "Finished",
        "eligible": True,
        "sensors": [],
        "values": [str(value) for value in values],
        "labels": labels,
    }


def motion_of(drives: Drives, idx: int) -> Motion:
    """The ego's motion, by differences of its speed and heading between steps."""
    rows = drives.ego[idx, : int(drives.judged.steps[idx])].astype(np.float64)
    speed, heading = rows[:, 4], np.unwrap(rows[:, 3])
    along = np.gradient(speed, STEP) if len(rows) > 1 else np.zeros(len(rows))
    yaw_rate = np.gradient(heading, STEP) if len(rows) > 1 else np.zeros(len(rows))
    across = speed * yaw_rate
    return Motion(along, across, np.hypot(along, across), yaw_rate, STEP)


def write_motion(path: Path, drives: Drives, idx: int) -> None:
    """Writes a drive's motion as Bench2Drive's agents do, every second tick of 0.05 s."""
    motion = motion_of(drives, idx)
    heading = drives.ego[idx, : len(motion.yaw_rate), 3].astype(np.float64)
    forward = np.stack([np.cos(heading), -np.sin(heading), np.zeros_like(heading)], 1)
    # CARLA's right in its left-handed world, and the lateral acceleration towards it.
    right = np.stack([np.sin(heading), np.cos(heading), np.zeros_like(heading)], 1)
    acceleration = motion.longitudinal[:, None] * forward - motion.lateral[:, None] * right
    yaw_rate = -np.rad2deg(motion.yaw_rate)
    content = {
        str(2 * step): {
            "acceleration": acceleration[step].tolist(),
            "angular_velocity": [0.0, 0.0, float(yaw_rate[step])],
            "forward_vector": forward[step].tolist(),
            "right_vector": right[step].tolist(),
        }
        for step in range(len(heading))
    }
    write_file(path, as_json(content))


def _infractions(case: Case, drives: Drives, idx: int, status: Status, ticks: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    seen, ego = drives.seen.infractions[idx], drives.ego[idx]
    ids = case.scenario.tracks.ids
    sizes = len(ids)
    for tick in np.flatnonzero(seen[:ticks] & ~int(Infraction.OUTSIDE)).tolist():
        place = _place(case, ego[step_of(tick)])
        for infraction, kind in _COLLISIONS.items():
            if seen[tick] & infraction:
                slot = int(drives.seen.hit[idx, tick])
                name = ids[slot] if slot < sizes else f"agent {slot}"
                found[kind].append(f"Agent collided against object with type={name} and id={slot} at {place}")
        if seen[tick] & Infraction.RED_LIGHT:
            found["red_light"].append(f"Agent ran a red light at {place}")
        if seen[tick] & Infraction.STOP_SIGN:
            found["stop_infraction"].append(f"Agent ran a stop at {place}")
    share, outside = _outside_share(drives, idx), float(drives.judged.outside[idx])
    if share > 0:
        found["outside_route_lanes"].append(
            f"Agent went outside its route lanes for about {outside:.3f} meters "
            f"({share:.4f}% of the completed route)"
        )
    found["min_speed_infractions"] = [
        f"Average speed is {ratio:.2f}% of the surrounding traffic's one"
        for ratio in speed_ratios(
            np.asarray(drives.judged.speeds[idx]), float(drives.judged.best_arc[idx]) / case.length
        )
    ]
    if case.emergency >= 0 and drives.judged.yielding.fails[idx]:
        found["yield_emergency_vehicle_infractions"].append("Agent failed to yield to an emergency vehicle")
    for kind in timeouts(case, drives, idx):
        found["scenario_timeouts"].append(f"Agent timed out a scenario of type {kind}")
    place = _place(case, ego[step_of(max(ticks - 1, 0))])
    if status == Status.DEVIATED:
        found["route_dev"].append(f"Agent deviated from the route at {place}")
    if status == Status.BLOCKED:
        found["vehicle_blocked"].append(f"Agent got blocked at {place}")
    return found


def step_of(tick: int) -> int:
    """The step of 0.1 s in which a tick lies."""
    return tick * MAX_STEPS // MAX_TICKS


def timeouts(case: Case, drives: Drives, idx: int, timeout: float = TIMEOUT) -> list[str]:
    """Types of the scenarios that were set off and then not passed within ``timeout`` s."""
    judged, duration = drives.judged, float(drives.judged.ticks[idx]) * TICK
    ego = drives.ego[idx, : int(judged.steps[idx]), :2] + case.scenario.origin[:2]
    dense, late = case.route.dense, []
    for stage in case.stages:
        if not stage.has_timeout or judged.best_arc[idx] >= min(stage.end, COMPLETE_SHARE * case.length):
            continue
        begin = polylines.interpolate(dense.points, np.array([stage.begin]))[0, :2]
        reached = np.flatnonzero(np.hypot(*(ego - begin).T) < _REACHED)
        if len(reached) and duration - reached[0] * STEP > timeout:
            late.append(stage.kind)
    return late


def speed_ratios(speeds: Array, share: float) -> list[float]:
    """Ego's mean speed over the traffic's, %, at each checkpoint that was reached with traffic about.

    Args:
        speeds: ``[3, CHECKPOINTS]``, see `perlsim.worlds.suite.criteria.Judged`.
        share: of the route that was driven.
    """
    count = speeds.shape[1]
    reached = count if share > LAST_CHECKPOINT else int(share * count)
    own, others, points = speeds[:, :reached].astype(np.float64)
    known = (points > 0) & (others > 0)
    return (100 * own[known] / others[known]).tolist()


def _outside_share(drives: Drives, idx: int) -> float:
    """Share of the way driven outside the lanes, %, as it is written in the text."""
    driven = float(drives.judged.driven[idx])
    return round(min(100 * float(drives.judged.outside[idx]) / max(driven, 1e-3), 100.0), 4)


def _place(case: Case, row: Array) -> str:
    x, y, z = row[:3] + case.scenario.origin
    return f"(x={x:.3f}, y={-y:.3f}, z={z:.3f})"
