"""From route files or route definitions, and a folder of maps, to the cases that are driven."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from perlsim.errors import PerlsimError
from perlsim.worlds.actors import Script, join_scripts
from perlsim.worlds.actors.compile import compile_scenario
from perlsim.worlds.light_plans import LightPlan
from perlsim.worlds.routes.graph import TownGraph
from perlsim.worlds.routes.load import Route
from perlsim.worlds.routes.placement import Places
from perlsim.worlds.routes.sites import Sites
from perlsim.worlds.suite.scene import Case, case_of
from perlsim.worlds.suite.stages import Stage, stage_of
from perlsim.worlds.towns import Town, load_town, town_at


class Worlds:
    """The towns of a folder, each read when it is first asked for.

    Args:
        maps: folder with OpenDRIVE towns, or a CARLA installation.
        lights: folder with light programmes; CARLA's default programmes without.
    """

    def __init__(self, maps: Path, lights: Path | None = None):
        self.maps, self.lights = maps, lights
        self.town, self.graph = cache(self._town), cache(self._graph)
        self.places = cache(self._places)

    def _town(self, name: str) -> Town:
        """A town with its lights."""
        return load_town(town_at(self.maps, name), lights=self.lights)

    def _graph(self, name: str) -> TownGraph:
        """The lanes of a town, along which routes lead."""
        town = self.town(name)
        return TownGraph(town.map.road.lanes, town.stations)

    def _places(self, name: str) -> Places:
        """The places of a town, at which scenarios are staged."""
        return Places(Sites(self.town(name).map, self.graph(name)))


def cases_of(
    routes: Iterable[Route], worlds: Worlds, *, forced_green: bool = False, seed: int = 0
) -> list[Case]:
    """The cases of routes, with the road users of their scenarios; what cannot be staged is in `Case.notes`.

    Args:
        routes: led along the lanes of their towns (`perlsim.worlds.routes.load`).
        worlds: the towns.
        forced_green: whether all lights are green all the time (DOS).
        seed: of what the routes leave open.

    Raises:
        PerlsimError: where a town is missing or cannot be used.
    """
    cases = []
    for route in routes:
        name = route.definition.town
        staged = staged_on(route, worlds.places(name), seed, worlds.town(name).lights)
        cases.append(
            case_of(
                route,
                worlds.town(name),
                staged.script,
                notes=staged.notes,
                stages=staged.stages,
                forced_green=forced_green,
            )
        )
    return cases


class Staged(NamedTuple):
    """What takes place on a route.

    Attributes:
        script: the road users of all scenarios.
        stages: where each takes place.
        notes: what cannot be staged, a plain sentence each.
    """

    script: Script
    stages: list[Stage]
    notes: list[str]


def staged_on(route: Route, places: Places, seed: int = 0, lights: LightPlan | None = None) -> Staged:
    """Stages the scenarios of a route, at the places of its town and with its lights."""
    scripts, stages, notes = [], [], []
    for scenario, at in zip(route.definition.scenarios, route.triggers.tolist(), strict=True):
        try:
            script = compile_scenario(scenario, route, at, places, seed, lights)
        except PerlsimError as error:
            notes.append(error.message)
            continue
        scripts.append(script)
        stages.append(stage_of(scenario.kind, at, script, route))
    return Staged(join_scripts(scripts), stages, notes)
