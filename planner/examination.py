"""What a training run is judged by: its planners and baselines on scenes that no stage has seen.

::

    RUN/results.json   tables by agent model, differences, intervals
    RUN/results.html   the same
    RUN/curves.png     losses and validation by update
    RUN/scenes.html    the best, the worst and the most changed scenes, planners side by side
    RUN/suite/         result files of a benchmark's routes, where one was asked for
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from perlsim.errors import PerlsimError
from perlsim.evaluation.evaluate import Evaluation
from perlsim.evaluation.metrics import METRICS, cell
from perlsim.evaluation.page import page_of
from perlsim.evaluation.report import metrics_of, results_of
from perlsim.evaluation.scenes import EvalScene, choose_scenes
from perlsim.evaluation.statistics import clustered_means
from perlsim.output import plain
from perlsim.policies import policy_of
from perlsim.runs import RunFolder
from perlsim.sim.rollout import RolloutConfig
from perlsim.training.run_log import read_lines
from planner.pipeline import IMITATION, LOG, REINFORCEMENT, Pipeline
from planner.settings import Examination, Settings

# Metrics of the table on screen; results.json and results.html hold all.
_SHOWN = (
    "pdms",
    "epdms",
    "collision",
    "at_fault_collision",
    "off_road",
    "red_light",
    "route_progress",
    "min_ttc",
)
# Figures drawn of each stage, where it has them.
_DRAWN = ("loss", "reward", "validation/score", "validation/collisions")


def examine(pipeline: Pipeline, folder: RunFolder, console: Console) -> dict[str, Any]:
    """Drives the test scenes with all policies, and writes what is found.

    Args:
        pipeline: a finished one.
        folder: of its run.
        console: to report on.

    Returns:
        Content of ``results.json``.
    """
    config = pipeline.settings.examination
    assert config is not None
    scenes, notes = _scenes(pipeline, config)
    plain(
        console, f"examination: {len(scenes)} scenes of {len({scene.cluster for scene in scenes})} recordings"
    )
    policies = {**{name: policy_of(name) for name in config.baselines}, **pipeline.policies}
    tables = {}
    for place, name in enumerate(config.agents):
        agents = pipeline.agents(name)
        evaluation = Evaluation(
            scenes,
            agents,
            name,
            console,
            folder,
            RolloutConfig(horizon=config.horizon, replan_every=config.replan_every),
            pipeline.settings.seed,
            pipeline.settings.data.max_agents,
            # The main table's rollouts are kept, all of them: which are worth looking at shows at the end.
            rollouts=0 if place else len(scenes),
            observed=tuple(policies.values()),
        )
        rows = {
            policy: evaluation.rows(policy if not place else f"{policy} among {name}", policies[policy])
            for policy in policies
        }
        privileged = {policy: policies[policy].privileged for policy in policies}
        tables[name] = results_of(scenes, rows, privileged, notes)
    results = {
        "main": config.agents[0],
        "agents": tables,
        "differences": {name: differences(table) for name, table in tables.items()},
        "validation": {name: pipeline.best_score(name) for name in pipeline.policies},
        "policies": list(policies),
    }
    if config.suite is not None:
        results["suite"] = _suite(pipeline, config, folder.path)
    folder.write("results.json", results)
    shown = {"run": folder.path.name, "agents": results["main"], "seed": pipeline.settings.seed}
    folder.write("results.html", page_of(tables[results["main"]], shown))
    draw_curves(folder.path, list(_stages(pipeline)))
    return results


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Prints a table for each agent model, policies × metrics, and the gain of reinforcement."""
    for name, table in results["agents"].items():
        count, policies = len(table["scenes"]), results["policies"]
        means = {policy: metrics_of(table, policy, None) for policy in policies}
        shown = Table(title=f"{count} unseen scenes, agents {name}", title_justify="left")
        shown.add_column("mean, 95 % interval")
        for policy in policies:
            mark = "*" if table["policies"][policy]["privileged"] else ""
            shown.add_column(policy + mark, justify="right")
        for metric in METRICS:
            entries = [means[policy].get(metric.key) for policy in policies]
            if metric.key not in _SHOWN or all(entry is None or entry["mean"] is None for entry in entries):
                continue
            arrow = {True: " ↑", False: " ↓", None: ""}[metric.higher_is_better]
            shown.add_row(
                metric.label + arrow, *(cell(metric, entry, count).replace(" [", "\n[") for entry in entries)
            )
        console.print(shown, markup=False, highlight=False)
        for line in gains(results["differences"][name]):
            plain(console, line)
    plain(console, "* privileged: sees the whole state, or the future")


