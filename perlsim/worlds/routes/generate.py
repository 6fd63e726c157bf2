"""Training routes: any town, any type of scenario, by seed, away from the routes of an examination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from perlsim.errors import FormatError, PerlsimError
from perlsim.worlds.routes.catalogue import SCENARIO_TYPES, parse_parameters
from perlsim.worlds.routes.definitions import RouteDefinition, RouteScenario
from perlsim.worlds.routes.dense import densify
from perlsim.worlds.routes.parameters import Form, Parameter, Pose, plain
from perlsim.worlds.routes.placement import Placement, Places
from perlsim.worlds.routes.rules import RANGES, RULES

APART = 100.0  # m, least distance to a trigger of the same type in an examination
TRIES = 400  # draws for one route before giving up
MIN_LENGTH = 40.0  # m


def generate(
    towns: Mapping[str, Places],
    kinds: Sequence[str],
    per_kind: int,
    seed: int,
    exams: Iterable[RouteDefinition] = (),
) -> list[RouteDefinition]:
    """Generates routes with one scenario each, the same number of each type.

    The routes of a type depend on the seed, the towns and the examination only, not on what else is asked
    for. Ids are ``type_number``.

    Args:
        towns: places by the name of the town; each route is in one of those where its type fits, at random.
        kinds: types of scenario, keys of `rules.RULES`.
        per_kind: routes of each.
        seed: any.
        exams: routes whose triggers no route of the same type comes within 100 m of.

    Raises:
        PerlsimError: a type that is not known or that fits nowhere in the towns.
    """
    triggers: dict[tuple[str, str], list[Pose]] = {}
    for exam in exams:
        for scenario in exam.scenarios:
            triggers.setdefault((exam.town, scenario.kind), []).append(scenario.trigger)
    routes = []
    for kind in kinds:
        if kind not in RULES:
            raise PerlsimError(f"no rule places {kind}", remedy=f"choose from: {', '.join(sorted(RULES))}")
        fitting = [name for name in sorted(towns) if towns[name].has_any(RULES[kind])]
        rng = np.random.default_rng([seed, *kind.encode()])
        routes += [_route(towns, fitting, kind, number, rng, triggers) for number in range(per_kind)]
    return routes


def _route(towns, fitting: list[str], kind: str, number: int, rng, triggers) -> RouteDefinition:
    for _ in range(TRIES if fitting else 0):
        town = fitting[int(rng.integers(len(fitting)))]
        placement = towns[town].draw(RULES[kind], rng)
        if placement is None or _is_near(placement.trigger, triggers.get((town, kind), [])):
            continue
        parameters = parse_parameters(kind, {**_drawn(kind, rng), **_wanted(kind, placement)})
        scenario = RouteScenario(f"{kind}_1", kind, placement.trigger, parameters)
        route = RouteDefinition(f"{kind}_{number}", town, placement.waypoints, (scenario,))
        if _drives(route, placement, towns[town]):
            return route
    raise PerlsimError(
        f"found no place for {kind} in {', '.join(sorted(towns)) or 'no town'}",
        remedy="give more towns, or ask for fewer routes of this type",
    )


def _is_near(trigger: Pose, others: list[Pose]) -> bool:
    return any(np.hypot(trigger[0] - x, trigger[1] - y) < APART for x, y, *_ in others)


def _drives(route: RouteDefinition, placement: Placement, places: Places) -> bool:
    """Whether the waypoints, led along the lanes, give the route that was meant."""
    try:
        dense = densify(route, places.sites.graph)
    except FormatError:
        return False
    straight = np.linalg.norm(np.diff(route.waypoints, axis=0), axis=1).sum()
    # A detour means that a waypoint was taken for one of another lane.
    is_direct = MIN_LENGTH <= dense.length < 1.25 * straight + 10.0
    passes = placement.passes < 0 or placement.passes in dense.lane_idx
    return bool(is_direct and passes and np.isfinite(dense.position_of(placement.trigger)))


def _wanted(kind: str, placement: Placement) -> dict[str, list[dict[str, str]]]:
    """Those of the placement's parameters that the type takes."""
    names = {parameter.name for parameter in SCENARIO_TYPES[kind].parameters}
    return {name: value for name, value in placement.found.items() if name in names}


def _drawn(kind: str, rng: np.random.Generator) -> dict[str, list[dict[str, str]]]:
    """Parameters drawn from their ranges, as a file writes them."""
    ranges = RANGES.get(kind, {})
    return {
        parameter.name: [_attributes(parameter, ranges[parameter.name], rng)]
        for parameter in SCENARIO_TYPES[kind].parameters
        if parameter.name in ranges
    }


def _attributes(parameter: Parameter, span, rng: np.random.Generator) -> dict[str, str]:
    if parameter.form is Form.WORD:
        return {"value": str(rng.choice(list(span)))}
    if parameter.form is Form.INTERVAL:
        return {name: _number(ends, rng) for name, ends in zip(("from", "to"), span, strict=True)}
    return {"value": _number(span, rng)}


def _number(ends: tuple[float, float], rng: np.random.Generator) -> str:
    """A number of a range; whole where both its ends are."""
    low, high = ends
    whole = float(low).is_integer() and float(high).is_integer()
    return (
        str(int(rng.integers(int(low), int(high) + 1))) if whole else plain(round(rng.uniform(low, high), 2))
    )
