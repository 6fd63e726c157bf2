"""CommonRoad XML scenarios, version 2020a (2018b as far as it is the same).

The vehicle that was the ego in the recording has been cut out of these files. By default the *planning
problem* takes its place: an ego of default size that is valid at one step only, the problem's initial state,
taken as the middle of its box, with a route along the lane graph to the goal (straight on where the goal has
no place). A file with several planning problems gives several scenarios. `ReadOptions.ego` names another ego
by id: an obstacle, with its whole track, or one of the planning problems.

Positions are metres in the file's own planar frame (z = 0), angles are radians counter-clockwise, times are
counts of ``timeStepSize``; of intervals the middle is taken. Obstacles that are predicted as sets of occupied
polygons, not as trajectories, are kept at their initial state only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions
from perlsim.readers.commonroad_road import CommonRoadMap
from perlsim.readers.commonroad_route import route_to_goal
from perlsim.readers.commonroad_xml import (
    Element,
    parse,
    place_of,
    point,
    references,
    shapes,
    value_of,
)
from perlsim.readers.finalize import finalize
from perlsim.scenario import Array, Ego, Scenario, Tracks
from perlsim.vocabulary import DEFAULT_SIZE, AgentType

_MOST_STEPS = 100_000

_KINDS = {
    "unknown": AgentType.UNKNOWN,
    "car": AgentType.VEHICLE,
    "taxi": AgentType.VEHICLE,
    "priorityVehicle": AgentType.VEHICLE,
    "parkedVehicle": AgentType.VEHICLE,
    "train": AgentType.VEHICLE,
    "truck": AgentType.TRUCK,
    "bus": AgentType.BUS,
    "bicycle": AgentType.CYCLIST,
    "motorcycle": AgentType.MOTORCYCLIST,
    "pedestrian": AgentType.PEDESTRIAN,
    "constructionZone": AgentType.STATIC,
    "roadBoundary": AgentType.STATIC,
    "building": AgentType.STATIC,
    "pillar": AgentType.STATIC,
    "median_strip": AgentType.STATIC,
}


@dataclass
class _Agent:
    """One road user: its states by time step, each x, y, z, heading, vx, vy."""

    name: str
    kind: AgentType
    size: tuple[float, float, float]
    states: dict[int, Array]
    always: bool = False


def sniff(path: Path) -> bool:
    """Whether a file is CommonRoad XML, by its root element."""
    try:
        with path.open("rb") as file:
            return b"<commonRoad" in file.read(4096)
    except OSError:
        return False


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields one scenario for each planning problem, or the one for the ego that the options name.

    Raises:
        FormatError: where the file breaks the format, or has no obstacle or planning problem of the ego's id.
    """
    root = parse(path)
    dt = _time_step(root, path)
    agents, repairs = _obstacles(root, path)
    road = CommonRoadMap(root, path)
    problems = {problem.get("id", ""): problem for problem in root.findall("planningProblem")}
    identity = root.get("benchmarkID") or path.stem
    for ego in _egos(agents, problems, options.ego, path):
        problem = problems.get(ego) if ego is not None else None
        cast = agents if problem is None else [_planner(problem, path), *agents]
        tracks, first = _tracks(cast, path)
        raw = Scenario(
            scenario_id=identity if problem is None or len(problems) == 1 else f"{identity}_{ego}",
            source="commonroad",
            dt=dt,
            tracks=tracks,
            ego=Ego(-1 if ego is None else [agent.name for agent in cast].index(ego)),
            lights=road.lights(first, tracks.num_steps),
            road=road.road,
            recording_id=_recording(identity),
            place=identity.split("-")[0],
            dataset="commonroad",
            start_time=first * dt,
            source_file=path.name,
            repairs=(*repairs, *road.repairs),
            missing=("elevation", "heights"),
        )
        scenario = finalize(raw)
        yield scenario if problem is None else _routed(scenario, problem, path)


def _recording(identity: str) -> str:
    """Country, map and scene of ``USA_US101-10_1_T-1``, say: configurations of a scene share road users."""
    place, dash, rest = identity.partition("-")
    return place + dash + rest.split("_")[0]


def _egos(agents: list[_Agent], problems: dict, wanted: str | None, path: Path) -> list[str | None]:
    if wanted is None:
        return list(problems) or [None]
    if wanted in problems or any(agent.name == wanted for agent in agents):
        return [wanted]
    raise FormatError(
        f"no obstacle or planning problem has the id {wanted}",
        file=path,
        field="ego",
        remedy=f"choose a planning problem ({', '.join(problems)}) or an obstacle"
        f" ({', '.join(agent.name for agent in agents[:8])}…), or leave the option out",
    )


def _time_step(root: Element, path: Path) -> float:
    try:
        dt = float(root.get("timeStepSize", ""))
    except ValueError:
        dt = 0.0
    if not 0 < dt <= 10:
        raise FormatError(
            f"expected 0 < timeStepSize <= 10 s, found {root.get('timeStepSize')!r}",
            file=path,
            field="timeStepSize",
        )
    return dt


