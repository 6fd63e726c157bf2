"""What CARLA's blueprint names, boxes and light states mean; shared by the readers of CARLA's formats."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perlsim.vocabulary import AgentType, LightState

# carla.TrafficLightState by number, in recorder logs and Bench2Drive annotations alike.
LIGHT_STATES = {
    0: LightState.RED,
    1: LightState.YELLOW,
    2: LightState.GREEN,
    3: LightState.OFF,
    4: LightState.UNKNOWN,
}
EGO_ROLES = ("hero", "ego_vehicle", "ego")

_BICYCLES = ("crossbike", "century", "omafiets")
_MOTORCYCLES = ("harley", "kawasaki", "yamaha", "vespa")
_BUSES = ("fusorosa", ".bus")
_TRUCKS = ("carlacola", "firetruck", "european_hgv", ".truck")
_BASE_TYPES = {
    "bicycle": AgentType.CYCLIST,
    "motorcycle": AgentType.MOTORCYCLIST,
    "bus": AgentType.BUS,
}


def agent_type(blueprint: str, attributes: Mapping[str, str] | None = None) -> AgentType | None:
    """Kind of road user of a blueprint such as ``vehicle.tesla.model3``; None where it is none (a sensor).

    Args:
        blueprint: the actor's type id.
        attributes: its attributes; ``base_type`` and ``number_of_wheels`` count where present. A base type of
            "truck" does not: CARLA gives it to pick-ups, which are as long as cars.
    """
    name, attributes = blueprint.lower(), attributes or {}
    if name.startswith("walker."):
        return AgentType.PEDESTRIAN
    if name.startswith("static.prop"):
        return AgentType.STATIC
    if not name.startswith(("vehicle.", "static.vehicle")) and ".vehicle" not in name:
        return None
    if attributes.get("base_type") in _BASE_TYPES:
        return _BASE_TYPES[attributes["base_type"]]
    for words, kind in (
        (_BICYCLES, AgentType.CYCLIST),
        (_MOTORCYCLES, AgentType.MOTORCYCLIST),
        (_BUSES, AgentType.BUS),
        (_TRUCKS, AgentType.TRUCK),
    ):
        if any(word in name for word in words):
            return kind
    two_wheels = attributes.get("number_of_wheels") == "2"
    return AgentType.MOTORCYCLIST if two_wheels else AgentType.VEHICLE


def right_handed(points: np.ndarray) -> np.ndarray:
    """Points ``[..., 2 or 3]`` of CARLA's left-handed world in its right-handed mirror image: y flipped."""
    flipped = np.array(points, np.float64)
    flipped[..., 1] *= -1
    return flipped
