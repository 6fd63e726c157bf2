"""The types of scenario that route files name: Bench2Drive's 44, two of the CARLA Leaderboard, DOS's four.

Names, units and defaults are those of the public scenario classes (CARLA scenario_runner and the copy that
ships with Bench2Drive; DOS's own classes). Flows have speeds in m/s, single bicycles and traffic that is
slowed down in km/h, because the classes hand them to interfaces with those units.
"""

from __future__ import annotations

from collections.abc import Mapping

from perlsim.worlds.routes.parameters import Form, Found, Parameter, Parsed, ScenarioType, parse

_UNREAD = "the public scenario class does not read it"
_NO_FLOW = "there is no oncoming flow in this scenario"
_NOT_SLOWED = "traffic is not slowed down where there is an oncoming flow"

_SLOWED = Parameter("speed", "most that the traffic around drives meanwhile", unit="km/h", default=60.0)
_OPPOSITE = Parameter(
    "frequency", "gaps between the vehicles of the oncoming flow", Form.INTERVAL, "m", (20.0, 100.0)
)
_START = Parameter("start_actor_flow", "where the flow begins", Form.POINT, "m")
_END = Parameter("end_actor_flow", "where the flow ends", Form.POINT, "m")
_ANGLE = Parameter("crossing_angle", "by how much the walk is off square", unit="deg", default=0.0)
_BICYCLE_SPEED = Parameter("bicycle_speed", "speed of the bicycles", unit="km/h", default=10.0)
_BICYCLE_DISTANCE = Parameter("bicycle_drive_distance", "how far they ride", unit="m", default=50.0)


def _distance(default: float, to: str) -> Parameter:
    return Parameter("distance", f"along the lane from the trigger to {to}", unit="m", default=default)


def _side(what: str) -> Parameter:
    return Parameter("direction", f"side of {what}", Form.WORD, default="right", words=("left", "right"))


def _flow(speed: float, gap: tuple[float, float]) -> tuple[Parameter, Parameter]:
    return (
        Parameter("flow_speed", "speed of the flow", unit="m/s", default=speed),
        Parameter("source_dist_interval", "gaps between its vehicles", Form.INTERVAL, "m", gap),
    )


_PLACED_FLOW = (_START, _END, *_flow(10.0, (20.0, 50.0)))
_CROSSING_FLOW = _flow(20.0, (25.0, 50.0))  # it finds its own way through the junction

_BLOCKED_LANE = (
    ScenarioType(
        "Accident",
        "A police car and two crashed cars block the lane; the lane beside runs the same way.",
        (_distance(120.0, "the police car"), _side("the lane on which they stand"), _SLOWED),
        {"frequency": _NO_FLOW},
    ),
    ScenarioType(
        "AccidentTwoWays",
        "A police car and two crashed cars block the lane; the way past is the oncoming lane.",
        (_distance(120.0, "the police car"), _side("the lane on which they stand"), _OPPOSITE),
        {"speed": _NOT_SLOWED},
    ),
    ScenarioType(
        "ConstructionObstacle",
        "A construction site with cones and a sign blocks the lane; the lane beside runs the same way.",
        (_distance(100.0, "the site"), _side("the lane on which it stands"), _SLOWED),
        {"frequency": _NO_FLOW},
    ),
    ScenarioType(
        "ConstructionObstacleTwoWays",
        "A construction site with cones and a sign blocks the lane; the way past is the oncoming lane.",
        (_distance(100.0, "the site"), _side("the lane on which it stands"), _OPPOSITE),
        {"speed": _NOT_SLOWED},
    ),
    ScenarioType(
        "HazardAtSideLane",
        "Two slow bicycles ride at the lane's edge; the lane beside runs the same way.",
        (_distance(100.0, "the first bicycle"), _BICYCLE_SPEED, _BICYCLE_DISTANCE, _SLOWED),
        {"frequency": _NO_FLOW},
    ),
    ScenarioType(
        "HazardAtSideLaneTwoWays",
        "Two slow bicycles ride at the lane's edge; the way past is the oncoming lane.",
        (
            _distance(100.0, "the first bicycle"),
            _BICYCLE_SPEED,
            _BICYCLE_DISTANCE,
            Parameter("frequency", "gap between the vehicles of the oncoming flow", unit="m", default=100.0),
        ),
        {"speed": _NOT_SLOWED},
    ),
    ScenarioType(
        "ParkedObstacle",
        "A broken-down vehicle blocks the lane; the lane beside runs the same way.",
        (_distance(120.0, "the vehicle"), _side("the lane on which it stands"), _SLOWED),
        {"frequency": _NO_FLOW},
    ),
    ScenarioType(
        "ParkedObstacleTwoWays",
        "A broken-down vehicle blocks the lane; the way past is the oncoming lane.",
        (_distance(120.0, "the vehicle"), _side("the lane on which it stands"), _OPPOSITE),
        {"speed": _NOT_SLOWED},
    ),
    ScenarioType(
        "VehicleOpensDoorTwoWays",
        "A vehicle parked beside the lane opens its door; the way past is the oncoming lane.",
        (_distance(50.0, "the vehicle"), _side("the parking lane"), _OPPOSITE),
        {"speed": _NOT_SLOWED},
    ),
)

