"""The closed vocabularies of a scenario: what an agent, a lane, a marking or a light can be.

The integer values are stored on disk and used on the device: append, never renumber.
"""

from enum import IntEnum


class AgentType(IntEnum):
    """Kind of road user. ``STATIC`` is a fixed obstacle: cone, barrier, debris."""

    UNKNOWN = 0
    VEHICLE = 1
    PEDESTRIAN = 2
    CYCLIST = 3
    MOTORCYCLIST = 4
    BUS = 5
    TRUCK = 6
    STATIC = 7


class LaneType(IntEnum):
    """Use of a lane. ``DRIVING`` is any general traffic lane below motorway class."""

    UNKNOWN = 0
    DRIVING = 1
    FREEWAY = 2
    BICYCLE = 3
    BUS = 4
    SHOULDER = 5
    PARKING = 6


class MarkingType(IntEnum):
    """Painted line between lanes. ``NONE`` is a lane border without paint.

    ``SOLID_BROKEN``: solid on the left of the line's direction, broken on its right.
    """

    NONE = 0
    UNKNOWN = 1
    BROKEN = 2
    SOLID = 3
    DOUBLE_SOLID = 4
    DOUBLE_BROKEN = 5
    SOLID_BROKEN = 6
    BROKEN_SOLID = 7


class LightState(IntEnum):
    """State of a traffic light towards one lane; arrows are folded into their colour."""

    UNKNOWN = 0
    GREEN = 1
    YELLOW = 2
    RED = 3
    FLASHING_YELLOW = 4
    FLASHING_RED = 5
    OFF = 6


# Length, width, height [m] used where a format gives no box sizes (Argoverse 2 motion, for one).
# Typical values of each class, [S].
DEFAULT_SIZE = {
    AgentType.UNKNOWN: (1.0, 1.0, 1.5),
    AgentType.VEHICLE: (4.6, 1.9, 1.6),
    AgentType.PEDESTRIAN: (0.7, 0.7, 1.7),
    AgentType.CYCLIST: (1.8, 0.7, 1.7),
    AgentType.MOTORCYCLIST: (2.2, 0.8, 1.6),
    AgentType.BUS: (12.0, 2.6, 3.2),
    AgentType.TRUCK: (8.0, 2.5, 3.2),
    AgentType.STATIC: (0.5, 0.5, 1.0),
}
