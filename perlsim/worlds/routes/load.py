"""Route files of any kind, led along the lanes of their towns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perlsim.errors import FormatError
from perlsim.scenario import Array
from perlsim.worlds.opendrive.xml import child
from perlsim.worlds.routes import leaderboard1, leaderboard2
from perlsim.worlds.routes.definitions import RouteDefinition
from perlsim.worlds.routes.dense import DenseRoute, densify
from perlsim.worlds.routes.graph import TownGraph


@dataclass(frozen=True)
class Route:
    """A route, ready to be driven.

    Attributes:
        definition: what the file says.
        dense: the route along the lanes.
        triggers: ``[S]`` m along the route at which each scenario of the definition starts; NaN where its
            trigger does not lie on the route: CARLA leaves such a scenario out.
    """

    definition: RouteDefinition
    dense: DenseRoute
    triggers: Array


def read(path: Path) -> list[RouteDefinition]:
    """Reads the routes of a file of either format; those of the first Leaderboard have no scenarios yet.

    Raises:
        FormatError: names the file, the route and the field at fault.
    """
    first = leaderboard2.load_routes(path)[0]
    return (
        leaderboard2.read(path) if child(first, "waypoints") is not None else leaderboard1.read_routes(path)
    )


def load(path: Path, graph_of: Callable[[str], TownGraph], triggers: Path | None = None) -> list[Route]:
    """Reads the routes of a file of either format and leads them along the lanes.

    Args:
        path: XML of the Leaderboard, Bench2Drive or DOS.
        graph_of: gives the lanes of a town by its name.
        triggers: JSON of trigger definitions, for routes of the first Leaderboard and DOS; None takes the
            file of the same name that ends in .json, if there is one.

    Raises:
        FormatError: names the file, the route and what is wrong.
    """
    return [lead(route, graph_of(route.definition.town)) for route in found(path, triggers)]


@dataclass(frozen=True)
class Found:
    """A route as its files have it.

    Attributes:
        definition: without scenarios where those are in another file.
        path: file of the route.
        triggers: all trigger definitions of that other file.
    """

    definition: RouteDefinition
    path: Path
    triggers: Sequence[leaderboard1.Trigger] = ()


def found(path: Path, triggers: Path | None = None) -> list[Found]:
    """The routes of a file of either format, not yet led along the lanes; arguments and errors as of `load`."""
    beside = triggers or path.with_suffix(".json")
    known = leaderboard1.read_triggers(beside) if triggers or beside.is_file() else []
    return [Found(definition, path, known) for definition in read(path)]


def lead(route: Found, graph: TownGraph) -> Route:
    """A route along the lanes of its town.

    Raises:
        FormatError: names the file, the route and what is wrong.
    """
    definition = route.definition
    try:
        dense = densify(definition, graph)
    except FormatError as error:
        raise FormatError(
            error.message, file=error.file or route.path, field=error.field, remedy=error.remedy
        ) from error
    if route.triggers and not definition.scenarios:
        definition = leaderboard1.with_triggers(definition, dense, route.triggers)
    at = np.array([dense.position_of(scenario.trigger) for scenario in definition.scenarios])
    return Route(definition, dense, at.reshape(-1))