_LIGHTS = (("Signalized", "with lights"), ("NonSignalized", "without lights"))
_FLOWS = (
    ScenarioType("EnterActorFlow", "The ego joins a flow from the side, at a junction.", _PLACED_FLOW),
    ScenarioType("EnterActorFlowV2", "The ego joins a flow from the side, from a slip road.", _PLACED_FLOW),
    ScenarioType(
        "InterurbanActorFlow", "The ego turns left across an oncoming flow off a country road.", _PLACED_FLOW
    ),
    ScenarioType(
        "InterurbanAdvancedActorFlow",
        "The ego turns left onto a country road, across one flow and into the other.",
        _PLACED_FLOW,
        {"direction": _UNREAD},
    ),
    ScenarioType(
        "HighwayExit", "The ego crosses a flow on the lane beside to leave a motorway.", _PLACED_FLOW
    ),
    ScenarioType("MergerIntoSlowTraffic", "The ego leaves fast traffic for a slow flow.", _PLACED_FLOW),
    ScenarioType("MergerIntoSlowTrafficV2", "The ego enters a slow flow on a motorway.", _PLACED_FLOW),
    ScenarioType(
        "CrossingBicycleFlow",
        "Bicycles ride straight on along the lane that the ego's turn crosses.",
        (_START, *_flow(10.0, (20.0, 50.0))),
        {"end_actor_flow": "the bicycles follow the bicycle lane to its end"},
    ),
    ScenarioType(
        "HighwayCutIn",
        "A vehicle from a slip road cuts in before the ego.",
        (Parameter("other_actor_location", "where the vehicle begins", Form.POINT, "m"),),
        {"end_location": _UNREAD},
    ),
    *(
        ScenarioType(
            f"{prefix}JunctionLeftTurn",
            f"The ego turns left across an oncoming flow, {what}.",
            _CROSSING_FLOW,
        )
        for prefix, what in _LIGHTS
    ),
    *(
        ScenarioType(
            f"{prefix}JunctionRightTurn",
            f"The ego turns right into a flow from its left, {what}.",
            _CROSSING_FLOW,
        )
        for prefix, what in _LIGHTS
    ),
    *(
        ScenarioType(
            f"{prefix}JunctionLeftTurnEnterFlow",
            f"The ego turns left into a road into which an oncoming flow turns right, {what}.",
            _CROSSING_FLOW,
        )
        for prefix, what in _LIGHTS
    ),
)

_FROM = Parameter(
    "direction",
    "where the vehicle comes from",
    Form.WORD,
    default="right",
    words=("left", "right", "opposite"),
)

_SUDDEN = (
    ScenarioType("BlockedIntersection", "A vehicle stands just behind the ego's turn, out of sight."),
    ScenarioType(
        "ControlLoss",
        "Debris on the lane disturbs the ego's steering and throttle.",
        unused=dict.fromkeys(("distance", "direction", "speed"), _UNREAD),
    ),
    ScenarioType(
        "DynamicObjectCrossing",
        "A pedestrian walks out from behind an object at the roadside.",
        (
            _distance(12.0, "where they cross"),
            _side("the pedestrian"),
            _ANGLE,
            Parameter(
                "blocker_model", "the object that hides them", Form.WORD, default="static.prop.vendingmachine"
            ),
        ),
    ),
    ScenarioType("HardBreakRoute", "The vehicles ahead brake hard and stand."),
    ScenarioType(
        "OppositeVehicleRunningRedLight",
        "An emergency vehicle runs a red light across the ego's way.",
        (_FROM,),
    ),
    ScenarioType(
        "OppositeVehicleTakingPriority", "An emergency vehicle takes the ego's right of way.", (_FROM,)
    ),
    ScenarioType("ParkingCutIn", "A parked vehicle pulls out before the ego.", (_side("the parking lane"),)),
    ScenarioType(
        "ParkingCrossingPedestrian",
        "A pedestrian walks out from behind a parked vehicle.",
        (_distance(12.0, "where they cross"), _side("the parking lane"), _ANGLE),
    ),
    ScenarioType("PedestrianCrossing", "Pedestrians cross on the crosswalk of a junction."),
    ScenarioType(
        "StaticCutIn",
        "A vehicle cuts in out of a standing lane.",
        (_distance(100.0, "the vehicle"), _side("the standing lane")),
        {"speed": _UNREAD},
    ),
    ScenarioType("VehicleTurningRoute", "A bicycle crosses the road into which the ego turns."),
    ScenarioType("VehicleTurningRoutePedestrian", "A pedestrian crosses the road into which the ego turns."),
)

