"""When an ego that reacts to nobody comes to places of its route, and which lights it meets there.

Flows are timed by it, so that such an ego meets somebody; one that looks has as much room as the file gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from perlsim.geometry import polylines
from perlsim.lights import LightProgramme
from perlsim.scenario import Array
from perlsim.vocabulary import LightState
from perlsim.worlds.actors.ground import Ground, LightTimes
from perlsim.worlds.light_plans import LightPlan
from perlsim.worlds.opendrive import SignalKind

# What an unhurried driver does [m/s², S]: the route followers of `perlsim.policies.idm_route`.
ACCELERATION, BRAKING, ACROSS = 1.5, 1.5, 2.1
# Stops before a junction: m from the ego's centre to it, s at a stop sign and until it goes at a green light [S].
TO_LINE, AT_SIGN, AT_LIGHT = 4.5, 3.0, 0.2
# m between the lines of two ways in conflict, and half metres along them to where one meets [S].
_NEAR, _INSIDE = 2.0, 2
# m before the ego's centre at which it is in the way of others.
_FRONT = 2.0
_STEP = 0.1
_LONGEST = 200.0
_SLOWEST, _CREEP, _HARDEST = 2.0, 0.5, 5.0


@dataclass(frozen=True)
class _Wish:
    """When the ego's light turns green, s after it may come to the trigger, and whether it stays so."""

    after: float
    stays: bool


# The public classes hold the light of the ego red for 5 s, then green until it is through; or green from the start.
_TURNS_GREEN, _GREEN = _Wish(5.0, True), _Wish(-np.inf, True)
WISHES: Mapping[str, _Wish] = {
    "SignalizedJunctionLeftTurn": _TURNS_GREEN,
    "SignalizedJunctionRightTurn": _TURNS_GREEN,
    "SignalizedJunctionLeftTurnEnterFlow": _TURNS_GREEN,
    "OppositeVehicleRunningRedLight": _GREEN,
    "PriorityAtJunction": _GREEN,
    "VanillaSignalizedTurnEncounterGreenLight": _GREEN,
    "VanillaSignalizedTurnEncounterRedLight": _TURNS_GREEN,
}


def lights_of(ground: Ground, plan: LightPlan | None) -> LightTimes | None:
    """How the lights run during the drive, so that the type shows its point; None without a light on the way.

    Args:
        ground: of the scenario.
        plan: of the town; None leaves its lights as they are.
    """
    row = _light(ground, plan)
    if plan is None or row is None:
        return None
    programme, reached = plan.programme(row), _profile(replace(ground, lights=None))
    wish = WISHES.get(ground.scenario.kind)
    if wish is None:
        # The first green from when the ego comes to it.
        times = reached(_line(ground)) + np.arange(0.0, float(np.sum(programme.durations)), _STEP)
        green = np.flatnonzero(programme.at(times) == LightState.GREEN)
        return LightTimes(0.0, np.inf, float(times[green[0]])) if len(green) else None
    begins = _turns_green(programme)
    if begins is None:
        return None
    green = max(reached(ground.trigger) + wish.after, 0.0)
    # A little late, so that it is green by then whatever the rounding.
    return LightTimes(begins - green + 0.2, green + 1.0 if wish.stays else np.inf, green)


def _light(ground: Ground, plan: LightPlan | None) -> int | None:
    """The entry of a plan that governs the first junction of a route; None where none does."""
    sites, lanes = ground.places.sites, ground.route.dense.lane_idx
    inside = np.flatnonzero(sites.lanes.in_junction[lanes])
    if plan is None or not len(inside):
        return None
    first = int(inside[0])
    near = set(lanes[max(first - 1, 0) : first + 8].tolist())
    signals = sites.town.signals
    governed = [idx for idx, row in enumerate(plan.rows.tolist()) if int(signals.lane_idx[row]) in near]
    return governed[0] if governed else None


def _turns_green(programme: LightProgramme) -> float | None:
    """When a programme comes to its longest green [s]; None where it never does."""
    begins = np.cumsum([0.0, *programme.durations])[:-1] + programme.offset
    phases = zip(programme.states, programme.durations, begins, strict=True)
    greens = [(duration, begin) for state, duration, begin in phases if state == LightState.GREEN]
    return float(max(greens)[1]) if greens else None


def arrival(ground: Ground, arc: float) -> float:
    """s of the drive after which an ego that reacts to nobody is ``arc`` m along its route."""
    return _profile(ground)(arc)


def ahead_of(ground: Ground, arc: float, seconds: float) -> float:
    """m along the route at which such an ego is some seconds before it comes to ``arc``."""
    reached = _profile(ground)
    arcs = np.arange(0.0, arc + 0.25, 0.25)
    times = np.array([reached(at) for at in arcs.tolist()])
    return float(arcs[np.searchsorted(times, times[-1] - seconds, side="right") - 1]) if seconds > 0 else arc


