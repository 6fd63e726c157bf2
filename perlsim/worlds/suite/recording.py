"""Drives along routes as logs: what an examination recorded becomes ordinary scenarios.

A drive is kept whole or cut into windows; each has the road round its own part of the drive. Frame: as the case's
scenario, the town's shifted to the route's start, for all windows of a drive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perlsim.bank import COS, SIN, STEP, VALID, VX, VY, X, Z
from perlsim.geometry.polylines import arc_lengths, project
from perlsim.readers.mend_road import wrapped32
from perlsim.readers.windows import select, windows
from perlsim.route import AHEAD, BEHIND
from perlsim.scenario import Array, Lights, Route, Scenario, Tracks
from perlsim.sim.core import BLOCKED_TIME
from perlsim.worlds.opendrive.crop import boxes_along, crop
from perlsim.worlds.suite.criteria import Infraction, Status
from perlsim.worlds.suite.drive import Drives
from perlsim.worlds.suite.scene import MARGIN, MAX_STEPS, MAX_TICKS, Case

LICENCE = "simulated on CARLA's towns (OpenDRIVE, CC-BY 4.0)"
# What leads to an infraction is no example either: so long before it [s, S] a window is not clean.
LEAD = 3.0
# A drive is followed along its route by a place every so many steps, each within so many metres of the last: routes
# may cross themselves.
_STRIDE, _REACH = 10, 60.0


@dataclass(frozen=True)
class Mishap:
    """What counts against a drive.

    Attributes:
        time: s since the drive began.
        what: an `Infraction`, "did_not_yield" or the `Status` at the end, in lower case.
        whom: the name of the road user hit; empty where there is none.
    """

    time: float
    what: str
    whom: str = ""


@dataclass(frozen=True)
class Drive:
    """One recorded drive.

    Attributes:
        scenario: all of it, from its first to its last step.
        status: how it ended.
        mishaps: in order of time, the end included where the route was not completed.
        route_arc: ``[T]`` m along the route at each step, about.
    """

    scenario: Scenario
    status: Status
    mishaps: tuple[Mishap, ...]
    route_arc: Array

    def is_clean(self, begin: float, end: float) -> bool:
        """Whether nothing between two times [s] or within `LEAD` after them counts against the ego.

        Of a drive that ended blocked, the time that it stood does.
        """
        if self.status == Status.BLOCKED and end > self.scenario.duration - BLOCKED_TIME:
            return False
        return not any(begin <= mishap.time <= end + LEAD for mishap in self.mishaps)


def drive_of(
    case: Case, drives: Drives, idx: int, *, drive_id: str, recording_id: str = "", notes: Sequence[str] = ()
) -> Drive:
    """One drive of an examination that recorded.

    Args:
        case: its route.
        drives: recorded (see `Examination`).
        idx: which of them.
        drive_id: name of the scenario.
        recording_id: what splits never cut; the drive by default.
        notes: put before those on the route, its scenarios and how the drive ended.

    Raises:
        FormatError: where a number is not finite.
    """
    status, steps = Status(int(drives.judged.status[idx])), num_steps(drives, idx)
    tracks, slots = _tracks(case, np.asarray(drives.rows[idx, :steps]))
    mishaps = _mishaps(case, drives, idx, steps, tracks, slots)
    lights, definition = case.scenario.lights, case.route.definition
    kinds = [f"scenario: {scenario.kind}" for scenario in definition.scenarios]
    end = f"drive: {status.name.lower()} after {steps * STEP:.1f} s"
    whole = case.scenario.replace(
        scenario_id=drive_id,
        recording_id=recording_id or drive_id,
        tracks=tracks,
        lights=replace(lights, state=case.lights[:, : tracks.num_steps]),
        licence=LICENCE,
        notes=(*notes, f"route: {definition.route}", *kinds, end),
    ).validate()
    return Drive(whole, status, mishaps, _arcs_on(whole.route.points, tracks.position[0]))


def num_steps(drives: Drives, idx: int) -> int:
    """Steps of a drive before it ended, of those with finite numbers."""
    steps = int(drives.judged.steps[idx])
    return steps - 1 if drives.judged.status[idx] == Status.BROKEN else steps


def scenes_of(drive: Drive, longest: float, *, only_clean: bool = True) -> list[Scenario]:
    """A drive as scenes: windows of equal length, each with the road round its part of the drive.

    Args:
        drive: recorded.
        longest: s, of a window; 0 keeps the drive whole, with all of its road.
        only_clean: whether to leave out what is not clean (`Drive.is_clean`).
    """
    scenes = []
    for part in parts_of(drive, longest):
        begin, end = part.start * STEP, (part.stop - 1) * STEP
        if only_clean and not drive.is_clean(begin, end):
            continue
        scene = _window(drive, part) if longest else drive.scenario
        noted = [
            f"{mishap.what}: {mishap.time - begin:.1f} s" + (f", {mishap.whom}" if mishap.whom else "")
            for mishap in drive.mishaps
            if begin <= mishap.time <= end + STEP
        ]
        scenes.append(scene.replace(notes=(*scene.notes, *noted)))
    return scenes


def parts_of(drive: Drive, longest: float) -> list[slice]:
    """The steps of the scenes that a drive is cut into, see `scenes_of`."""
    count = drive.scenario.tracks.num_steps
    return windows(count, STEP, longest) if longest else [slice(0, count)]


def _tracks(case: Case, rows: Array) -> tuple[Tracks, Array]:
    """The tracks of a drive from the first step on, and the slot of each.

    An actor of a flow leaves at the end of its path and enters again at its source: each stay is a track.
    """
    first, known = case.scenario.tracks, case.scenario.tracks.num_agents
    rows = rows[:, :, :known]
    valid = np.concatenate([first.valid, rows[:, VALID].T > 0], 1)
    enters = valid & ~np.concatenate([np.zeros((known, 1), bool), valid[:, :-1]], 1)
    stay = np.cumsum(enters, 1) * valid
    pairs = [(slot, number) for slot in range(known) for number in range(1, int(stay[slot].max()) + 1)]
    slots, numbers = np.array(pairs, int).T
    valid = stay[slots] == numbers[:, None]

    def of_stays(start: Array, later: Array) -> Array:
        whole = np.concatenate([start, later], 1)[slots]
        mask = valid.reshape(*valid.shape, *([1] * (whole.ndim - 2)))
        return np.where(mask, whole, np.float32(0)).astype(np.float32)

    heading = wrapped32(np.arctan2(rows[:, SIN], rows[:, COS]).T)
    tracks = Tracks(
        position=of_stays(first.position, rows[:, X : Z + 1].transpose(2, 0, 1)),
        heading=of_stays(first.heading, heading),
        velocity=of_stays(first.velocity, rows[:, VX : VY + 1].transpose(2, 0, 1)),
        size=first.size[slots],
        kind=first.kind[slots],
        valid=valid,
        ids=tuple(first.ids[slot] + (f".{number}" if number > 1 else "") for slot, number in pairs),
    )
    return tracks, slots


def _mishaps(
    case: Case, drives: Drives, idx: int, steps: int, tracks: Tracks, slots: Array
) -> tuple[Mishap, ...]:
    """What counts against a drive; of what goes on for several ticks, its beginning."""
    each = MAX_TICKS // MAX_STEPS
    seen = np.asarray(drives.seen.infractions[idx, : each * steps])
    found = []
    for infraction in Infraction:
        there = (seen & infraction) != 0
        for tick in np.flatnonzero(there & ~np.append(False, there[:-1])).tolist():
            hit = int(drives.seen.hit[idx, tick])
            whom = [
                name
                for name, slot, valid in zip(
                    tracks.ids, slots, tracks.valid[:, tick // each + 1], strict=True
                )
                if valid and slot == hit > 0
            ]
            found.append(Mishap((tick + 1) * STEP / each, str(infraction.name).lower(), "".join(whom)))
    found.sort(key=lambda mishap: mishap.time)
    status = Status(int(drives.judged.status[idx]))
    if case.emergency >= 0 and drives.judged.yielding.fails[idx]:
        found.append(Mishap(steps * STEP, "did_not_yield"))
    if status != Status.COMPLETED:
        found.append(Mishap(steps * STEP, status.name.lower()))
    return tuple(found)


def _arcs_on(route: Array, path: Array) -> Array:
    """How far along a route [m] each place of a drive is, ``[T]``; never back, so that loops are no matter."""
    arcs, last = arc_lengths(route), 0.0
    steps = np.unique(np.append(np.arange(0, len(path), _STRIDE), len(path) - 1))
    found = np.zeros(len(steps))
    for number, place in enumerate(path[steps]):
        low, high = np.searchsorted(arcs, (last - _REACH, last + _REACH))
        low = max(int(low) - 1, 0)
        piece = route[low : int(high) + 2]
        last = max(last, float(arcs[low] + project(piece, place[None]).arc[0]))
        found[number] = last
    return np.interp(np.arange(len(path)), steps, found)


def _window(drive: Drive, part: slice) -> Scenario:
    """The steps of a part, the road users seen in it, its part of the route, and the road round both."""
    whole = drive.scenario
    tracks, arc = whole.tracks, drive.route_arc[part]
    seen = select(tracks, np.asarray(tracks.valid[:, part].any(1)))
    points, lanes = whole.route.points, whole.route.lane_idx
    along = arc_lengths(points)
    first, last = np.searchsorted(along, (arc[0] - BEHIND, arc[-1] + AHEAD))
    ahead = slice(max(int(first) - 1, 0), int(last) + 1)
    region = np.concatenate(
        [boxes_along(line, MARGIN) for line in (points[ahead], tracks.position[whole.ego.idx, part])]
    )
    road, new_idx = crop(whole.road, region)
    lights, lit = whole.lights, new_idx[whole.lights.lane_idx] >= 0
    return whole.replace(
        scenario_id=f"{whole.scenario_id}@{part.start}",
        tracks=replace(
            seen,
            position=seen.position[:, part],
            heading=seen.heading[:, part],
            velocity=seen.velocity[:, part],
            valid=seen.valid[:, part],
        ),
        lights=Lights(
            lights.position[lit],
            lights.heading[lit],
            new_idx[lights.lane_idx[lit]],
            lights.state[lit, part],
        ),
        road=road,
        route=Route(points[ahead], np.where(lanes[ahead] >= 0, new_idx[lanes[ahead]], -1)),
        start_time=part.start * STEP,
    ).validate()
