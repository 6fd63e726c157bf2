"""Route files of the first CARLA Leaderboard and of DOS: an XML of routes and a JSON of trigger definitions.

The JSON lists, per town and type of scenario, the places where one may start; a route gets those that lie on
it, as in the public code: within 2 m and 10° of a point of its dense route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson

from perlsim.errors import FormatError
from perlsim.worlds.opendrive.xml import children
from perlsim.worlds.routes.catalogue import parse_parameters
from perlsim.worlds.routes.definitions import RouteDefinition, RouteScenario
from perlsim.worlds.routes.dense import TRIGGER_DISTANCE, DenseRoute
from perlsim.worlds.routes.leaderboard2 import load_routes
from perlsim.worlds.routes.parameters import point, pose


@dataclass(frozen=True)
class Trigger:
    """A place in a town where a scenario may start.

    Attributes:
        town: name of the town.
        scenario: the scenario, named after its type and place in the file.
    """

    town: str
    scenario: RouteScenario


def read_routes(path: Path) -> list[RouteDefinition]:
    """Reads the routes of an XML file, in its order; they carry no scenarios yet (`with_triggers`).

    Raises:
        FormatError: names the file, the route and the field at fault.
    """
    routes = []
    for element in load_routes(path):
        field = f"route {element.get('id')}"
        try:
            waypoints = [point(at.attrib) for at in children(element, "waypoint")]
        except FormatError as error:
            raise FormatError(error.message, file=path, field=f"{field}, waypoint") from error
        if len(waypoints) < 2:
            raise FormatError(
                f"expected at least two waypoint elements, found {len(waypoints)}", file=path, field=field
            )
        routes.append(RouteDefinition(element.get("id"), element.get("town"), np.array(waypoints)))
    return routes


def read_triggers(path: Path) -> list[Trigger]:
    """Reads the trigger definitions of a JSON file, in its order.

    Raises:
        FormatError: names the file and the field at fault.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise FormatError(f"not readable as JSON: {error}", file=path) from error
    try:
        triggers = []
        for towns in _items(content, "available_scenarios"):
            for town in towns if isinstance(towns, dict) else ():
                for kind in _items(towns, town):
                    name = kind.get("scenario_type", "") if isinstance(kind, dict) else ""
                    found = _items(kind, "available_event_configurations")
                    triggers += [Trigger(town, _scenario(str(name), i, c)) for i, c in enumerate(found)]
    except FormatError as error:
        raise FormatError(error.message, file=path, field=error.field) from error
    return triggers


def _items(content: object, name: str) -> list:
    """The list under a key."""
    items = content.get(name) if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise FormatError("expected a list", field=name)
    return items


def _scenario(kind: str, number: int, found: object) -> RouteScenario:
    field = f"{kind} {number}"
    entry = found if isinstance(found, dict) else {}
    others = entry.get("other_actors") or {}
    transform = entry.get("transform")
    if not isinstance(others, dict) or not isinstance(transform, dict):
        raise FormatError("expected a transform, and other_actors as lists by side", field=field)
    poses: Mapping = {side: actors for side, actors in others.items() if actors}
    try:
        if not all(isinstance(actor, dict) for actors in poses.values() for actor in actors):
            raise FormatError("expected other actors with x, y, z and yaw")
        return RouteScenario(f"{kind}_{number}", kind, pose(transform), parse_parameters(kind, poses))
    except FormatError as error:
        where = f"{field}, {error.field}" if error.field else field
        raise FormatError(error.message, field=where) from error


def with_triggers(route: RouteDefinition, dense: DenseRoute, triggers: Iterable[Trigger]) -> RouteDefinition:
    """The route with the scenarios of its town that start on it, in the order in which it meets them.

    Of several at one place the first in the file is taken, as the public code takes one.
    """
    met: list[tuple[float, RouteScenario]] = []
    for trigger in triggers:
        at = dense.position_of(trigger.scenario.trigger) if trigger.town == route.town else np.nan
        if np.isfinite(at) and all(abs(at - other) >= TRIGGER_DISTANCE for other, _ in met):
            met.append((at, trigger.scenario))
    met.sort(key=lambda pair: pair[0])
    return replace(route, scenarios=tuple(scenario for _, scenario in met))