def gains(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences about what reinforcement changed."""
    lines = []
    for metric in METRICS:
        entry = found.get(metric.key)
        if metric.key not in ("pdms", "epdms", "collision") or entry is None or entry["mean"] is None:
            continue
        factor, unit = (100, " points") if metric.is_percent or metric.key != "collision" else (1, "")
        text = f"{metric.label}, reinforcement − imitation: {factor * entry['mean']:+.1f}{unit}"
        if entry["low"] is not None:
            text += f" [{factor * entry['low']:+.1f}, {factor * entry['high']:+.1f}]"
        lines.append(text)
    return lines


def differences(table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Means of reinforcement minus imitation over the scenes, paired, with intervals that draw recordings.

    Args:
        table: of `results_of`, with a ``cluster`` of each scene.

    Returns:
        By metric, as `clustered_means` gives it; empty without both planners.
    """
    if not {IMITATION, REINFORCEMENT} <= table["policies"].keys():
        return {}
    columns: dict[str, list[float | None]] = {}
    for metric in METRICS:
        pairs = [
            [scene["policies"][name].get(metric.key) for name in (IMITATION, REINFORCEMENT)]
            for scene in table["scenes"]
        ]
        if any(None not in pair for pair in pairs):
            columns[metric.key] = [None if None in pair else pair[1] - pair[0] for pair in pairs]
    return clustered_means(columns, [scene["cluster"] for scene in table["scenes"]])


def write_scenes(folder: Path, results: Mapping[str, Any], each: int) -> None:
    """Writes the viewer's page of a finished run.

    Args:
        folder: of the run.
        results: of `examine`.
        each: number of best, of worst and of changed scenes.
    """
    from perlsim.view.page import build_page
    from perlsim.view.sources import choose, open_sides

    names = [name for name in (IMITATION, REINFORCEMENT) if name in results["policies"]]
    chosen = chosen_scenes(results["agents"][results["main"]]["scenes"], names, each)
    if not chosen:
        return
    sides = open_sides([folder], names)
    keys, notices = choose(sides, list(chosen), len(chosen))
    order = list(chosen)
    keys.sort(key=lambda key: order.index(key[2]))
    kinds = [f"{name}: {kind}" for name, kind in chosen.items()]
    page = build_page(sides, keys, [*notices, "; ".join(kinds)], title=folder.name, compare=len(names) > 1)
    (folder / "scenes.html").write_text(page, "utf-8")


def chosen_scenes(scenes: Sequence[Mapping[str, Any]], names: Sequence[str], each: int) -> dict[str, str]:
    """Names of scenes worth looking at, and why: most changed, worst and best by PDMS.

    Args:
        scenes: of results.
        names: of the planners, the last is judged.
        each: number of each kind.
    """
    scores = {
        scene["scene_id"]: [scene["policies"][name].get("pdms") for name in names]
        for scene in scenes
        if all(scene["policies"][name].get("pdms") is not None for name in names)
    }
    ranked = sorted(scores, key=lambda scene: (scores[scene][-1], scene))
    changed = sorted(scores, key=lambda scene: (-abs(scores[scene][-1] - scores[scene][0]), scene))
    changed = [scene for scene in changed if scores[scene][-1] != scores[scene][0]]
    chosen: dict[str, str] = {}
    for kind, names_of_kind in (("changed", changed), ("worst", ranked), ("best", ranked[::-1])):
        left = [scene for scene in names_of_kind if scene not in chosen]
        chosen |= dict.fromkeys(left[:each], kind)
    return chosen


def draw_curves(folder: Path, stages: Sequence[str]) -> None:
    """Draws the figures of each stage by update into ``curves.png``."""
    from matplotlib.figure import Figure

    logs = {stage: read_lines(folder / stage / LOG) for stage in stages}
    figure = Figure(figsize=(3.2 * len(_DRAWN), 2.6 * len(stages)), layout="constrained")
    axes = figure.subplots(len(stages), len(_DRAWN), squeeze=False)
    for row, (stage, lines) in zip(axes, logs.items(), strict=True):
        for place, name in zip(row, _DRAWN, strict=True):
            points = [(line["update"], line[name]) for line in lines if name in line]
            if not points:
                place.set_axis_off()
                continue
            place.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None)
            place.set_title(f"{stage}: {name}", fontsize=9)
            place.set_xlabel("update", fontsize=8)
            place.grid(alpha=0.3)
    figure.savefig(folder / "curves.png", dpi=110)


