"""The map of a town beside a CARLA log, cropped to it, and its lights matched to the log's light actors."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from perlsim.scenario import Array, Lights, Road
from perlsim.worlds import opendrive

MARGIN = 100.0  # m of map kept around everything that moves
_MATCH = 6.0  # m, farthest a light actor stands from the OpenDRIVE signal that it was made from
_MATCH_STOP = 15.0  # m, farthest its trigger volume lies from the stop points

# Towns with "_Opt" hold the same roads in layers.
_OPT = "_Opt"


@lru_cache(maxsize=2)
def _read_town(path: Path) -> opendrive.OpenDriveMap:
    # Logs of one folder mostly share a town: reading the largest takes ten seconds.
    return opendrive.read(path, with_edges=False)


def load_town(maps: Path | None, town: str) -> opendrive.OpenDriveMap | None:
    """The OpenDRIVE town of that name in ``maps``; None where it is not there."""
    found = opendrive.find_town(maps, town) or opendrive.find_town(maps, town.removesuffix(_OPT))
    return _read_town(found) if found else None


def match_signals(town: opendrive.OpenDriveMap, actors: Array, *, by_stop_point: bool = False) -> Array:
    """Signal of each light actor: int ``[M]``, −1 where none is near. Nearest pairs go first.

    Args:
        town: the map.
        actors: ``[M, 3]`` m, right-handed: where the posts stand, or where the traffic before them waits.
        by_stop_point: whether ``actors`` are the latter, to be compared with the signals' stop points.
    """
    signals = town.signals
    lights = np.flatnonzero(signals.kind == opendrive.SignalKind.LIGHT)
    matched = np.full(len(actors), -1)
    if not len(lights) or not len(actors):
        return matched
    places = signals.position[lights]
    if by_stop_point:
        governed = [signals.stop[signals.lane_signal_idx == light] for light in lights]
        places = np.array([stops.mean(0) if len(stops) else [np.inf] * 3 for stops in governed])
    gap = np.linalg.norm(actors[:, None, :2] - places[None, :, :2], axis=-1)
    for flat in np.argsort(gap, axis=None, kind="stable"):
        actor, light = divmod(int(flat), len(lights))
        if not gap[actor, light] <= (_MATCH_STOP if by_stop_point else _MATCH):
            break
        if matched[actor] < 0 and lights[light] not in matched:
            matched[actor] = lights[light]
    return matched


def crop_town(town: opendrive.OpenDriveMap, points: Array) -> tuple[Road, Array]:
    """The road around ``points [n, 2 or 3]``, and the new index of each of the town's lanes."""
    return town.around(opendrive.box_around(points, MARGIN))


def place_lights(
    town: opendrive.OpenDriveMap | None,
    new_lane_idx: Array,
    actors: Array,
    traffic_heading: Array,
    state: Array,
    *,
    by_stop_point: bool = False,
) -> Lights:
    """One row for each lane that a light actor controls, or one at the actor where its lanes are unknown.

    Args:
        town: the map, if any.
        new_lane_idx: row of each of its lanes in the cropped road, −1 gone; lights of such lanes are dropped.
        actors: ``[M, 3]`` m, right-handed.
        traffic_heading: ``[M]`` rad, direction of the traffic that each faces.
        state: int8 ``[M, T]``, `LightState`.
        by_stop_point: as in `match_signals`.
    """
    matched = match_signals(town, actors, by_stop_point=by_stop_point) if town else np.full(len(actors), -1)
    rows = []
    for actor, signal in enumerate(matched):
        if signal < 0 or town is None:
            rows.append((actors[actor], traffic_heading[actor], -1, state[actor]))
            continue
        signals = town.signals
        for row in np.flatnonzero(signals.lane_signal_idx == signal):
            lane = int(new_lane_idx[signals.lane_idx[row]])
            if lane >= 0:
                rows.append((signals.stop[row], signals.heading[row], lane, state[actor]))
    if not rows:
        return Lights()
    position, heading, lane_idx, states = zip(*rows, strict=True)
    return Lights(
        np.array(position), np.array(heading), np.array(lane_idx, np.int32), np.array(states, np.int8)
    )
