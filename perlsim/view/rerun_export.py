"""A scene as a recording for the Rerun viewer: map as line strips, road users as boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perlsim.errors import PerlsimError
from perlsim.scenario import Array, Scenario
from perlsim.view.drawing import LIGHT_COLOURS, kind_colours, palette
from perlsim.view.pack import lane_widths
from perlsim.view.picture import parent_of, require
from perlsim.view.sources import Key, Side
from perlsim.vocabulary import LightState, MarkingType


def write_recording(path: Path, sides: Sequence[Side], key: Key) -> None:
    """Writes a scene as ``.rrd``, with each side under a root entity of its own.

    Args:
        path: of the file.
        sides: how the scene went.
        key: the scene; every side has it.

    Raises:
        PerlsimError: rerun-sdk is absent, or the file cannot be written.
    """
    rerun = require("rerun")
    recording = rerun.RecordingStream("perlsim", recording_id=key[2])
    try:
        recording.save(str(parent_of(path)))
    except RuntimeError as error:
        raise PerlsimError(f"cannot be written: {error}", file=path, field="--rerun") from error
    recording.log("/", rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    for number, side in enumerate(sides):
        scenario = side.scenario(key)
        assert scenario is not None
        if number == 0:
            _log_map(rerun, recording, scenario)
        _log_traffic(rerun, recording, scenario, side.label, side.extra(key))
    recording.flush()
    recording.disconnect()


def _log_map(rerun: Any, recording: Any, scenario: Scenario) -> None:
    road = scenario.road
    painted = road.markings.kind != MarkingType.NONE
    markings = [line for line, shown in zip(road.markings.line.rows(), painted, strict=True) if shown]
    rings = [np.vstack([ring, ring[:1]]) for ring in road.crosswalks.rows()]
    for name, strips, colour in (
        ("lanes", road.lanes.centre.rows(), "lane"),
        ("markings", markings, "marking"),
        ("edges", road.edges.rows(), "edge"),
        ("crosswalks", rings, "crosswalk"),
        ("route", [scenario.route.points] if len(scenario.route.points) > 1 else [], "ego"),
    ):
        if strips:
            recording.log(
                f"map/{name}", rerun.LineStrips3D(strips, colors=[_rgb(palette()[colour])]), static=True
            )
    if len(road.stop_signs.position):
        signs = rerun.Points3D(road.stop_signs.position, colors=[_rgb(palette()["stop-sign"])], radii=0.5)
        recording.log("map/stop_signs", signs, static=True)


def _log_traffic(
    rerun: Any, recording: Any, scenario: Scenario, label: str, extra: Mapping[str, Any]
) -> None:
    tracks = scenario.tracks
    colours = np.array([_rgb(colour) for colour in kind_colours(scenario)])
    bars = _stop_bars(scenario)
    for step in range(tracks.num_steps):
        recording.set_time("time", duration=step * scenario.dt)
        seen = np.flatnonzero(tracks.valid[:, step])
        centres = tracks.position[seen, step].astype(np.float64)
        centres[:, 2] += tracks.size[seen, 2] / 2  # tracks stand on the ground
        half = tracks.heading[seen, step] / 2
        boxes = rerun.Boxes3D(
            centers=centres,
            half_sizes=tracks.size[seen] / 2,
            quaternions=np.stack([0 * half, 0 * half, np.sin(half), np.cos(half)], 1),
            colors=colours[seen],
            labels=[tracks.ids[i] for i in seen],
            show_labels=False,
        )
        recording.log(f"{label}/road_users", boxes)
        if len(bars):
            states = [
                palette()[LIGHT_COLOURS[LightState(int(state))]] for state in scenario.lights.state[:, step]
            ]
            strips = rerun.LineStrips3D(bars, colors=[_rgb(state) for state in states], radii=0.25)
            recording.log(f"{label}/lights", strips)
        if scenario.has_ego and tracks.valid[scenario.ego.idx, step]:
            speed = np.linalg.norm(tracks.velocity[scenario.ego.idx, step])
            recording.log(f"{label}/ego_speed", rerun.Scalars([float(speed)]))
    for plan in extra.get("plans") or ():
        recording.set_time("time", duration=plan["t"])
        path = np.asarray(plan["path"], np.float64).reshape(-1, 2)
        ground = np.full((len(path), 1), _ground(scenario, plan["t"]))
        strip = rerun.LineStrips3D([np.hstack([path, ground])], colors=[_rgb(palette()["plan"])], radii=0.3)
        recording.log(f"{label}/plan", strip)
    for event in extra.get("events") or ():
        recording.set_time("time", duration=event["t"])
        by = "" if event.get("agent") is None else f" ({event['agent']})"
        recording.log(f"{label}/events", rerun.TextLog(f"{event['kind']}{by}"))


def _ground(scenario: Scenario, time: float) -> float:
    """Height of the ego at a time [m]; plans are flat."""
    step = min(round(time / scenario.dt), scenario.tracks.num_steps - 1)
    return float(scenario.tracks.position[scenario.ego.idx, step, 2])


def _stop_bars(scenario: Scenario) -> Array:
    """Stop lines of lights across their lanes, ``[L, 2, 3]`` m."""
    lights = scenario.lights
    if not len(lights.position):
        return np.zeros((0, 2, 3))
    half = lane_widths(scenario.road, lights.lane_idx)[:, None] * 0.42
    across = np.stack([-np.sin(lights.heading), np.cos(lights.heading), 0 * lights.heading], 1) * half
    return np.stack([lights.position - across, lights.position + across], 1)


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