_OTHERS = (
    ScenarioType(
        "InvadingTurn",
        "Oncoming vehicles in a bend stray over the middle of the road.",
        (
            _distance(100.0, "where they come from"),
            Parameter("offset", "how far they stray over the middle", unit="m", default=0.25),
        ),
    ),
    ScenarioType(
        "ParkingExit",
        "The ego leaves a gap between parked vehicles into traffic.",
        (
            Parameter("front_vehicle_distance", "to the parked vehicle in front", unit="m", default=20.0),
            Parameter("behind_vehicle_distance", "to the parked vehicle behind", unit="m", default=10.0),
            _side("the parking lane"),
            Parameter("flow_distance", "gap between the vehicles that pass", unit="m", default=25.0),
        ),
        {"speed": _UNREAD},
    ),
    ScenarioType(
        "YieldToEmergencyVehicle",
        "An emergency vehicle comes from behind and has to be let past.",
        (Parameter("distance", "how far behind it begins", unit="m", default=140.0),),
    ),
    ScenarioType("PriorityAtJunction", "The ego's light turns green: room between two other scenarios."),
    ScenarioType("SequentialLaneChange", "The ego changes over several lanes in traffic."),
    ScenarioType("T_Junction", "The ego turns at a T-junction in traffic."),
    ScenarioType("VanillaNonSignalizedTurn", "The ego turns at a junction without lights or signs."),
    ScenarioType("VanillaNonSignalizedTurnEncounterStopsign", "The ego turns at a stop sign."),
    ScenarioType("VanillaSignalizedTurnEncounterGreenLight", "The ego turns at a light that is green."),
    ScenarioType("VanillaSignalizedTurnEncounterRedLight", "The ego turns at a light that is red."),
)

# Poses in a DOS trigger definition say where vehicles begin (and, DOS_03's "left", whither the first turns).
_DOS = (
    ScenarioType("DOS_01", "Parked trucks at the right hide a pedestrian who walks out."),
    ScenarioType("DOS_02", "The trucks ahead brake for pedestrians whom they hide."),
    ScenarioType(
        "DOS_03",
        "The ego turns left; a vehicle that waits opposite hides an oncoming one.",
        (
            Parameter("front", "where the waiting vehicle stands", Form.POSES, "m"),
            Parameter("left", "where it turns to", Form.POSES, "m"),
        ),
    ),
    ScenarioType(
        "DOS_04",
        "Vehicles at the light hide one that runs a red light from the left.",
        (Parameter("left", "where the runner comes from", Form.POSES, "m"),),
    ),
)

SCENARIO_TYPES: Mapping[str, ScenarioType] = {
    kind.name: kind for kind in (*_BLOCKED_LANE, *_FLOWS, *_SUDDEN, *_OTHERS, *_DOS)
}
# Not in Bench2Drive: the Leaderboard's own two.
LEADERBOARD_ONLY = ("EnterActorFlowV2", "PriorityAtJunction")
DOS_TYPES = tuple(kind.name for kind in _DOS)
BENCH2DRIVE_TYPES = tuple(
    sorted(name for name in SCENARIO_TYPES if name not in LEADERBOARD_ONLY and name not in DOS_TYPES)
)


def parse_parameters(kind: str, found: Found) -> Parsed:
    """Types the parameters of a scenario of that type; of an unknown type everything is refused.

    Raises:
        FormatError: as `perlsim.worlds.routes.parameters.parse`.
    """
    if kind not in SCENARIO_TYPES:
        reason = f"{kind or 'a scenario without a type'} is not a known type of scenario"
        return Parsed(refused={"type": reason, **dict.fromkeys(found, reason)})
    return parse(SCENARIO_TYPES[kind], found)
