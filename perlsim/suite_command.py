"""``perlsim eval --suite``: examines policies on the routes of a public benchmark, in vector space."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from perlsim.errors import PerlsimError

if TYPE_CHECKING:
    from rich.console import Console

    from perlsim.cli import Eval as Arguments
    from perlsim.score_command import Report
    from perlsim.worlds.suite.drive import Drives
    from perlsim.worlds.suite.scene import Case

# Suites, and whether all lights are forced green in them (DOS).
SUITES = {"bench2drive-vector": False, "dos-vector": True}
_PIPE_WIDTH = 120


def run(args: Arguments, names: Sequence[str], load_policy: Callable[[Path], Any] | None = None) -> int:
    """Runs the command.

    Args:
        args: of ``perlsim eval``.
        names: of policies.
        load_policy: reads learned policies from their folders.

    Returns:
        Exit code 0.

    Raises:
        PerlsimError: an unknown suite or policy, no routes or maps, files that cannot be read.
    """
    from rich.console import Console

    from perlsim import backend

    backend.setup()
    from perlsim.output import plain, write_json
    from perlsim.policies import policy_of
    from perlsim.score_report import print_report, to_json
    from perlsim.worlds.actors.scripted import stack_scripts
    from perlsim.worlds.routes import load
    from perlsim.worlds.suite.cases import Worlds, cases_of
    from perlsim.worlds.suite.drive import Examination
    from perlsim.worlds.suite.scene import bank_of

    suite = args.suite or ""
    if suite not in SUITES:
        raise PerlsimError(f"unknown suite {suite!r}", field="--suite", remedy=f"take {' or '.join(SUITES)}")
    if args.routes is None or args.maps is None:
        raise PerlsimError("a suite needs routes and maps", remedy="name --routes FILE and --maps FOLDER")
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    policies = {name: policy_of(name, load_policy) for name in names}
    worlds = Worlds(args.maps, args.lights)
    routes = load.load(args.routes, worlds.graph)
    cases = cases_of(routes, worlds, forced_green=SUITES[suite], seed=args.seed)
    plain(console, f"{suite}: {len(cases)} routes; this is no result in CARLA")
    for note, count in Counter(note for case in cases for note in case.notes).most_common():
        plain(console, f"{count} without their scenario: {note}")
    host = bank_of(cases, observed=not all(policy.privileged for policy in policies.values()))
    agents = stack_scripts(
        [case.script for case in cases], [case.scenario for case in cases], host.info.num_agents
    )
    content: dict[str, Any] = {"suite": suite, "policies": {}}
    with TemporaryDirectory() as spare:
        folder = Path(spare) if args.out is None else args.out
        for name, policy in policies.items():
            begun = time.perf_counter()
            drives = Examination(policy, agents, args.replan_every)(cases, host, args.seed)
            plain(console, f"{name}: driven in {time.perf_counter() - begun:.1f} s, compilation included")
            report = _written(folder, name, suite, cases, drives)
            print_report(report, console)
            _print_failures(cases, drives, console)
            content["policies"][name] = {
                **to_json(report),
                "notes": {case.route.definition.route: list(case.notes) for case in cases},
            }
    write_json(args.json, content)
    return 0


def _written(folder: Path, name: str, suite: str, cases: list[Case], drives: Drives) -> Report:
    """Writes the records of a policy and reads them again, as ``perlsim score`` does."""
    from perlsim.metrics import bench2drive
    from perlsim.metrics.bench2drive.drives import FILE_NAME
    from perlsim.metrics.comfort import comfort
    from perlsim.output import as_json, write_file
    from perlsim.runs import file_name_of
    from perlsim.score_command import Report
    from perlsim.worlds.suite.records import record_of, result_file, save_name, write_motion

    key = file_name_of(name)
    records = [record_of(case, drives, idx, suite, list(case.notes)) for idx, case in enumerate(cases)]
    path = folder / key / f"{suite}.json"
    write_file(path, as_json(result_file(records, suite, name)))
    by_route = {}
    for idx, case in enumerate(cases):
        motion = path.parent / save_name(case) / FILE_NAME
        write_motion(motion, drives, idx)
        by_route[case.route.definition.route] = case, bench2drive.read_motion(motion)
    gathered = bench2drive.gather([bench2drive.read_results(path)])
    scored = []
    for drive in gathered.drives:
        case, motion = by_route[drive.route]
        passed = None
        if drive.record is not None and drive.attempt.may_be_rescued:
            length = case.route.dense.length
            passed = bench2drive.passed_junction(drive.record.completion, case.junction, length)
        measured = comfort(motion), comfort(motion, compat=True)
        scored.append(replace(drive, passed=passed, comfort=measured[0], comfort_compat=measured[1]))
    return Report(replace(gathered, drives=scored), bench2drive.score(scored))


def _print_failures(cases: list[Case], drives: Drives, console: Console) -> None:
    """A line for each route that failed: why, and when."""
    from perlsim.output import plain
    from perlsim.worlds.suite.criteria import TICK, Infraction, Status

    for idx, case in enumerate(cases):
        status, ticks = Status(int(drives.judged.status[idx])), int(drives.judged.ticks[idx])
        seen = drives.seen.infractions[idx, :ticks]
        first = {
            flag.name: float((seen & flag != 0).argmax() + 1) * TICK
            for flag in Infraction
            if (seen & flag).any()
        }
        if status == Status.COMPLETED and not first:
            continue
        what = [f"{name} at {at:.1f} s" for name, at in sorted(first.items(), key=lambda item: item[1])]
        if status != Status.COMPLETED:
            what.append(f"{status.name} at {ticks * TICK:.1f} s")
        share = min(float(drives.judged.best_arc[idx]) / case.length, 1.0)
        percent = 100 if status == Status.COMPLETED else math.floor(100 * share)
        plain(
            console,
            f"  route {case.route.definition.route} {case.kind}: {', '.join(what)} ({percent} %)",
        )
