"""From a scenario of a route file to its script."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from perlsim.errors import PerlsimError, unknown_name
from perlsim.worlds.actors import crossings, flows, obstacles
from perlsim.worlds.actors.ground import Ground, ground_of
from perlsim.worlds.actors.script import Actor, Script
from perlsim.worlds.routes.catalogue import SCENARIO_TYPES
from perlsim.worlds.routes.definitions import RouteScenario
from perlsim.worlds.routes.load import Route
from perlsim.worlds.routes.placement import Places


def _nobody(ground: Ground) -> list[Actor]:
    """Turns at a light or a sign: the junction is the point, and nobody is added."""
    return []


MAKERS: Mapping[str, Callable[[Ground], list[Actor]]] = {
    "Accident": obstacles.accident,
    "AccidentTwoWays": obstacles.accident,
    "ConstructionObstacle": obstacles.construction,
    "ConstructionObstacleTwoWays": obstacles.construction,
    "HazardAtSideLane": obstacles.hazard,
    "HazardAtSideLaneTwoWays": obstacles.hazard,
    "ParkedObstacle": obstacles.parked,
    "ParkedObstacleTwoWays": obstacles.parked,
    "VehicleOpensDoorTwoWays": obstacles.opens_door,
    "HardBreakRoute": obstacles.hard_brake,
    "StaticCutIn": obstacles.static_cut_in,
    "ParkingCutIn": obstacles.parking_cut_in,
    "InvadingTurn": obstacles.invading_turn,
    "YieldToEmergencyVehicle": obstacles.emergency,
    "DynamicObjectCrossing": crossings.dynamic_object,
    "ParkingCrossingPedestrian": crossings.parking_pedestrian,
    "PedestrianCrossing": crossings.pedestrians,
    "VehicleTurningRoute": crossings.turning_bicycle,
    "VehicleTurningRoutePedestrian": crossings.turning_pedestrian,
    "BlockedIntersection": crossings.blocked_intersection,
    "OppositeVehicleRunningRedLight": crossings.takes_priority,
    "OppositeVehicleTakingPriority": crossings.takes_priority,
    **{
        f"{lights}Junction{turn}": flows.junction_flow
        for lights in ("Signalized", "NonSignalized")
        for turn in ("LeftTurn", "RightTurn", "LeftTurnEnterFlow")
    },
    **dict.fromkeys(
        (
            "EnterActorFlow",
            "EnterActorFlowV2",
            "InterurbanActorFlow",
            "InterurbanAdvancedActorFlow",
            "HighwayExit",
            "MergerIntoSlowTraffic",
            "MergerIntoSlowTrafficV2",
        ),
        flows.placed_flow,
    ),
    "CrossingBicycleFlow": flows.bicycle_flow,
    "HighwayCutIn": flows.highway_cut_in,
    "SequentialLaneChange": flows.lanes_traffic,
    "T_Junction": flows.joined_traffic,
    **dict.fromkeys(
        (
            "VanillaNonSignalizedTurn",
            "VanillaNonSignalizedTurnEncounterStopsign",
            "VanillaSignalizedTurnEncounterGreenLight",
            "VanillaSignalizedTurnEncounterRedLight",
            "PriorityAtJunction",
        ),
        _nobody,
    ),
}
"""What puts the actors of each type on the road."""

_NOT_YET: Mapping[str, str] = {
    "ControlLoss": "the ego's vehicle knows no disturbance of its steering and throttle",
    "ParkingExit": "routes start on a traffic lane, not in a gap between parked vehicles",
    **dict.fromkeys(("DOS_01", "DOS_02", "DOS_03", "DOS_04"), "occlusion cases are not scripted"),
}


def compile_scenario(
    scenario: RouteScenario, route: Route, trigger: float, places: Places, seed: int = 0
) -> Script:
    """The script of a scenario.

    Args:
        scenario: one of the route's.
        route: led along the lanes of its town.
        trigger: m along the route at which it starts (`Route.triggers`).
        places: of the town.
        seed: of what the file leaves open.

    Raises:
        PerlsimError: names the type, where it cannot be staged: not at all, or not at this place.
    """
    kind, field = scenario.kind, f"route {route.definition.route}"
    if kind not in SCENARIO_TYPES:
        raise unknown_name("scenario type", kind, SCENARIO_TYPES, field)
    if kind not in MAKERS:
        raise PerlsimError(f"{kind} cannot be staged: {_NOT_YET[kind]}", field=field)
    if np.isnan(trigger):
        raise PerlsimError(f"{kind} cannot be staged: its trigger lies off the route", field=field)
    return Script(tuple(MAKERS[kind](ground_of(scenario, route, trigger, places, seed))))