def _profile(ground: Ground) -> Callable[[float], float]:
    """The time [s] at which an ego that reacts to nobody comes to each place [m] of its route."""
    stop = _stop(ground)
    stations, free, before = _allowed(ground, stop)
    at = speed = time = 0.0
    has_stopped = stop is None
    places, times = [0.0], [0.0]
    while at < stations[-1] - 1.0 and time < _LONGEST:
        if not has_stopped and stop is not None and at >= stop - 0.3:
            has_stopped = True
            wait = AT_SIGN if ground.lights is None else ground.lights.green + AT_LIGHT - time
            if wait > 0.0:
                speed, time = 0.0, time + wait
        goal = float(np.interp(at + 0.5, stations, free if has_stopped else before))
        change = ACCELERATION * (1.0 - (speed / max(goal, 0.1)) ** 4)
        speed = float(np.clip(speed + max(change, -_HARDEST) * _STEP, _CREEP, max(goal, _CREEP)))
        at, time = at + speed * _STEP, time + _STEP
        places.append(at)
        times.append(time)
    return lambda arc: float(np.interp(arc, places, times))


def _line(ground: Ground) -> float:
    """m along the route at which the ego's centre is when it stops before its first junction."""
    inside = ground.places.sites.lanes.in_junction[ground.route.dense.lane_idx]
    return float(polylines.arc_lengths(ground.route.dense.points)[np.flatnonzero(inside)[0]]) - TO_LINE


def _stop(ground: Ground) -> float | None:
    """m along the route at which the ego stops, if it does."""
    sites, lanes = ground.places.sites, ground.route.dense.lane_idx
    inside = np.flatnonzero(sites.lanes.in_junction[lanes])
    if not len(inside) or inside[0] == 0:
        return None
    if ground.lights is not None:
        line = _line(ground)
        return line if ground.lights.green > _profile(replace(ground, lights=None))(line) else None
    near, signals = set(lanes[: inside[0] + 8].tolist()), sites.town.signals
    signs = signals.lane_idx[signals.kind[signals.lane_signal_idx] == SignalKind.STOP]
    return _line(ground) if near & set(signs.tolist()) else None


def _allowed(ground: Ground, stop: float | None) -> tuple[Array, Array, Array]:
    """Stations [m], and the speeds [m/s] there of who has stopped and of who has not yet."""
    stations = np.arange(0.0, ground.route.dense.length + 40.0, 1.0)
    points = ground.poses(stations)
    heading = np.unwrap(points[:, 3])
    padded = np.pad(heading, 3, mode="edge")
    bend = np.maximum(np.abs(padded[6:] - padded[:-6]) / 6.0, 1e-6)
    dense = ground.route.dense
    under = np.searchsorted(polylines.arc_lengths(dense.points), stations).clip(max=len(dense.lane_idx) - 1)
    limit = np.array([ground.limit(lane) for lane in dense.lane_idx[under].tolist()])
    speeds = np.minimum(limit, np.maximum(np.sqrt(ACROSS / bend), _SLOWEST))
    before = speeds.copy()
    if stop is not None:
        before[stations >= stop] = 0.0
    return stations, _braked(speeds), _braked(before)


def _braked(speeds: Array) -> Array:
    """Speeds [m/s] a metre apart, lowered so that braking reaches each that follows."""
    squared = speeds**2
    for idx in range(len(squared) - 2, -1, -1):
        squared[idx] = min(squared[idx], squared[idx + 1] + 2.0 * BRAKING)
    return np.sqrt(squared)


def meeting(ground: Ground, path: Array) -> tuple[float, float] | None:
    """Where a path comes into the ego's way behind the trigger: m along the path, and m along the route.

    None where it never does.
    """
    length = ground.route.dense.length
    arcs = np.arange(min(ground.trigger + 2.0, length), length + 10.0, 0.5)
    hit = polylines.project(path, ground.poses(arcs)[:, :3])
    end = polylines.arc_lengths(path)[-1]
    near = np.flatnonzero((hit.distance < _NEAR) & (hit.arc > 0.5) & (hit.arc < end - 0.5))
    if not len(near):
        return None
    # Whoever joins the ego's way is met a little behind the place where both ways come together.
    at = near[min(_INSIDE, len(near) - 1)]
    return float(hit.arc[at]), float(arcs[at])


def timed(ground: Ground, path: Array) -> tuple[float, float] | None:
    """m along a path and s of the drive at which an ego that reacts to nobody is in its way."""
    met = meeting(ground, path)
    return None if met is None else (met[0], arrival(ground, met[1] - _FRONT))
