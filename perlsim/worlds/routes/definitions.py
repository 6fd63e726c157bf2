"""What a route file says: routes with their waypoints and scenarios.

Frame: right-handed as the OpenDRIVE towns (x east, y north, z up), CARLA's mirrored: y flipped, yaw negated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perlsim.scenario import Array
from perlsim.worlds.routes.parameters import Parsed, Pose


@dataclass(frozen=True)
class RouteScenario:
    """One scenario of a route.

    Attributes:
        name: unique within the route, "Accident_1".
        kind: its type, a key of `perlsim.worlds.routes.catalogue.SCENARIO_TYPES` unless refused.
        trigger: x, y, z m, heading rad: the scenario starts when the ego gets there.
        parameters: typed, and those refused.
    """

    name: str
    kind: str
    trigger: Pose
    parameters: Parsed = field(default_factory=Parsed)


@dataclass(frozen=True)
class RouteDefinition:
    """One route.

    Attributes:
        route: its id.
        town: name of its town.
        waypoints: ``[n, 3]`` m, at least two; between them the route follows the lanes.
        scenarios: in the file's order.
        weathers: each a mapping of CARLA's weather attributes (cloudiness, fog_density, … in CARLA's units)
            and ``route_percentage``, where on the route it holds. Vector worlds have no weather; it is kept
            so that files can be written again.
    """

    route: str
    town: str
    waypoints: Array
    scenarios: tuple[RouteScenario, ...] = ()
    weathers: tuple[Mapping[str, float], ...] = ()
