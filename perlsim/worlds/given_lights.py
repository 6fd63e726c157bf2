"""Light programmes of CARLA's towns from files: stop lines of light actors, and the phases of their controllers.

Two JSON files a town, ``carla_<town>_stoplines.json`` and ``carla_<town>_traffic_light_controller.json``, in
CARLA's left-handed frame: m, rad, s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from perlsim.errors import FormatError
from perlsim.geometry.polylines import wrap
from perlsim.lights import LightProgramme
from perlsim.scenario import Array
from perlsim.vocabulary import LightState
from perlsim.worlds.light_plans import LightPlan, default_plan, light_rows
from perlsim.worlds.movements import Movements
from perlsim.worlds.opendrive import OpenDriveMap

BESIDE = 1.0  # m, farthest that a lane's middle may lie beyond the end of a stop line that it belongs to
ALONG = 15.0  # m, farthest along the lane that a stop line lies from where the lane enters the junction
SAME_WAY = 0.5  # rad, most that stop line and lane differ in direction

_STATES = {
    "green": LightState.GREEN,
    "yellow": LightState.YELLOW,
    "red": LightState.RED,
    "off": LightState.OFF,
}
_GO = (LightState.GREEN, LightState.YELLOW)


def given_plan(town: OpenDriveMap, folder: Path) -> LightPlan | None:
    """The plan of a town from the files in a folder; None where the folder has none of that town.

    Programmes hold for lanes, since a head may have an arrow for each. A light that the files do not name runs
    with the lights beside it where nothing conflicts; a junction where that fails, or that the files do not
    name at all, keeps CARLA's default.

    Raises:
        FormatError: names the file and what is wrong in it.
    """
    paths = [
        Path(folder) / f"carla_{town.name}_{part}.json" for part in ("stoplines", "traffic_light_controller")
    ]
    if not all(path.is_file() for path in paths):
        return None
    lines, programmes = _stop_lines(paths[0]), _programmes(paths[1])
    actor_of_row = _match(town, lines)
    movements = Movements(town.road.lanes, town.junctions)
    default = default_plan(town)
    fallback = {int(row): default.programme(idx) for idx, row in enumerate(default.rows)}
    by_junction: dict[str, list[int]] = {}
    for row in fallback:
        place = movements.junction_of([int(town.signals.lane_idx[row])]) or f"row {row}"
        by_junction.setdefault(place, []).append(row)
    chosen = dict(fallback)
    given: set[int] = set()
    for rows in by_junction.values():
        named = {
            row: programmes[actor_of_row[row]] for row in rows if actor_of_row.get(row, "") in programmes
        }
        found = _completed(town, movements, rows, named) if named else None
        if found:
            chosen |= found
            given |= found.keys()
    return LightPlan.of(chosen, given)


def go_together(first: LightProgramme, second: LightProgramme) -> bool:
    """Whether two programmes of one cycle are ever green or yellow at the same time."""
    ends = np.concatenate([np.cumsum(p.durations) + p.offset for p in (first, second)])
    # In the middle of every stretch in which neither changes.
    cycle = max(float(np.sum(first.durations)), float(np.sum(second.durations)))
    times = np.unique(np.concatenate([[0.0], ends % cycle, [cycle]]))
    middle = 0.5 * (times[1:] + times[:-1])
    return bool((np.isin(first.at(middle), _GO) & np.isin(second.at(middle), _GO)).any())


def _completed(
    town: OpenDriveMap, movements: Movements, rows: list[int], named: dict[int, LightProgramme]
) -> dict[int, LightProgramme] | None:
    """Programmes of all rows of a junction, or None where some cannot have one without a conflict."""
    signals = town.signals
    result = dict(named)
    for row in (row for row in rows if row not in named):
        likeness = [
            (
                signals.lane_signal_idx[other] != signals.lane_signal_idx[row],
                abs(float(wrap(signals.heading[other] - signals.heading[row]))),
                other,
            )
            for other in named
        ]
        fitting = (
            named[other]
            for *_, other in sorted(likeness)
            if _fits(town, movements, row, named[other], result)
        )
        programme = next(fitting, None)
        if programme is None:
            return None
        result[row] = programme
    return result if all(_fits(town, movements, row, its, result) for row, its in result.items()) else None


def _fits(
    town: OpenDriveMap,
    movements: Movements,
    row: int,
    programme: LightProgramme,
    others: dict[int, LightProgramme],
) -> bool:
    """Whether no conflicting movement, but for oncoming traffic, goes while this one may."""
    signals, lane = town.signals, int(town.signals.lane_idx[row])
    for other, its in others.items():
        beside = int(signals.lane_idx[other])
        if (
            signals.lane_signal_idx[row] != signals.lane_signal_idx[other]
            and movements.conflict(lane, beside)
            and not movements.are_opposite(lane, beside)
            and go_together(programme, its)
        ):
            return False
    return True


def _match(town: OpenDriveMap, lines: dict[str, Array]) -> dict[int, str]:
    """The light actor that each governed lane belongs to: the one whose stop line lies across it."""
    signals, rows = town.signals, light_rows(town)
    if not lines or not len(rows):
        return {}
    table = np.array(list(lines.values()))
    gap = table[None, :, :2] - signals.stop[rows][:, None, :2]
    cos, sin = np.cos(signals.heading[rows])[:, None], np.sin(signals.heading[rows])[:, None]
    along = gap[..., 0] * cos + gap[..., 1] * sin
    across = np.abs(gap[..., 1] * cos - gap[..., 0] * sin)
    turn = np.abs(wrap(signals.heading[rows][:, None] - table[:, 2]))
    fits = (turn < SAME_WAY) & (across < 0.5 * table[:, 3] + BESIDE) & (np.abs(along) < ALONG)
    cost = np.where(fits, 3.0 * across + np.abs(along), np.inf)
    names = list(lines)
    return {
        int(row): names[best]
        for row, best, least in zip(rows, cost.argmin(1), cost.min(1), strict=True)
        if np.isfinite(least)
    }


def _load(path: Path) -> Any:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise FormatError(f"not readable as JSON: {error}", file=path) from error
    if not isinstance(content, list):
        raise FormatError("expected a list", file=path)
    return content


def _stop_lines(path: Path) -> dict[str, Array]:
    """x, y [m], heading of the traffic [rad] and width [m] of each light actor's stop line, right-handed."""
    found = {}
    for idx, item in enumerate(_load(path)):
        try:
            if item["agent_type"] == "traffic_light":
                row = np.array([float(item[key]) for key in ("x", "y", "orientation", "width")])
                found[str(item["actor_id"])] = row * [1.0, -1.0, -1.0, 1.0]
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"expected a stop line: {error!r}", file=path, field=f"[{idx}]") from error
    return found


def _programmes(path: Path) -> dict[str, LightProgramme]:
    """The cycle of each light actor, in the order of its controller's phases."""
    found = {}
    for idx, phases in enumerate(_load(path)):
        try:
            durations = [float(phase["duration"]) for phase in phases]
            for actor in phases[0]["actor_states"]:
                states = [_STATES[phase["actor_states"][actor]] for phase in phases]
                found[str(actor)] = LightProgramme(states, durations)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FormatError(
                f"expected phases of a controller: {error!r}", file=path, field=f"[{idx}]"
            ) from error
        if not durations or not np.isfinite(durations).all() or min(durations) < 0 or not sum(durations) > 0:
            raise FormatError(f"expected positive durations, found {durations}", file=path, field=f"[{idx}]")
    return found