def _obstacles(root: Element, path: Path) -> tuple[list[_Agent], list[str]]:
    agents: dict[str, _Agent] = {}
    repeated, no_shape, occupancies = 0, 0, 0
    for element in root.iterchildren("dynamicObstacle", "staticObstacle", "obstacle"):
        name = element.get("id", "")
        body = element.find("shape")
        boxes = shapes(body, path) if body is not None else []
        if name in agents:
            repeated += 1
        elif not boxes:
            no_shape += 1
        else:
            occupancies += element.find("occupancySet") is not None
            agents[name] = _obstacle(name, element, boxes[0], path)
    counts = (
        (repeated, "obstacles had an id that was taken: left out"),
        (no_shape, "obstacles had no shape: left out"),
        (occupancies, "obstacles have sets of occupied areas instead of a trajectory: kept at one step"),
        (len(root.findall("environmentObstacle")), "environment obstacles (buildings) were left out"),
    )
    return list(agents.values()), [f"{count} {what}" for count, what in counts if count]


def _obstacle(name: str, element: Element, box: tuple[Array, float, Array], path: Path) -> _Agent:
    """An obstacle; a shape whose middle or axis is not the obstacle's own moves and turns its states."""
    offset, turn, size = box
    kind = _KINDS.get(element.findtext("type") or "", AgentType.UNKNOWN)
    states = {}
    initial = element.find("initialState")
    if initial is None:
        raise FormatError("initialState is missing", file=path, field=place_of(element))
    for state in (initial, *element.iterfind("trajectory/state")):
        x, y, z, heading, vx, vy = _state(state, path)
        along, aside = np.cos(heading), np.sin(heading)
        shift = along * offset[0] - aside * offset[1], aside * offset[0] + along * offset[1]
        step = _step(state, path)
        states.setdefault(step, np.array([x + shift[0], y + shift[1], z, heading + turn, vx, vy]))
    role = element.findtext("role") or ""
    return _Agent(
        name,
        kind,
        (float(size[0]), float(size[1]), DEFAULT_SIZE[kind][2]),
        states,
        always=element.tag == "staticObstacle" or role == "static",
    )


def _planner(problem: Element, path: Path) -> _Agent:
    """The ego of a planning problem: valid at its initial state."""
    initial = problem.find("initialState")
    if initial is None:
        raise FormatError("initialState is missing", file=path, field=place_of(problem))
    kind = AgentType.VEHICLE
    return _Agent(
        problem.get("id", ""), kind, DEFAULT_SIZE[kind], {_step(initial, path): _state(initial, path)}
    )


def _step(state: Element, path: Path) -> int:
    time = value_of(state, "time", path)
    if time is None or not 0 <= time < _MOST_STEPS:
        raise FormatError(
            f"expected a time step from 0 to {_MOST_STEPS - 1}, found {time}",
            file=path,
            field=f"{place_of(state)} time",
        )
    return round(time)


def _state(state: Element, path: Path) -> Array:
    """x, y, z, heading, vx, vy of a state; what is absent is NaN. Of a region the middle is taken."""
    position = state.find("position")
    found = None
    if position is not None:
        exact = position.find("point")
        regions = shapes(position, path)
        found = point(exact, path) if exact is not None else (regions[0][0] if regions else None)
    if found is None:
        raise FormatError("a position is missing", file=path, field=place_of(state))
    heading, speed, slip = (value_of(state, name, path) for name in ("orientation", "velocity", "slipAngle"))
    heading = np.nan if heading is None else heading
    course = heading + (slip or 0.0)
    speed = np.nan if speed is None else speed
    return np.array([*found, heading, speed * np.cos(course), speed * np.sin(course)])


def _tracks(agents: list[_Agent], path: Path) -> tuple[Tracks, int]:
    """Tracks, and the file's count of the first step. Static obstacles are there all the time."""
    steps = [step for agent in agents for step in agent.states]
    first, last = (min(steps), max(steps)) if steps else (0, 0)
    values = np.full((len(agents), last - first + 1, 6), np.nan)
    for row, agent in enumerate(agents):
        for step, state in agent.states.items():
            values[row, step - first] = state
        if agent.always:
            values[row] = next(iter(agent.states.values()))
            values[row, :, 4:6] = 0.0
    if len({agent.name for agent in agents}) < len(agents):
        raise FormatError("a planning problem and an obstacle share an id", file=path, field="id")
    return Tracks(
        position=values[..., :3],
        heading=values[..., 3],
        velocity=values[..., 4:6],
        size=np.array([agent.size for agent in agents]).reshape(-1, 3),
        kind=np.array([agent.kind for agent in agents], np.int8),
        valid=np.isfinite(values[..., 0]),
        ids=tuple(agent.name for agent in agents),
    ), first


def _routed(scenario: Scenario, problem: Element, path: Path) -> Scenario:
    """The scenario with a route to the first goal that has a place, where the lane graph leads there."""
    for goal in problem.findall("goalState"):
        position = goal.find("position")
        if position is None:
            continue
        lanelets = set(references(position, "lanelet"))
        centres = [centre - scenario.origin for centre, _, _ in shapes(position, path)]
        exact = position.find("point")
        centres += [point(exact, path) - scenario.origin] if exact is not None else []
        route = route_to_goal(scenario, lanelets, centres)
        if route is not None:
            return replace(scenario, route=route).validate()
    return scenario
