"""Examines a policy on the routes of a suite, batch after batch, and keeps what came out.

A folder of results holds, as the Leaderboard and Bench2Drive's agents leave them, one result file and the motion of
each drive; beside them, where drives are kept to watch, a store of scenarios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from perlsim.bank import HostBank
from perlsim.metrics import bench2drive
from perlsim.metrics.bench2drive.drives import FILE_NAME
from perlsim.metrics.comfort import comfort
from perlsim.output import as_json, write_file
from perlsim.policies import observed_pieces
from perlsim.score_command import Report
from perlsim.worlds.actors.scripted import ScriptedAgents, stack_scripts
from perlsim.worlds.routes.load import Found, lead
from perlsim.worlds.suite.cases import Worlds, cases_of
from perlsim.worlds.suite.criteria import TICK, Infraction, Status
from perlsim.worlds.suite.drive import Drives, Examination
from perlsim.worlds.suite.padding import Sizes, padded
from perlsim.worlds.suite.recording import drive_of, num_steps, scenes_of
from perlsim.worlds.suite.records import record_of, result_file, save_name, write_motion
from perlsim.worlds.suite.scene import OBSERVED_PIECES, Case, bank_of

# Names that the viewer has for what counts against a drive.
_EVENTS = {
    "vehicle": "HIT_VEHICLE",
    "pedestrian": "HIT_PEDESTRIAN",
    "layout": "HIT_STATIC",
    "outside": "OFF_ROAD",
    "deviated": "OFF_ROUTE",
}


@dataclass(frozen=True)
class Batch:
    """Routes that are driven at once.

    Attributes:
        first: number of the first of them.
        cases: the routes.
        filled: the same, some of them again in the last of several batches, so that all are of one size.
        host: the bank of these.
        agents: their road users.
    """

    first: int
    cases: list[Case]
    filled: list[Case]
    host: HostBank
    agents: ScriptedAgents


class Batches:
    """The routes of a suite, made ready batch by batch; the last batch is kept for the next policy.

    Args:
        routes: as found in files.
        worlds: the towns.
        size: most routes of a batch.
        forced_green: whether all lights are green (DOS).
        seed: of what routes leave open.
    """

    def __init__(
        self, routes: Sequence[Found], worlds: Worlds, size: int, *, forced_green: bool = False, seed: int = 0
    ):
        self._routes, self._worlds, self._size = routes, worlds, size
        self._forced_green, self._seed = forced_green, seed
        self._last: tuple[int, list[Case]] | None = None
        self._sizes = Sizes()

    def __len__(self) -> int:
        return -(-len(self._routes) // self._size)

    def of(self, policy: Any) -> Iterator[Batch]:
        """All batches, with banks that hold what a policy observes."""
        pieces = observed_pieces(policy) or OBSERVED_PIECES
        for first in range(0, len(self._routes), self._size):
            cases = self._cases(first)
            count = len(cases) if len(self) == 1 else self._size
            filled = [cases[idx % len(cases)] for idx in range(count)]
            host = bank_of(filled, observed=not policy.privileged, pieces=pieces)
            scenarios = [case.scenario for case in filled]
            agents = stack_scripts([case.script for case in filled], scenarios, host.info.num_agents)
            if len(self) > 1:
                # So that batches share a compiled program.
                host, agents = padded(host, agents, self._sizes)
            yield Batch(first, cases, filled, host, agents)

    def _cases(self, first: int) -> list[Case]:
        if self._last is None or self._last[0] != first:
            self._last = None  # two batches at once would take twice the memory
            batch = self._routes[first : first + self._size]
            routes = (lead(route, self._worlds.graph(route.definition.town)) for route in batch)
            cases = cases_of(routes, self._worlds, forced_green=self._forced_green, seed=self._seed)
            self._last = first, cases
        return self._last[1]


@dataclass
class Examined:
    """What is known of a policy's drives so far.

    Attributes:
        records: of the Leaderboard's form.
        drives: of each route its type, and what scores are made of (`perlsim.metrics.bench2drive`).
        failures: of each route that failed: see `failure_of`.
        notes: what of each route could not be staged.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    drives: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)


