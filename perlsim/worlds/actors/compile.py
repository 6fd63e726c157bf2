"""From a scenario of a route file to its script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from perlsim.errors import PerlsimError, unknown_name
from perlsim.worlds.actors import crossings, flows, obstacles, occlusions, timing
from perlsim.worlds.actors.ground import Ground, ground_of
from perlsim.worlds.actors.script import Actor, Script
from perlsim.worlds.light_plans import LightPlan
from perlsim.worlds.routes.catalogue import SCENARIO_TYPES
from perlsim.worlds.routes.definitions import RouteScenario
from perlsim.worlds.routes.load import Route
from perlsim.worlds.routes.placement import Places


def _nobody(ground: Ground) -> list[Actor]:
    """Turns at a light or a sign: the junction is the point, and nobody is added."""
    return []


MAKERS: Mapping[str, Callable[[Ground], list[Actor] | Script]] = {
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
    "ControlLoss": obstacles.control_loss,
    "ParkingExit": obstacles.parking_exit,
    "DOS_01": occlusions.parked_lorries,
    "DOS_02": occlusions.braking_lorries,
    "DOS_03": occlusions.waiting_lorry,
    "DOS_04": occlusions.red_light_runner,
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
            "HighwayExit",
            "MergerIntoSlowTraffic",
            "MergerIntoSlowTrafficV2",
        ),
        flows.placed_flow,
    ),
    "InterurbanAdvancedActorFlow": flows.both_ways,
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


def compile_scenario(
    scenario: RouteScenario,
    route: Route,
    trigger: float,
    places: Places,
    seed: int = 0,
    lights: LightPlan | None = None,
) -> Script:
    """The script of a scenario.

    Args:
        scenario: one of the route's.
        route: led along the lanes of its town.
        trigger: m along the route at which it starts (`Route.triggers`).
        places: of the town.
        seed: of what the file leaves open.
        lights: programmes of the town, which some types need to run otherwise; None leaves them as they are.

    Raises:
        PerlsimError: names the type, where it cannot be staged: not at all, or not at this place.
    """
    kind, field = scenario.kind, f"route {route.definition.route}"
    if kind not in SCENARIO_TYPES:
        raise unknown_name("scenario type", kind, SCENARIO_TYPES, field)
    if np.isnan(trigger):
        raise PerlsimError(f"{kind} cannot be staged: its trigger lies off the route", field=field)
    ground = ground_of(scenario, route, trigger, places, seed)
    ground = replace(ground, lights=timing.lights_of(ground, lights))
    made = MAKERS[kind](ground)
    script = made if isinstance(made, Script) else Script(tuple(made))
    if ground.lights is not None:
        script = replace(script, light_shift=ground.lights.shift, light_hold=ground.lights.hold)
    return script
