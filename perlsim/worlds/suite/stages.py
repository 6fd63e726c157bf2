"""Where along a route its scenarios take place, and what holds there.

Distances and times are those of the public scenario classes in Bench2Drive's version (FACTS, metrics).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.geometry import polylines
from perlsim.worlds.actors import Script
from perlsim.worlds.actors.script import NO_FLOW
from perlsim.worlds.routes.load import Route

# m behind an obstacle at which its scenario is over.
END_DISTANCE = 50.0
# s after which a scenario that was not passed has timed out. A drive ends after 200 s, before any scenario can.
TIMEOUT = 240.0
# Types whose obstacle has to be passed in a lane of opposite direction.
TWO_WAYS = "TwoWays"
# Types with something to pass on the route's own lane.
OBSTACLES = ("Accident", "ConstructionObstacle", "HazardAtSideLane", "ParkedObstacle", "VehicleOpensDoor")
# Types that time out besides these and the turns at junctions.
TIMED = (
    *OBSTACLES,
    "BlockedIntersection",
    "CrossingBicycleFlow",
    "EnterActorFlow",
    "HighwayExit",
    "Interurban",
    "InvadingTurn",
    "MergerIntoSlowTraffic",
    "NonSignalizedJunction",
    "ParkingExit",
    "SequentialLaneChange",
    "SignalizedJunction",
    "T_Junction",
    "Vanilla",
)


@dataclass(frozen=True)
class Stage:
    """A scenario's stretch of a route.

    Attributes:
        kind: type of the scenario.
        begin: m along the route at which it is triggered.
        end: m along the route at which it is over; infinite where only the route's end ends it.
    """

    kind: str
    begin: float
    end: float = np.inf

    @property
    def allows_oncoming(self) -> bool:
        """Whether lanes of opposite direction may be used."""
        return self.kind.endswith(TWO_WAYS)

    @property
    def has_timeout(self) -> bool:
        """Whether it has to be passed in time."""
        return self.kind.startswith(TIMED)


def stage_of(kind: str, trigger: float, script: Script, route: Route) -> Stage:
    """The stretch of a scenario.

    Args:
        kind: its type.
        trigger: m along the route.
        script: its road users.
        route: the route.
    """
    paths = [actor.path for actor in script.actors if actor.flow == NO_FLOW]
    if not paths or not kind.startswith(OBSTACLES):
        return Stage(kind, trigger)
    places = polylines.project(route.dense.points, np.concatenate(paths)).arc
    return Stage(kind, trigger, float(places.max()) + END_DISTANCE)
