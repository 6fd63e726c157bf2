"""``perlsim eval``: scores ego policies on scenes of logs, in NAVSIM's protocol and in closed loop."""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perlsim.errors import PerlsimError

if TYPE_CHECKING:
    from rich.console import Console

    from perlsim.cli import Eval as Arguments
    from perlsim.evaluation.evaluate import Evaluation
    from perlsim.evaluation.scenes import EvalScene
    from perlsim.runs import RunFolder

# Name of the piece of a run that holds the realism of the agents; no policy's piece begins with a dot.
_REALISM = ".realism"
# Columns of tables that are not printed on a terminal.
_PIPE_WIDTH = 120


def run(
    args: Arguments,
    load_policy: Callable[[Path], Any] | None = None,
    load_agents: Callable[[Path], Any] | None = None,
) -> int:
    """Runs the command.

    Args:
        args: of the command.
        load_policy, load_agents: read learned policies and agent models from their folders.

    Returns:
        Exit code 0.

    Raises:
        PerlsimError: an unknown name, no scenes, a run folder of something else.
    """
    from rich.console import Console

    from perlsim import backend

    backend.setup()
    from perlsim.evaluation.evaluate import Evaluation
    from perlsim.evaluation.report import print_results, results_of
    from perlsim.output import plain, write_json
    from perlsim.policies import policy_of
    from perlsim.sim.agents import agents_of
    from perlsim.sim.rollout import RolloutConfig

    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    names = names_of(args.policy)
    policies = {name: policy_of(name, load_policy) for name in names}
    agents = agents_of(args.agents, load_agents)
    with contextlib.ExitStack() as stack:
        folder = None
        if args.out is not None:
            from perlsim.runs import RunFolder

            folder = stack.enter_context(RunFolder(args.out, "eval", _settings(args, names)))
            if folder.is_finished:
                plain(console, f"{args.out}: finished before; delete it to run it again")
                return _show_finished(args, folder, console)
        scenes, starts, notes = _scenes(args)
        plain(console, f"{len(scenes)} scenes of {len({s.cluster for s in scenes})} recordings")
        evaluation = Evaluation(
            scenes,
            agents,
            args.agents,
            console,
            folder,
            RolloutConfig(horizon=args.horizon, replan_every=args.replan_every),
            args.seed,
            args.max_agents,
            starts,
            args.rollouts,
            tuple(policies.values()),
        )
        rows = {name: evaluation.rows(name, policy) for name, policy in policies.items()}
        privileged = {name: policy.privileged for name, policy in policies.items()}
        results = results_of(scenes, rows, privileged, notes)
        if args.realism:
            results["realism"] = _realism(args, evaluation)
        print_results(results, console)
        if folder is not None:
            _finish(args, folder, names, results)
        write_json(args.json, {**results, "config": _settings(args, names)})
    return 0


def _realism(args: Arguments, evaluation: Evaluation) -> dict[str, Any]:
    """Realism of the agent model over the logs of the scenes."""
    from perlsim.evaluation.report import realism_json
    from perlsim.metrics.realism import realism
    from perlsim.output import plain

    folder = evaluation.folder
    if folder is not None and (done := folder.part(_REALISM)) is not None:
        return done
    plain(evaluation.console, f"agents {args.agents}: realism, compiling and running")
    logs = {id(scene.scenario): scene.scenario for scene in evaluation.scenes}
    measured = realism(logs.values(), evaluation.agents, seed=args.seed)
    content = realism_json(measured, args.agents)
    if folder is not None:
        folder.write_part(_REALISM, content)
    return content


def _finish(args: Arguments, folder: RunFolder, names: list[str], results: dict) -> None:
    from perlsim.evaluation.page import page_of

    command = ["perlsim", *sys.argv[1:]]
    facts = {
        "policies": names,
        "agents": args.agents,
        "store": None if args.store is None else str(args.store),
        "horizon": args.horizon,
    }
    folder.write("results.json", results)
    shown = {"store": args.store or "embedded synthetic logs", "agents": args.agents, "seed": args.seed}
    folder.write("results.html", page_of(results, {**shown, "command": shlex.join(command)}))
    folder.finish(command, facts)


def _show_finished(args: Arguments, folder: RunFolder, console: Console) -> int:
    from perlsim.evaluation.report import print_results
    from perlsim.output import write_json
    from perlsim.runs import read_json

    results = read_json(folder.path / "results.json")
    print_results(results, console)
    write_json(args.json, {**results, "config": folder.settings})
    return 0


def _settings(args: Arguments, names: list[str]) -> dict[str, Any]:
    """Everything that the results depend on."""
    return {
        "policies": names,
        "agents": args.agents,
        "store": None if args.store is None else str(args.store.resolve()),
        "store_digest": None if args.store is None else _digest(args.store / "manifest.json"),
        "split": args.split,
        "scenes": args.scenes,
        "seed": args.seed,
        "horizon": args.horizon,
        "replan_every": args.replan_every,
        "max_agents": args.max_agents,
        "include_standing": args.include_standing,
        "stride": args.stride,
        "stage2_digest": None if args.stage2 is None else _digest(args.stage2),
        "rollouts": args.rollouts,
        "realism": args.realism,
    }


def _digest(path: Path) -> str | None:
    """Digest of a file, None where it is absent: whoever opens it says so better."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _scenes(args: Arguments) -> tuple[list[EvalScene], dict[str, Any], list[str]]:
    """Scenes, starts of their second stages by name, and notes about what was left out.

    With a file of starts the scenes are those of the file.
    """
    from perlsim.evaluation.navsim import PROTOCOL_STEPS
    from perlsim.evaluation.scenes import choose_scenes, logs_of, scenes_named
    from perlsim.perturb import read_starts

    if args.stage2 is not None:
        if args.scenes is not None:
            raise PerlsimError("the scenes are those of --stage2", field="--scenes", remedy="leave it out")
        file = read_starts(args.stage2)
        if args.store is None and file.store is not None:
            raise PerlsimError(
                f"the starts were made from {file.store}", file=args.stage2, remedy="name --store"
            )
        logs = logs_of(args.store, file.num_logs, file.seed, args.split)
        scenes = scenes_named(logs, file.scenes)
        return scenes, file.of_scenes(scenes), []
    horizon = max(args.horizon, PROTOCOL_STEPS)
    logs = logs_of(args.store, args.scenes, args.seed, args.split)
    selection = choose_scenes(
        logs,
        horizon,
        count=args.scenes,
        seed=args.seed,
        include_standing=args.include_standing,
        stride=args.stride,
    )
    if not selection.scenes:
        raise PerlsimError(
            f"no scene to score{_reasons(selection.notes)}",
            file=args.store,
            remedy="take a shorter --horizon, or --include-standing, or logs with an ego",
        )
    return selection.scenes, {}, selection.notes


def names_of(text: str) -> list[str]:
    """Names separated by commas.

    Raises:
        PerlsimError: where one is empty or named twice.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise PerlsimError("expected names separated by commas, found an empty one", field="--policy")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise PerlsimError(f"{repeated[0]} is named twice", field="--policy")
    return names


def _reasons(notes: list[str]) -> str:
    return f": {'; '.join(notes)}" if notes else ""
