"""What is in a map, and what is wrong with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from perlsim.geometry.polylines import arc_lengths
from perlsim.vocabulary import LaneType
from perlsim.worlds import opendrive
from perlsim.worlds.given_lights import given_plan
from perlsim.worlds.light_plans import default_plan
from perlsim.worlds.opendrive import OpenDriveMap, SignalKind

_GAP = 0.2  # m, between a lane and one that follows it

_TRAFFIC = (LaneType.DRIVING, LaneType.FREEWAY, LaneType.BUS)


def check_town(path: Path, lights: Path | None = None) -> dict[str, Any]:
    """Reads a map from its file and looks it over.

    Args:
        path: an OpenDRIVE file.
        lights: folder with files of light programmes.

    Returns:
        ``counts`` by name (lengths in km, time in s), and ``problems``, a sentence each.

    Raises:
        FormatError: where it cannot be read.
    """
    start = time.perf_counter()
    town = opendrive.read(path, with_edges=False)
    seconds = time.perf_counter() - start
    lanes, signals = town.road.lanes, town.signals
    plan = (given_plan(town, lights) if lights is not None else None) or default_plan(town)
    traffic = np.isin(lanes.kind, _TRAFFIC)
    lengths = np.array([arc_lengths(row)[-1] for row in lanes.centre.rows()])
    kinds = np.bincount(signals.kind, minlength=4)
    counts = {
        "lanes": len(lanes),
        "traffic_lanes": int(traffic.sum()),
        "traffic_lanes_km": float(np.round(lengths[traffic].sum() / 1000, 1)),
        "links": len(lanes.successors.values),
        "junctions": len(set(town.junctions) - {""}),
        "lights": int(kinds[SignalKind.LIGHT]),
        "light_programmes": len(plan.rows),
        "given_programmes": int(plan.given.sum()),
        "stop_signs": int(kinds[SignalKind.STOP]),
        "crosswalks": len(town.road.crosswalks),
        "seconds_to_read": round(seconds, 1),
    }
    return {"counts": counts, "problems": _problems(town, traffic)}


def _problems(town: OpenDriveMap, traffic: np.ndarray) -> list[str]:
    lanes, signals = town.road.lanes, town.signals
    found = []
    if not traffic.any():
        found.append("no lanes for traffic")
    first, last = lanes.centre.offsets[:-1], lanes.centre.offsets[1:] - 1
    owner = np.repeat(np.arange(len(lanes)), np.diff(lanes.successors.offsets))
    step = lanes.centre.values[first[lanes.successors.values]] - lanes.centre.values[last[owner]]
    for idx in np.flatnonzero(np.linalg.norm(step, axis=1) > _GAP):
        names = lanes.ids[owner[idx]], lanes.ids[lanes.successors.values[idx]]
        found.append(f"lane {names[0]} leads to {names[1]}, {np.linalg.norm(step[idx]):.1f} m away")
    entered = np.zeros(len(lanes), bool)
    entered[lanes.successors.values] = True
    alone = traffic & ~entered & (np.diff(lanes.successors.offsets) == 0)
    if alone.any():
        found.append(
            f"{int(alone.sum())} traffic lanes without any link, such as {lanes.ids[alone.argmax()]}"
        )
    if np.isnan(lanes.speed_limit[traffic]).any():
        found.append(f"{int(np.isnan(lanes.speed_limit[traffic]).sum())} traffic lanes without a speed limit")
    governs = np.bincount(signals.lane_signal_idx, minlength=len(signals.ids)) > 0
    idle = (signals.kind == SignalKind.LIGHT) & ~governs
    if idle.any():
        found.append(f"{int(idle.sum())} lights govern no lane, such as {signals.ids[idle.argmax()]}")
    return found
