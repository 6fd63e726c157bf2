"""Results of an evaluation: put together from the scenes, and as tables on screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perlsim.evaluation.metrics import METRICS, cell
from perlsim.evaluation.scenes import EvalScene
from perlsim.evaluation.statistics import clustered_means

if TYPE_CHECKING:
    from rich.console import Console

# Rank policies: the one that is known of most scenes, the first of these where several are.
RANKING = ("epdms", "pdms")


def results_of(
    scenes: Sequence[EvalScene],
    rows: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    privileged: Mapping[str, bool],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Everything that an evaluation found, JSON.

    Args:
        scenes: in order.
        rows: by policy and scene: metrics, None where not available.
        privileged: by policy, whether it sees everything.
        notes: sentences about what was left out.

    Returns:
        ``policies`` by name: ``privileged``, ``metrics`` and ``by_source`` (see `clustered_means`), and
        ``num_scenes``; ``scenes`` one by one; ``num_scenes`` and ``num_recordings`` by source; ``notes``.
    """
    sources = sorted({scene.scenario.source for scene in scenes})
    by_source = {name: [s for s in scenes if s.scenario.source == name] for name in sources}
    policies = {}
    for name, of_scene in rows.items():

        def means(chosen: Sequence[EvalScene], of_scene=of_scene):
            keys = {key for scene in chosen for key in of_scene[scene.scene_id]}
            columns = {
                metric.key: [of_scene[scene.scene_id].get(metric.key) for scene in chosen]
                for metric in METRICS
                if metric.key in keys
            }
            return clustered_means(columns, [scene.cluster for scene in chosen])

        policies[name] = {
            "privileged": privileged[name],
            "metrics": means(scenes),
            "by_source": {source: means(chosen) for source, chosen in by_source.items()},
        }
    return {
        "policies": policies,
        "scenes": [
            {
                "scene_id": scene.scene_id,
                "scenario_id": scene.scenario.scenario_id,
                "start": scene.start,
                "source": scene.scenario.source,
                "cluster": scene.cluster,
                "policies": {name: dict(of_scene[scene.scene_id]) for name, of_scene in rows.items()},
            }
            for scene in scenes
        ],
        "num_scenes": {name: len(chosen) for name, chosen in by_source.items()},
        "num_recordings": {name: len({s.cluster for s in chosen}) for name, chosen in by_source.items()},
        "notes": list(notes),
    }


def realism_json(realism: Any, agents: str) -> dict[str, Any]:
    """Realism of the agent model (`perlsim.metrics.realism.Realism`) as JSON: part ``realism`` of the results."""
    return {
        "agents": agents,
        "num_rollouts": realism.num_rollouts,
        "num_logs": len(realism.scenes),
        "meta": without_nan({"": realism.meta})[""],
        "coverage": without_nan({"": realism.coverage})[""],
        "groups": without_nan(realism.groups),
        "likelihoods": without_nan(realism.likelihoods),
    }


def realism_rows(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Realism of the agent model as rows of a table; none where it was not asked for."""
    realism = results.get("realism")
    if realism is None:
        return []
    numbers = {"meta metric": realism["meta"], "share of it that is known": realism["coverage"]}
    numbers |= {name.replace("_", " "): value for name, value in realism["likelihoods"].items()}
    return [(name, "n/a" if value is None else f"{value:.3f}") for name, value in numbers.items()]


def realism_title(results: Mapping[str, Any]) -> str:
    """Heading of that table."""
    realism = results["realism"]
    return (
        f"realism of agents {realism['agents']} in the manner of WOSAC: {realism['num_logs']} logs x "
        f"{realism['num_rollouts']} rollouts"
    )


def without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics for JSON: what is not available is null."""
    return {name: None if math.isnan(value) else float(value) for name, value in metrics.items()}


def ranked(results: Mapping[str, Any], source: str | None = None) -> list[str]:
    """Names of the policies, best first."""
    of_policy = {name: metrics_of(results, name, source) for name in results["policies"]}

    def entry(name: str, metric: str) -> dict:
        return of_policy[name].get(metric, {"mean": None, "count": 0})

    by = max(RANKING, key=lambda metric: sum(entry(name, metric)["count"] for name in of_policy))
    means = {name: entry(name, by)["mean"] for name in of_policy}
    return sorted(of_policy, key=lambda name: -math.inf if means[name] is None else means[name], reverse=True)


def metrics_of(results: Mapping[str, Any], policy: str, source: str | None) -> dict[str, dict]:
    """Means of one policy over one source, or over all."""
    entry = results["policies"][policy]
    return entry["metrics"] if source is None else entry["by_source"][source]


def groups_of(results: Mapping[str, Any]) -> list[tuple[str | None, str, int]]:
    """What tables there are: source (None all), title, number of scenes."""
    scenes, recordings = results["num_scenes"], results["num_recordings"]
    groups: list[tuple[str | None, str, int]] = [
        (name, f"{name}: {count} scenes of {recordings[name]} recordings", count)
        for name, count in scenes.items()
    ]
    if len(groups) == 1:
        return groups
    total = sum(scenes.values())
    return [(None, f"all: {total} scenes of {sum(recordings.values())} recordings", total), *groups]


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Prints a table for all scenes and one for each source, metrics × policies, best policy first."""
    from rich.table import Table

    from perlsim.output import plain

    marked = False
    for source, title, count in groups_of(results):
        names = ranked(results, source)
        table = Table(title=title, title_justify="left")
        table.add_column("mean, 95 % interval")
        for name in names:
            privileged = results["policies"][name]["privileged"]
            marked |= privileged
            table.add_column(name + ("*" if privileged else ""), justify="right")
        group = None
        for metric in METRICS:
            entries = [metrics_of(results, name, source).get(metric.key) for name in names]
            if all(entry is None for entry in entries):
                continue
            if metric.group != group:
                group = metric.group
                table.add_section()
                table.add_row(f"-- {group}", *[""] * len(names))
            arrow = {True: " ↑", False: " ↓", None: ""}[metric.higher_is_better]
            # Mean, interval and count below each other: four policies then fit into 80 columns.
            texts = [
                cell(metric, entry, count).replace(" [", "\n[").replace("] ", "]\n") for entry in entries
            ]
            table.add_row(metric.label + arrow, *texts)
        console.print(table, markup=False, highlight=False)
    if rows := realism_rows(results):
        table = Table(title=realism_title(results), title_justify="left")
        table.add_column("likelihood of the log")
        table.add_column("", justify="right")
        for name, text in rows:
            table.add_row(name, text)
        console.print(table, markup=False, highlight=False)
    if marked:
        plain(console, "* privileged: sees the whole state, or the future")
    for note in results["notes"]:
        plain(console, f"note: {note}")
