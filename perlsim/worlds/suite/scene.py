"""Scenes of routes: the road round a route, its lights over time, and an ego that stands at its start.

Frame: as all scenarios, the town's shifted to the route's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from perlsim.bank import STEP, HostBank
from perlsim.bank_build import build_bank
from perlsim.geometry.polylines import arc_lengths, wrap
from perlsim.readers.finalize import finalize
from perlsim.scenario import Array, Ego, Lights, Route, Scenario, Tracks
from perlsim.vocabulary import AgentType, LightState
from perlsim.worlds.actors import Script
from perlsim.worlds.opendrive import boxes_along
from perlsim.worlds.routes import load
from perlsim.worlds.suite.stages import Stage
from perlsim.worlds.towns import Town

# A route ends after so many ticks of 0.05 s (Bench2Drive), two to a step.
MAX_TICKS = 4000
MAX_STEPS = MAX_TICKS // 2
# Lane and boundary pieces in observations of policies that do not say how many they see.
OBSERVED_PIECES = (64, 40)
# Kept of a town on all sides of a route, m.
MARGIN = 60.0
# The box of the Leaderboard's ego in CARLA (Lincoln MKZ) as Bench2Drive's clips give it: length, width, height [m].
EGO_SIZE = (4.902, 2.128, 1.511)
# The chassis that PDM-Lite fitted to that car: see `perlsim.sim.vehicle`.
EGO_WHEELBASE, EGO_REAR_AXLE = 1.3270585, 1.4178275


@dataclass(frozen=True)
class Case:
    """A route to drive.

    Attributes:
        route: from its file.
        scenario: one step: the ego stands at the start.
        lights: int8 ``[L, MAX_STEPS + 1]``, states of the scenario's lights at every step.
        length: m along the route, in plan.
        junction: m along the route at which its first junction begins; None where it has none.
        script: its road users, in the order of the scenario's tracks after the ego.
        notes: what of the route is left out, in plain sentences.
        stages: where its scenarios take place.
    """

    route: load.Route
    scenario: Scenario
    lights: Array
    length: float
    junction: float | None
    script: Script = field(default_factory=Script)
    notes: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()

    @property
    def emergency(self) -> int:
        """Slot of the emergency vehicle to yield to, −1 without one."""
        return next((1 + n for n, actor in enumerate(self.script.actors) if actor.emergency), -1)

    @property
    def kind(self) -> str:
        """Type of the route's first scenario; empty without one."""
        scenarios = self.route.definition.scenarios
        return scenarios[0].kind if scenarios else ""


def case_of(
    route: load.Route,
    town: Town,
    script: Script | None = None,
    *,
    notes: Sequence[str] = (),
    stages: Sequence[Stage] = (),
    forced_green: bool = False,
) -> Case:
    """The scene of a route.

    Args:
        route: led along the lanes of the town.
        town: the whole town.
        script: its road users; nobody by default.
        notes, stages: see `Case`.
        forced_green: whether all lights are green all the time (DOS).

    Raises:
        FormatError: where the town's map cannot be used.
    """
    definition, dense = route.definition, route.dense
    script = Script() if script is None else script
    small, new_idx = town.crop(boxes_along(dense.points, MARGIN))
    steps = MAX_STEPS + 1
    lights = small.lights_at(np.minimum(np.arange(steps) * STEP, script.light_hold) + script.light_shift)
    if forced_green:
        lights = replace(lights, state=np.full_like(lights.state, LightState.GREEN))
    known = np.arange(steps) == 0
    start = np.append(dense.points[0], dense.heading[0]) if script.start is None else np.array(script.start)
    tracks = Tracks(
        position=np.tile(start[:3], (1, steps, 1)),
        heading=np.full((1, steps), start[3]),
        velocity=np.zeros((1, steps, 2)),
        size=np.array([EGO_SIZE]),
        kind=np.array([AgentType.VEHICLE], np.int8),
        valid=known[None],
        ids=("ego",),
    )
    whole = finalize(
        Scenario(
            scenario_id=definition.route,
            source="route",
            dt=STEP,
            tracks=tracks,
            ego=Ego(0, EGO_WHEELBASE, EGO_REAR_AXLE),
            lights=lights,
            road=small.map.road,
            route=Route(dense.points, new_idx[dense.lane_idx].astype(np.int32)),
            place=definition.town,
            dataset="routes",
        )
    )
    in_junction = np.flatnonzero(town.map.road.lanes.in_junction[dense.lane_idx])
    tracks = _with_actors(_first_step(whole.tracks), script, whole.origin)
    return Case(
        route,
        whole.replace(tracks=tracks, lights=_first_lights(whole.lights)),
        whole.lights.state,
        float(arc_lengths(whole.route.points[:, :2].astype(np.float64))[-1]),
        float(dense.along[in_junction[0]]) if len(in_junction) else None,
        script,
        tuple(notes),
        tuple(stages),
    )


def bank_of(
    cases: Sequence[Case], *, observed: bool = True, pieces: tuple[int, int] = OBSERVED_PIECES
) -> HostBank:
    """One bank of all cases, whose lights go on for the whole time and whose goals are the ends of the routes.

    Args:
        cases: at least one.
        observed: whether policies are to see observations.
        pieces: of lanes and boundaries in an observation.
    """
    scenarios = [case.scenario for case in cases]
    host = build_bank(scenarios, observed_pieces=pieces if observed else None, in_order=True)
    state = np.zeros((len(cases), MAX_STEPS + 1, host.bank.stop_lines.shape[2]), np.int8)
    for row, case in enumerate(cases):
        state[row, :, : len(case.lights)] = case.lights.T
    goal = np.array([case.length for case in cases], np.float32)
    return replace(host, bank=replace(host.bank, light_state=state, goal_arc=goal))


def _first_step(tracks: Tracks) -> Tracks:
    return replace(
        tracks,
        position=tracks.position[:, :1],
        heading=tracks.heading[:, :1],
        velocity=tracks.velocity[:, :1],
        valid=tracks.valid[:, :1],
    )


def _with_actors(tracks: Tracks, script: Script, origin: Array) -> Tracks:
    """The tracks of one step with the road users of a script after them, where they begin."""
    if not len(script):
        return tracks
    pose, there = script.pose, script.is_there[:, None]
    place = np.where(there[..., None], (pose[:, :3] - origin)[:, None], 0.0)
    return Tracks(
        np.concatenate([tracks.position, place.astype(np.float32)]),
        np.concatenate([tracks.heading, np.where(there, wrap(pose[:, 3:]), 0.0).astype(np.float32)]),
        np.concatenate([tracks.velocity, np.zeros((len(script), 1, 2), np.float32)]),
        np.concatenate([tracks.size, script.size.astype(np.float32)]),
        np.concatenate([tracks.kind, script.kind]),
        np.concatenate([tracks.valid, there]),
        (*tracks.ids, *(f"{AgentType(kind).name.lower()}.{n + 1}" for n, kind in enumerate(script.kind))),
    )


def _first_lights(lights: Lights) -> Lights:
    return replace(lights, state=lights.state[:, :1])
