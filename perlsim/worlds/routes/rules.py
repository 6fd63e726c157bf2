"""Where each type of scenario may be placed, and the ranges of its parameters in generated routes.

The shapes are those of Bench2Drive's and DOS's routes, measured on the files: scenarios on the open road
start 10 to 14 m into a route of about 130 m without a junction, those at junctions about 23 m before one (or
4 m, where the turn itself is the point) with 35 m behind it. Ranges, in the units of the files, span what
these files hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from perlsim.worlds.routes.dense import RoadOption

TURNS = frozenset({RoadOption.LEFT, RoadOption.RIGHT})
LEFT = frozenset({RoadOption.LEFT})
RIGHT = frozenset({RoadOption.RIGHT})
ANY = frozenset({RoadOption.LEFT, RoadOption.RIGHT, RoadOption.STRAIGHT})


class Side(Enum):
    """What has to lie beside the lane."""

    ANY = "anything"
    SAME = "a lane of the same direction into which one may change"
    ONCOMING = "an oncoming lane"
    PARKING = "a parking lane"
    EDGE = "no lane of the same direction"


@dataclass(frozen=True)
class OnRoad:
    """A place on the open road, without a junction.

    Attributes:
        left, right: what lies beside the lane, all along.
        length: m of route.
        lead: m from its start to the trigger.
        changes: how many lane changes to the left the route makes.
    """

    left: Side = Side.ANY
    right: Side = Side.ANY
    length: float = 132.0
    lead: float = 12.0
    changes: int = 0


class Other(Enum):
    """Another way through the junction that has to be there."""

    NONE = "none, or the ego's own"
    OPPOSITE = "one from the opposite side, straight on"
    OPPOSITE_JOINS = "one from the opposite side, right into the road that the ego enters"
    FROM_LEFT = "one from the left, straight on into the road that the ego enters"
    CROSSING = "one from the left or right, straight on"
    JOINS = "one from another road into the lane that the ego enters"
    LEAVES = "one out of the ego's lane into another"
    WAITS = "one from the opposite side, left, with a lane to its right"
    RUNS = "one from the left, straight on"
    BICYCLES = "a bicycle lane on the opposite side"


@dataclass(frozen=True)
class AtJunction:
    """A place before a junction.

    Attributes:
        turns: what the route does there.
        lit, stops: whether it has lights, a stop sign; None either.
        other: whose way has to be there.
        lead: m from the trigger to the junction.
        changes: lane change to the left before (−1) or behind (+1) the junction, else 0.
        fast: whether one of both roads has to allow 50 km/h at least.
        ramp: whether no way through the junction may cross the ego's: carriageways only fork or join.
        arms: how many roads lead into the junction; None any number.
        source, sink: m of the flow before and behind the junction, where the file places one.
    """

    turns: frozenset[RoadOption] = ANY
    lit: bool | None = None
    stops: bool | None = None
    other: Other = Other.NONE
    lead: float = 23.0
    changes: int = 0
    fast: bool = False
    ramp: bool = False
    arms: int | None = None
    source: float = 50.0
    sink: float = 16.0


_LANE_BESIDE = OnRoad(left=Side.SAME, right=Side.EDGE)
_TWO_WAYS = OnRoad(left=Side.ONCOMING, right=Side.EDGE)
_PARKING = OnRoad(right=Side.PARKING)

RULES: Mapping[str, OnRoad | AtJunction] = {
    "Accident": _LANE_BESIDE,
    "AccidentTwoWays": _TWO_WAYS,
    "ConstructionObstacle": _LANE_BESIDE,
    "ConstructionObstacleTwoWays": _TWO_WAYS,
    "HazardAtSideLane": _LANE_BESIDE,
    "HazardAtSideLaneTwoWays": _TWO_WAYS,
    "ParkedObstacle": _LANE_BESIDE,
    "ParkedObstacleTwoWays": _TWO_WAYS,
    "VehicleOpensDoorTwoWays": OnRoad(left=Side.ONCOMING, right=Side.PARKING),
    "ControlLoss": OnRoad(),
    "DynamicObjectCrossing": OnRoad(right=Side.EDGE),
    "HardBreakRoute": OnRoad(),
    "ParkingCutIn": _PARKING,
    "ParkingCrossingPedestrian": _PARKING,
    "ParkingExit": OnRoad(right=Side.PARKING, lead=0.5),
    "StaticCutIn": OnRoad(right=Side.SAME),
    "InvadingTurn": OnRoad(left=Side.ONCOMING, right=Side.EDGE, length=104.0),
    "YieldToEmergencyVehicle": OnRoad(left=Side.SAME, length=103.0, lead=10.0),
    "SequentialLaneChange": OnRoad(left=Side.SAME, length=118.0, lead=0.5, changes=2),
    "BlockedIntersection": AtJunction(TURNS),
    "NonSignalizedJunctionLeftTurn": AtJunction(LEFT, lit=False, other=Other.OPPOSITE),
    "SignalizedJunctionLeftTurn": AtJunction(LEFT, lit=True, other=Other.OPPOSITE),
    "NonSignalizedJunctionLeftTurnEnterFlow": AtJunction(LEFT, lit=False, other=Other.OPPOSITE_JOINS),
    "SignalizedJunctionLeftTurnEnterFlow": AtJunction(LEFT, lit=True, other=Other.OPPOSITE_JOINS),
    "NonSignalizedJunctionRightTurn": AtJunction(RIGHT, lit=False, other=Other.FROM_LEFT),
    "SignalizedJunctionRightTurn": AtJunction(RIGHT, lit=True, other=Other.FROM_LEFT),
    "OppositeVehicleRunningRedLight": AtJunction(lit=True, other=Other.CROSSING),
    "OppositeVehicleTakingPriority": AtJunction(lit=False, other=Other.CROSSING),
    "PedestrianCrossing": AtJunction(lead=21.0),
    "PriorityAtJunction": AtJunction(lit=True),
    "T_Junction": AtJunction(TURNS, lead=4.0, arms=3),
    "VanillaNonSignalizedTurn": AtJunction(TURNS, lit=False, stops=False, lead=5.5),
    "VanillaNonSignalizedTurnEncounterStopsign": AtJunction(TURNS, lit=False, stops=True, lead=4.0),
    "VanillaSignalizedTurnEncounterGreenLight": AtJunction(lit=True, lead=4.0),
    "VanillaSignalizedTurnEncounterRedLight": AtJunction(lit=True, lead=4.0),
    "VehicleTurningRoute": AtJunction(TURNS),
    "VehicleTurningRoutePedestrian": AtJunction(TURNS),
    "CrossingBicycleFlow": AtJunction(LEFT, other=Other.BICYCLES, lead=25.0, source=11.0),
    "EnterActorFlow": AtJunction(other=Other.JOINS, source=11.0),
    "EnterActorFlowV2": AtJunction(other=Other.JOINS, fast=True, ramp=True, source=11.0, sink=47.0),
    "InterurbanActorFlow": AtJunction(other=Other.LEAVES, changes=-1, ramp=True),
    "InterurbanAdvancedActorFlow": AtJunction(other=Other.JOINS, changes=1, ramp=True),
    "HighwayCutIn": AtJunction(
        frozenset({RoadOption.STRAIGHT}), other=Other.JOINS, fast=True, ramp=True, source=3.0
    ),
    "HighwayExit": AtJunction(other=Other.LEAVES, changes=-1, fast=True, ramp=True),
    "MergerIntoSlowTraffic": AtJunction(other=Other.NONE, changes=-1, fast=True, ramp=True),
    "MergerIntoSlowTrafficV2": AtJunction(other=Other.JOINS, fast=True, ramp=True, sink=47.0),
    "DOS_01": OnRoad(right=Side.SAME, length=60.0, lead=14.0),
    "DOS_02": OnRoad(right=Side.SAME, length=55.0, lead=4.0),
    "DOS_03": AtJunction(LEFT, lit=True, other=Other.WAITS, lead=20.0, source=1.0, sink=8.0),
    "DOS_04": AtJunction(frozenset({RoadOption.STRAIGHT}), lit=True, other=Other.RUNS, lead=42.0, source=1.5),
}

# A number lies between two, an interval's ends each between two, a word is one of several.
Range = tuple[float, float] | tuple[tuple[float, float], tuple[float, float]] | tuple[str, ...]

_BLOCKED: Mapping[str, Range] = {"distance": (40, 45), "speed": (40, 57), "direction": ("right",)}
_ONCOMING: Mapping[str, Range] = {
    "distance": (40, 45),
    "direction": ("right",),
    "frequency": ((31, 66), (109, 200)),
}
_BICYCLES: Mapping[str, Range] = {"bicycle_speed": (6, 11), "bicycle_drive_distance": (40, 116)}
_LEFT_TURN: Mapping[str, Range] = {"flow_speed": (8, 11), "source_dist_interval": ((15, 24), (25, 30))}

RANGES: Mapping[str, Mapping[str, Range]] = {
    "Accident": _BLOCKED,
    "AccidentTwoWays": _ONCOMING,
    "ConstructionObstacle": _BLOCKED,
    "ConstructionObstacleTwoWays": _ONCOMING,
    "ParkedObstacle": _BLOCKED,
    "ParkedObstacleTwoWays": _ONCOMING,
    "HazardAtSideLane": {"distance": (40, 45), "speed": (32, 54), **_BICYCLES},
    "HazardAtSideLaneTwoWays": {"distance": (40, 45), "frequency": (82, 100), **_BICYCLES},
    "VehicleOpensDoorTwoWays": {**_ONCOMING, "distance": (39, 59), "frequency": ((31, 40), (93, 98))},
    "DynamicObjectCrossing": {
        "distance": (42, 50),
        "direction": ("right",),
        "crossing_angle": (3, 11),
        "blocker_model": ("static.prop.advertisement", "static.prop.container", "static.prop.busstoplb"),
    },
    "ParkingCutIn": {"direction": ("right",)},
    "ParkingCrossingPedestrian": {"distance": (41, 45), "direction": ("right",), "crossing_angle": (0, 10)},
    "ParkingExit": {
        "direction": ("right",),
        "front_vehicle_distance": (9, 9),
        "behind_vehicle_distance": (9, 9),
    },
    "StaticCutIn": {"distance": (40, 45), "direction": ("right",)},
    "InvadingTurn": {"distance": (50, 51), "offset": (0.18, 0.34)},
    "YieldToEmergencyVehicle": {"distance": (26, 30)},
    "NonSignalizedJunctionLeftTurn": _LEFT_TURN,
    "SignalizedJunctionLeftTurn": _LEFT_TURN,
    "NonSignalizedJunctionLeftTurnEnterFlow": _LEFT_TURN,
    "SignalizedJunctionLeftTurnEnterFlow": _LEFT_TURN,
    "NonSignalizedJunctionRightTurn": {"flow_speed": (9, 14), "source_dist_interval": ((20, 22), (25, 29))},
    "SignalizedJunctionRightTurn": {"flow_speed": (13, 14), "source_dist_interval": ((22, 24), (26, 31))},
    "OppositeVehicleRunningRedLight": {},
    "OppositeVehicleTakingPriority": {},
    "CrossingBicycleFlow": {"flow_speed": (8, 12), "source_dist_interval": ((12, 15), (25, 30))},
    "EnterActorFlow": {"flow_speed": (12, 17), "source_dist_interval": ((17, 30), (33, 39))},
    "EnterActorFlowV2": {"flow_speed": (12, 17), "source_dist_interval": ((17, 30), (33, 39))},
    "InterurbanActorFlow": {"flow_speed": (15, 16), "source_dist_interval": ((46, 53), (78, 86))},
    "InterurbanAdvancedActorFlow": {"flow_speed": (17, 18), "source_dist_interval": ((36, 42), (84, 94))},
    "HighwayExit": {"flow_speed": (10, 13), "source_dist_interval": ((11, 20), (33, 46))},
    "MergerIntoSlowTraffic": {"flow_speed": (9, 9), "source_dist_interval": ((15, 16), (33, 38))},
    "MergerIntoSlowTrafficV2": {"flow_speed": (10, 10), "source_dist_interval": ((11, 12), (30, 33))},
}