def examine(
    policy: Any,
    batches: Batches,
    folder: Path,
    suite: str,
    *,
    name: str,
    replan_every: int = 5,
    seed: int = 0,
    keep: Callable[[Case, Drives, int, dict[str, Any]], None] | None = None,
) -> tuple[Report, Examined]:
    """Drives all routes, and writes the records and motions of a policy.

    Args:
        policy: ego policy.
        batches: the routes.
        folder: for the result file and the motions.
        suite: name of the suite.
        name: of the policy.
        replan_every: steps of 0.1 s between plans.
        seed: of all randomness.
        keep: is given each drive, of all road users, and its record.

    Returns:
        What `perlsim score` would find in the folder, and the rest.
    """
    found = Examined()
    for batch in batches.of(policy):
        exam = Examination(policy, batch.agents, replan_every, record=keep is not None)
        numbers = range(batch.first, batch.first + len(batch.filled))
        drives = exam(batch.filled, batch.host, seed, numbers)
        for idx, case in enumerate(batch.cases):
            _take(found, case, drives, idx, folder, suite)
            if keep is not None:
                keep(case, drives, idx, found.records[-1])
    path = folder / f"{suite}.json"
    write_file(path, as_json(result_file(found.records, suite, name)))
    # Read again, as perlsim score does.
    gathered = bench2drive.gather([bench2drive.read_results(path)])
    scored = []
    for drive in gathered.drives:
        facts, passed = found.drives[drive.route], None
        if drive.record is not None and drive.attempt.may_be_rescued:
            passed = bench2drive.passed_junction(drive.record.completion, facts["junction"], facts["length"])
        measured = {key: facts[key] for key in ("comfort", "comfort_compat")}
        scored.append(replace(drive, passed=passed, **measured))
    return Report(replace(gathered, drives=scored), bench2drive.score(scored)), found


def _take(found: Examined, case: Case, drives: Drives, idx: int, folder: Path, suite: str) -> None:
    """Keeps the record, the motion and the failure of one drive."""
    name, notes = case.route.definition.route, list(case.notes)
    record = record_of(case, drives, idx, suite, notes)
    found.records.append(record | {"index": len(found.records)})
    path = folder / save_name(case) / FILE_NAME
    write_motion(path, drives, idx)
    motion = bench2drive.read_motion(path)
    found.drives[name] = {
        "kind": case.kind,
        "junction": case.junction,
        "length": case.route.dense.length,
        "comfort": comfort(motion),
        "comfort_compat": comfort(motion, compat=True),
    }
    found.notes[name] = notes
    if (failure := failure_of(case, drives, idx, record)) is not None:
        found.failures.append(failure)


def failure_of(case: Case, drives: Drives, idx: int, record: dict[str, Any]) -> dict[str, Any] | None:
    """Why and when a drive failed; None where its route was completed without anything that counts.

    Returns:
        Route, type and town; ``completion`` in %; ``reasons``: what and at which time [s], the first of each kind;
        ``time`` of the first.
    """
    status, ticks = Status(int(drives.judged.status[idx])), int(drives.judged.ticks[idx])
    seen = np.asarray(drives.seen.infractions[idx, :ticks])
    first = [(str(f.name).lower(), int((seen & f != 0).argmax())) for f in Infraction if (seen & f).any()]
    reasons = [{"what": what, "time": round((tick + 1) * TICK, 2)} for what, tick in sorted(first, key=_tick)]
    end = round(ticks * TICK, 2)
    if record["infractions"]["yield_emergency_vehicle_infractions"]:
        reasons.append({"what": "did_not_yield", "time": end})
    if record["infractions"]["scenario_timeouts"]:
        reasons.append({"what": "scenario_timeout", "time": end})
    if status != Status.COMPLETED:
        reasons.append({"what": status.name.lower(), "time": end})
    if not reasons:
        return None
    definition = case.route.definition
    return {
        "route": definition.route,
        "scenario": case.kind,
        "town": definition.town,
        "completion": record["scores"]["score_route"],
        "reasons": reasons,
        "time": reasons[0]["time"],
    }


def _tick(pair: tuple[str, int]) -> int:
    return pair[1]


def scene_id_of(case: Case) -> str:
    """Name of the scene of a drive; the same for all policies, so that a viewer shows them side by side."""
    parts = (case.route.definition.route, case.kind)
    return "_".join(part for part in parts if part)


def watched(
    case: Case, drives: Drives, idx: int, name: str, record: dict[str, Any]
) -> tuple[Any, dict] | None:
    """A drive as a scenario, and what a viewer shows beside; None for one that ended in its first step.

    Args:
        case, drives, idx: the drive, of an examination that recorded.
        name: of the policy.
        record: the scores of its record are shown.
    """
    if not num_steps(drives, idx):
        return None
    drive = drive_of(case, drives, idx, drive_id=scene_id_of(case), notes=(f"policy: {name}",))
    events = [
        {
            "t": mishap.time,
            "kind": _EVENTS.get(mishap.what, mishap.what.upper()),
            "agent": mishap.whom or None,
        }
        for mishap in drive.mishaps
    ]
    if drive.status == Status.COMPLETED:
        events.append({"t": drive.scenario.duration, "kind": "COMPLETED", "agent": None})
    scores = record["scores"]
    metrics = {
        "driving_score": scores["score_composed"],
        "completion": scores["score_route"],
        "failed": float(bool(drive.mishaps)),
    }
    line = {"scene_id": drive.scenario.scenario_id, "metrics": metrics, "events": events}
    return scenes_of(drive, 0.0, only_clean=False)[0], line
