"""Route files of the CARLA Leaderboard 2 and of Bench2Drive (XML), read and written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from perlsim.errors import FormatError
from perlsim.output import write_file
from perlsim.worlds.opendrive.xml import Element, child, children
from perlsim.worlds.routes.catalogue import SCENARIO_TYPES, parse_parameters
from perlsim.worlds.routes.definitions import RouteDefinition, RouteScenario
from perlsim.worlds.routes.parameters import number, plain, point, pose, written_point, written_pose

# Attributes of a weather that CARLA knows, and where on the route it holds; it warns of others and goes on.
WEATHER = (
    "route_percentage",
    "cloudiness",
    "precipitation",
    "precipitation_deposits",
    "wind_intensity",
    "sun_azimuth_angle",
    "sun_altitude_angle",
    "fog_density",
    "fog_distance",
    "fog_falloff",
    "wetness",
    "scattering_intensity",
    "mie_scattering_scale",
    "rayleigh_scattering_scale",
    "dust_storm",
)
_MAX_BYTES = 1 << 28  # the largest public file has 1.2 MB


def load_routes(path: Path) -> list[Element]:
    """The ``route`` elements of a file.

    Entities are not resolved and nothing is fetched.

    Raises:
        FormatError: not readable as XML, no ``routes`` root, no routes, or an id absent or given twice.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FormatError("too large for a route file", file=path)
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True
        )
        root = etree.fromstring(path.read_bytes(), parser)
    except (OSError, etree.XMLSyntaxError, ValueError) as error:
        raise FormatError(f"not readable as XML: {error}", file=path) from error
    if etree.QName(root).localname != "routes":
        raise FormatError(f"expected the root routes, found {root.tag}", file=path)
    elements = children(root, "route")
    if not elements:
        raise FormatError("no routes", file=path)
    seen: set[str] = set()
    for element in elements:
        route = element.get("id", "")
        if not route:
            raise FormatError("expected an id", file=path, field="route")
        if route in seen:
            raise FormatError("two routes of the same id", file=path, field=f"route {route}")
        if not element.get("town"):
            raise FormatError("expected a town", file=path, field=f"route {route}")
        seen.add(route)
    return elements


def read(path: Path) -> list[RouteDefinition]:
    """Reads the routes of a file, in its order.

    Raises:
        FormatError: names the file, the route and the field at fault.
    """
    routes = []
    for element in load_routes(path):
        try:
            routes.append(_route(element))
        except FormatError as error:
            where = f"route {element.get('id')}" + (f", {error.field}" if error.field else "")
            raise FormatError(error.message, file=path, field=where, remedy=error.remedy) from error
    return routes


def _route(element: Element) -> RouteDefinition:
    positions = children(child(element, "waypoints"), "position")
    if len(positions) < 2:
        raise FormatError(f"expected at least two positions, found {len(positions)}", field="waypoints")
    waypoints = np.array([_at(f"position {i}", point, at.attrib) for i, at in enumerate(positions)])
    scenarios = tuple(_scenario(e) for e in children(child(element, "scenarios"), "scenario"))
    weathers = tuple(
        {name: _at("weather", number, e.attrib, name) for name in WEATHER if name in e.attrib}
        for e in children(child(element, "weathers"), "weather")
    )
    return RouteDefinition(element.get("id"), element.get("town"), waypoints, scenarios, weathers)


def _at(field: str, reader, *arguments):
    """What a reader of attributes gives; its errors name the field."""
    try:
        return reader(*arguments)
    except FormatError as error:
        where = f"{field}, {error.field}" if error.field else field
        raise FormatError(error.message, field=where, remedy=error.remedy) from error


def _scenario(element: Element) -> RouteScenario:
    kind = element.get("type", "")
    name = element.get("name", kind)
    field = f"scenario {name}"
    triggers = children(element, "trigger_point")
    if len(triggers) != 1:
        raise FormatError(f"expected one trigger_point, found {len(triggers)}", field=field)
    others: dict[str, list[dict[str, str]]] = {}
    for other in element.iterchildren("{*}*"):
        others.setdefault(etree.QName(other).localname, []).append(dict(other.attrib))
    del others["trigger_point"]
    return RouteScenario(
        name, kind, _at(field, pose, triggers[0].attrib), _at(field, parse_parameters, kind, others)
    )


def write(routes: Iterable[RouteDefinition], path: Path) -> None:
    """Writes routes so that `read` gives them back, but for what was refused, and CARLA can drive them."""
    write_file(path, to_xml(routes))


def to_xml(routes: Iterable[RouteDefinition]) -> bytes:
    """The content of a file of routes, see `write`."""
    root = etree.Element("routes")
    for route in routes:
        element = etree.SubElement(root, "route", id=route.route, town=route.town)
        if route.weathers:
            weathers = etree.SubElement(element, "weathers")
            for weather in route.weathers:
                etree.SubElement(weathers, "weather", {name: plain(v) for name, v in weather.items()})
        waypoints = etree.SubElement(element, "waypoints")
        for at in route.waypoints:
            etree.SubElement(waypoints, "position", written_point((float(at[0]), float(at[1]), float(at[2]))))
        scenarios = etree.SubElement(element, "scenarios")
        for scenario in route.scenarios:
            _write_scenario(etree.SubElement(scenarios, "scenario"), scenario)
    return etree.tostring(root, pretty_print=True, encoding="UTF-8", xml_declaration=True)


def _write_scenario(element: Element, scenario: RouteScenario) -> None:
    element.set("name", scenario.name)
    element.set("type", scenario.kind)
    etree.SubElement(element, "trigger_point", written_pose(scenario.trigger))
    kind = SCENARIO_TYPES.get(scenario.kind)
    for parameter in kind.parameters if kind else ():
        for attributes in parameter.write(scenario.parameters.values[parameter.name]):
            etree.SubElement(element, parameter.name, attributes)
