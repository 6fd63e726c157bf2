"""The labels of py123d's boxes: each data set has its own numbers, in the order of its label class."""

from __future__ import annotations

import numpy as np

from perlsim.scenario import Array
from perlsim.vocabulary import AgentType

_CAR, _TRUCK, _BUS = AgentType.VEHICLE, AgentType.TRUCK, AgentType.BUS
_PERSON, _BIKE, _MOTO = AgentType.PEDESTRIAN, AgentType.CYCLIST, AgentType.MOTORCYCLIST
_FIXED, _OTHER = AgentType.STATIC, AgentType.UNKNOWN
_EGO = -1  # boxes of the ego itself are left out: its pose is in a file of its own

_KINDS: dict[str, tuple[int, ...]] = {
    # ego, vehicle, train, two-wheeler, person, animal, sign, cone, light, barrier, object, other
    "DefaultBoxDetectionLabel": (
        *(_EGO, _CAR, _CAR, _BIKE, _PERSON, _OTHER),
        *(_FIXED, _FIXED, _FIXED, _FIXED, _FIXED, _OTHER),
    ),
    "AV2SensorBoxDetectionLabel": (
        *(_OTHER, _BUS, _BIKE, _BIKE, _FIXED, _TRUCK, _BUS),  # animal … bus
        *(
            _FIXED,
            _FIXED,
            _OTHER,
            _TRUCK,
            _FIXED,
            _FIXED,
        ),  # barrel, cone, dog, large vehicle, trailer sign, sign
        *(_MOTO, _MOTO, _PERSON, _PERSON, _CAR, _CAR, _BUS),  # motorcycle … school bus
        *(
            _FIXED,
            _FIXED,
            _PERSON,
            _FIXED,
            _TRUCK,
            _TRUCK,
        ),  # sign, stop sign, stroller, light trailer, truck, cab
        *(_CAR, _PERSON, _BIKE, _BIKE),  # trailer, wheelchair, wheeled device, wheeled rider
    ),
    # vehicle, bicycle, pedestrian, cone, barrier, construction sign, object
    "NuPlanBoxDetectionLabel": (_CAR, _BIKE, _PERSON, _FIXED, _FIXED, _FIXED, _FIXED),
    "NuScenesBoxDetectionLabel": (
        *(_CAR, _TRUCK, _BUS, _BUS, _TRUCK, _CAR, _CAR, _TRUCK),  # car … trailer
        *(_BIKE, _MOTO, *(_PERSON,) * 7),  # bicycle, motorcycle, adult … wheelchair
        *(_FIXED, _FIXED, _FIXED, _FIXED, _FIXED, _OTHER),  # cone, barrier, pushable, debris, rack, animal
    ),
    "PandasetBoxDetectionLabel": (
        *(_OTHER, _OTHER, _BIKE, _BUS, _CAR, _FIXED, _FIXED),  # bird … construction signs
        *(_CAR, _TRUCK, _MOTO, _MOTO, _TRUCK, _BIKE, _CAR),  # emergency … uncommon vehicle
        *(_PERSON, _PERSON, _BIKE, _CAR, _FIXED, _FIXED),  # pedestrian … road barriers
        *(_FIXED, _TRUCK, _FIXED, _FIXED, _TRUCK, _CAR, _CAR),  # container … tram
    ),
    # unknown, vehicle, pedestrian, sign, cyclist
    "WODPerceptionBoxDetectionLabel": (_OTHER, _CAR, _PERSON, _FIXED, _BIKE),
    # unset, vehicle, pedestrian, cyclist, other
    "WODMotionBoxDetectionLabel": (_OTHER, _CAR, _PERSON, _BIKE, _OTHER),
    # pedestrian, car, truck, bus, motorcycle, bicycle
    "GriffinBoxDetectionLabel": (_PERSON, _CAR, _TRUCK, _BUS, _MOTO, _BIKE),
    # automobile, person, bus, heavy truck, other, protruding object;
    # rider, stroller, trailer, animal, train, trolley bus
    "PhysicalAIAVBoxDetectionLabel": (
        *(_CAR, _PERSON, _BUS, _TRUCK, _CAR, _FIXED),
        *(_BIKE, _PERSON, _TRUCK, _OTHER, _CAR, _BUS),
    ),
    "KITTI360BoxDetectionLabel": (
        *(_BIKE, _FIXED, _BUS, _CAR, _CAR, _FIXED, _MOTO, _PERSON),  # bicycle … person
        *(_FIXED, _BIKE, _FIXED, _FIXED, _FIXED, _FIXED),  # pole, rider, small pole, stop, light, sign
        *(_CAR, _CAR, _FIXED, _TRUCK, _FIXED),  # trailer, train, bin, truck, vending machine
    ),
}


def kinds_of(label_class: str, labels: Array) -> tuple[Array, Array, Array]:
    """What labels stand for.

    Args:
        label_class: name of the class in the file's metadata.
        labels: int ``[R]``.

    Returns:
        `AgentType` int8 ``[R]``, whether each label is known ``[R]``, and whether it is the ego's ``[R]``.
    """
    kinds = np.array(_KINDS.get(label_class, ()), np.int8)
    known = (labels >= 0) & (labels < len(kinds))
    found = np.full(len(labels), AgentType.UNKNOWN, np.int8)
    found[known] = kinds[labels[known].astype(np.int64)]
    is_ego = known & (found == _EGO)
    return np.where(is_ego, AgentType.VEHICLE, found).astype(np.int8), known, is_ego
