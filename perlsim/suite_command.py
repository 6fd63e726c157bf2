"""``perlsim eval --suite``: examines policies on the routes of a public benchmark, in vector space.

Each policy's results are kept as soon as they are complete, so that a run that was killed goes on with the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from perlsim.errors import PerlsimError, unknown_name

if TYPE_CHECKING:
    from rich.console import Console

    from perlsim.cli import Eval as Arguments
    from perlsim.runs import RunFolder
    from perlsim.worlds.routes.load import Found
    from perlsim.worlds.suite.examine import Batches

# Suites, and whether all lights are forced green in them (DOS).
SUITES = {"bench2drive-vector": False, "dos-vector": True}
# Name of the kind of run in its folder.
KIND = "suite"
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
        PerlsimError: an unknown suite, type or policy, no routes or maps, files that cannot be read, a run folder of
            something else.
    """
    from rich.console import Console

    from perlsim import backend

    backend.setup()
    from perlsim.output import plain, write_json
    from perlsim.policies import policy_of
    from perlsim.runs import RunFolder, read_json
    from perlsim.suite_report import finish, print_results
    from perlsim.worlds.suite.cases import Worlds
    from perlsim.worlds.suite.examine import Batches

    suite = args.suite or ""
    if suite not in SUITES:
        raise unknown_name("suite", suite, SUITES, "--suite")
    if not args.routes or args.maps is None:
        raise PerlsimError("a suite needs routes and maps", remedy="name --routes FILE and --maps FOLDER")
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    policies = {name: policy_of(name, load_policy) for name in names}
    routes = chosen_routes(args.routes, args.types, args.limit)
    with contextlib.ExitStack() as stack:
        folder = None
        if args.out is not None:
            folder = stack.enter_context(RunFolder(args.out, KIND, _settings(args, names)))
            if folder.is_finished:
                plain(console, f"{args.out}: finished before; delete it to run it again")
                results = read_json(folder.path / "results.json")
                print_results(results, console)
                write_json(args.json, results)
                return 0
        plain(console, f"{suite}: {len(routes)} routes; this is no result in CARLA")
        worlds = Worlds(args.maps, args.lights)
        batches = Batches(routes, worlds, args.batch, forced_green=SUITES[suite], seed=args.seed)
        results = {"suite": suite, "num_routes": len(routes), "policies": {}}
        for name, policy in policies.items():
            results["policies"][name] = _policy_results(args, name, policy, batches, folder, console)
        notes = next(iter(results["policies"].values()))["notes"]
        for note, count in Counter(note for own in notes.values() for note in own).most_common():
            plain(console, f"{count} without their scenario: {note}")
        print_results(results, console)
        if folder is not None:
            finish(folder, results, list(names))
        write_json(args.json, results)
    return 0


def chosen_routes(paths: Sequence[Path], types: Sequence[str] = (), limit: int | None = None) -> list[Found]:
    """Routes of files, in their order; those of several files that share ids are named after their files too.

    Args:
        paths: route files.
        types: only routes with a scenario of these types; all by default. Routes whose scenarios are in another
            file have those of that file.
        limit: most routes.

    Raises:
        FormatError: for a file that is no route file.
        PerlsimError: an unknown type, or no routes.
    """
    from perlsim.worlds.routes import load
    from perlsim.worlds.routes.catalogue import SCENARIO_TYPES

    for kind in types:
        if kind not in SCENARIO_TYPES:
            raise unknown_name("scenario type", kind, SCENARIO_TYPES, "--types")
    routes = [route for path in paths for route in load.found(path)]
    counts = Counter(route.definition.route for route in routes)
    if max(counts.values(), default=0) > 1:
        routes = [_named_after_file(route) for route in routes]
    if types:
        routes = [route for route in routes if set(types) & _kinds(route)]
    if not routes:
        raise PerlsimError("no route has a scenario of these types", field="--types")
    return routes[:limit]


def _kinds(route: Found) -> set[str]:
    scenarios = route.definition.scenarios or [trigger.scenario for trigger in route.triggers]
    return {scenario.kind for scenario in scenarios}


def _named_after_file(route: Found) -> Found:
    name = f"{route.path.stem}.{route.definition.route}"
    return replace(route, definition=replace(route.definition, route=name))


def _policy_results(
    args: Arguments, name: str, policy: Any, batches: Batches, folder: RunFolder | None, console: Console
) -> dict[str, Any]:
    """Scores, failures and notes of one policy, JSON."""
    from perlsim.output import plain
    from perlsim.runs import file_name_of
    from perlsim.suite_report import link_failures, to_results
    from perlsim.worlds.suite.examine import examine

    key, suite = file_name_of(name), str(args.suite)
    if folder is not None and (done := folder.part(key)) is not None:
        plain(console, f"{name}: taken from the run folder")
        return done
    begun = time.perf_counter()
    with TemporaryDirectory() as spare, _kept(folder, name) as keep:
        place = Path(spare) if folder is None else folder.path / key
        report, found = examine(
            policy,
            batches,
            place,
            suite,
            name=name,
            replan_every=args.replan_every,
            seed=args.seed,
            keep=keep,
        )
    plain(console, f"{name}: driven in {time.perf_counter() - begun:.1f} s, compilation included")
    results = to_results(report, found, privileged=policy.privileged)
    if folder is not None:
        link_failures(folder, name, results)
        # Last of all: with it, the policy counts as finished.
        folder.write_part(key, results)
    return results


@contextlib.contextmanager
def _kept(folder: RunFolder | None, name: str) -> Iterator[Any]:
    """Writes drives of one policy to watch beside each other; they are in their place once all are written."""
    import orjson

    from perlsim.runs import file_name_of
    from perlsim.store import ScenarioStore
    from perlsim.store.writer import StoreWriter
    from perlsim.worlds.suite.examine import watched

    if folder is None:
        yield None
        return
    place = f"rollouts/{file_name_of(name)}"
    lines: list[str] = []
    with StoreWriter(ScenarioStore.create(folder.fresh_folder(place))) as writer:

        def keep(case: Any, drives: Any, idx: int, record: dict[str, Any]) -> None:
            if (made := watched(case, drives, idx, name, record)) is not None:
                writer.add(made[0])
                lines.append(orjson.dumps(made[1], option=orjson.OPT_SERIALIZE_NUMPY).decode())

        yield keep
    folder.settle(place)
    folder.write(f"{place}.jsonl", "".join(f"{line}\n" for line in lines))


def _settings(args: Arguments, names: Sequence[str]) -> dict[str, Any]:
    """Everything that the results depend on."""
    return {
        "policies": list(names),
        "suite": args.suite,
        "routes": [_digest(path) for path in args.routes],
        "types": list(args.types),
        "limit": args.limit,
        "maps": str(args.maps.resolve()) if args.maps else None,
        "lights": str(args.lights.resolve()) if args.lights else None,
        "seed": args.seed,
        "replan_every": args.replan_every,
    }


def _digest(path: Path) -> str | None:
    """Digest of a file, None where it is absent: whoever opens it says so better."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
