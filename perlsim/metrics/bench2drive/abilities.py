"""Bench2Drive's five abilities: success rates over groups of scenario types, and their unweighted mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perlsim.metrics.bench2drive.records import RouteRecord

TRAFFIC_SIGNS = "Traffic Signs"
# Waypoints, 1 m apart, past the first one in a junction at which the junction counts as passed (Bench2Drive).
PAST_JUNCTION = 8

_TURNS = frozenset(
    {
        "NonSignalizedJunctionLeftTurn",
        "NonSignalizedJunctionRightTurn",
        "NonSignalizedJunctionLeftTurnEnterFlow",
        "SignalizedJunctionLeftTurn",
        "SignalizedJunctionRightTurn",
        "SignalizedJunctionLeftTurnEnterFlow",
    }
)
_AT_JUNCTIONS = frozenset(
    {
        "BlockedIntersection",
        "OppositeVehicleTakingPriority",
        "OppositeVehicleRunningRedLight",
        "PedestrianCrossing",
        "VehicleTurningRoute",
        "VehicleTurningRoutePedestrian",
    }
)
# Types of scenario by ability (Bench2Drive, evaluation of abilities).
ABILITIES: Mapping[str, frozenset[str]] = {
    "Overtaking": frozenset(
        {
            "Accident",
            "AccidentTwoWays",
            "ConstructionObstacle",
            "ConstructionObstacleTwoWays",
            "HazardAtSideLane",
            "HazardAtSideLaneTwoWays",
            "ParkedObstacle",
            "ParkedObstacleTwoWays",
            "VehicleOpensDoorTwoWays",
        }
    ),
    "Merging": _TURNS
    | {
        "CrossingBicycleFlow",
        "EnterActorFlow",
        "HighwayCutIn",
        "HighwayExit",
        "InterurbanActorFlow",
        "InterurbanAdvancedActorFlow",
        "MergerIntoSlowTraffic",
        "MergerIntoSlowTrafficV2",
        "ParkingExit",
        "SequentialLaneChange",
    },
    "Emergency Brake": _AT_JUNCTIONS
    | {
        "ControlLoss",
        "DynamicObjectCrossing",
        "HardBreakRoute",
        "ParkingCrossingPedestrian",
        "ParkingCutIn",
        "StaticCutIn",
    },
    "Give Way": frozenset({"InvadingTurn", "YieldToEmergencyVehicle"}),
    TRAFFIC_SIGNS: _AT_JUNCTIONS
    | _TURNS
    | {
        "CrossingBicycleFlow",
        "EnterActorFlow",
        "T_Junction",
        "VanillaNonSignalizedTurn",
        "VanillaNonSignalizedTurnEncounterStopsign",
        "VanillaSignalizedTurnEncounterGreenLight",
        "VanillaSignalizedTurnEncounterRedLight",
    },
}


@dataclass(frozen=True)
class Attempt:
    """One route as the abilities see it.

    Attributes:
        scenario: type of its scenario.
        record: what was driven; None where there is no record, which is a failure.
        passed: whether a failed drive went through the junction (see `passed_junction`); None unknown.
    """

    scenario: str
    record: RouteRecord | None
    passed: bool | None = None

    @property
    def success(self) -> bool:
        """Whether the route is a success by itself."""
        return self.record is not None and self.record.success

    @property
    def may_be_rescued(self) -> bool:
        """Whether passing the junction would make a failed drive count for the traffic signs.

        It needs a drive without a red light or a stop sign run.
        """
        if self.record is None or self.success or self.scenario not in ABILITIES[TRAFFIC_SIGNS]:
            return False
        infractions = self.record.infractions
        return (
            self.record.completion > 0
            and not infractions.get("red_light")
            and not infractions.get("stop_infraction")
        )


@dataclass(frozen=True)
class Ability:
    """The success rate in one ability, in %.

    Attributes:
        low, high: bounds; they differ where it is unknown whether failed drives passed their junction. NaN
            without routes.
        count: number of routes.
    """

    low: float
    high: float
    count: int

    @property
    def value(self) -> float:
        """The rate, NaN where only its bounds are known."""
        return self.low if self.low == self.high else math.nan


def passed_junction(completion: float, junction: float | None, length: float) -> bool:
    """Whether a drive went through the first junction of its route, counted in waypoints 1 m apart.

    Args:
        completion: how much of the route was driven, %.
        junction: where on the route its first junction begins, m; None where it has none.
        length: of the route, m.
    """
    if junction is None:
        return False
    waypoint, num_waypoints = int(junction) + 1, int(length) + 1
    return completion / 100 > (waypoint + PAST_JUNCTION) / num_waypoints


def abilities(attempts: Iterable[Attempt]) -> dict[str, Ability]:
    """The five abilities by name, and "mean", the unweighted mean of those that have routes."""
    attempts = list(attempts)
    rates = {name: _rate(name, attempts) for name in ABILITIES}
    known = [rate for rate in rates.values() if rate.count]
    if known:
        low, high = (
            math.fsum(bound) / len(known) for bound in zip(*((r.low, r.high) for r in known), strict=True)
        )
    else:
        low = high = math.nan
    return {**rates, "mean": Ability(low, high, sum(rate.count for rate in known))}


def _rate(name: str, attempts: list[Attempt]) -> Ability:
    group = [attempt for attempt in attempts if attempt.scenario in ABILITIES[name]]
    if not group:
        return Ability(math.nan, math.nan, 0)
    low = high = sum(attempt.success for attempt in group)
    if name == TRAFFIC_SIGNS:
        rescued = [attempt.passed for attempt in group if attempt.may_be_rescued]
        low += sum(passed is True for passed in rescued)
        high += sum(passed is not False for passed in rescued)
    return Ability(100 * low / len(group), 100 * high / len(group), len(group))