def _scenes(pipeline: Pipeline, config: Examination) -> tuple[list[EvalScene], list[str]]:
    """Windows of the test logs."""
    from perlsim.evaluation.navsim import PROTOCOL_STEPS

    logs = [scenario for scenario in pipeline.scenarios("test") if scenario.has_ego]
    selection = choose_scenes(
        logs, max(config.horizon, PROTOCOL_STEPS), count=config.scenes, seed=pipeline.settings.seed
    )
    if not selection.scenes:
        raise PerlsimError(
            f"the test part has no scene to examine: {'; '.join(selection.notes)}", field="data.test"
        )
    return selection.scenes, selection.notes


def _suite(pipeline: Pipeline, config: Examination, folder: Path) -> str:
    """Drives a benchmark's routes; gives the folder of the result files in the run."""
    from perlsim.cli import Eval
    from perlsim.suite_command import run
    from planner.policy import load_policy

    suite = config.suite
    assert suite is not None
    names = [*config.baselines, *(str(folder / stage / "model") for stage in pipeline.policies)]
    args = Eval(
        policy=",".join(names),
        suite=suite.name,
        routes=(suite.routes,),
        maps=suite.maps,
        lights=suite.lights,
        seed=pipeline.settings.seed,
        out=folder / "suite",
    )
    run(args, names, load_policy)
    return "suite"


def _stages(pipeline: Pipeline):
    """Stages that were trained, in order."""
    if pipeline.settings.world_model is not None:
        yield "world_model"
    yield from pipeline.policies


class TrainingJob:
    """The stages and the examination, as ``perlsim train`` runs them (`perlsim.train_command.Job`).

    Args:
        settings: the configuration.
        folder: of the run.
        console: to report on; None is silent.
    """

    def __init__(self, settings: Settings, folder: Path, console: Console | None):
        self._pipeline = Pipeline(settings, folder, console)

    def train(self) -> None:
        """Runs the stages."""
        self._pipeline.train()

    def examine(self, folder: RunFolder, console: Console) -> dict[str, Any] | None:
        """Examines what was trained, where the configuration asks for it."""
        if self._pipeline.settings.examination is None:
            draw_curves(folder.path, list(_stages(self._pipeline)))
            return None
        return examine(self._pipeline, folder, console)

    def finished(self, folder: Path, results: dict[str, Any]) -> None:
        """Writes the viewer's page."""
        config = self._pipeline.settings.examination
        if config is not None and config.pages:
            write_scenes(folder, results, config.pages)

    def show(self, results: dict[str, Any], console: Console) -> None:
        """Prints the tables."""
        print_results(results, console)
