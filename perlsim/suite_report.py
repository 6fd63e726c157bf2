"""Results of ``perlsim eval --suite``: as JSON, as tables and as a page, with links to the drives that failed."""

from __future__ import annotations

import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from perlsim.runs import RunFolder
    from perlsim.score_command import Report
    from perlsim.worlds.suite.examine import Examined

# s before a failure at which the player begins.
_LEAD = 5.0
# Most failures that are printed; results hold all.
_NAMED = 60
_COLUMNS = {
    "driving_score": "DS",
    "success_rate": "SR [%]",
    "efficiency": "efficiency [%]",
    "comfort": "comfort [%]",
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child, .text td { text-align: left; } th { background: #f6f6f6; }
"""


def to_results(report: Report, found: Examined, *, privileged: bool) -> dict[str, Any]:
    """Results of one policy, JSON: those of `perlsim score`, and by type of scenario, and what failed."""
    from perlsim.score_report import to_json

    content = to_json(report)
    by_type: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in content["routes"]:
        by_type[found.drives[row["route"]]["kind"] or "no scenario"].append(row)
    types = {
        kind: {
            "routes": len(rows),
            "success_rate": 100.0 * sum(row["success"] for row in rows) / len(rows),
            "driving_score": sum(row["score"] for row in rows) / len(rows),
        }
        for kind, rows in sorted(by_type.items())
    }
    return {
        **content,
        "privileged": privileged,
        "types": types,
        "failures": found.failures,
        "notes": found.notes,
    }


def link_failures(folder: RunFolder, name: str, results: dict[str, Any]) -> None:
    """Writes the page of a policy's failed drives, and puts into each failure the link to its moment."""
    from perlsim.runs import file_name_of
    from perlsim.store import ScenarioStore
    from perlsim.view.page import build_page
    from perlsim.view.sources import Side, read_lines

    key = file_name_of(name)
    store = folder.path / "rollouts" / key
    side = Side(
        name, "rollout", folder.path, ScenarioStore.open(store), read_lines(store.with_name(f"{key}.jsonl"))
    )
    keys = {scene[2]: scene for scene in side.numbers}
    shown = [scene for failure in results["failures"] if (scene := keys.get(_scene_id(failure)))]
    if not shown:
        return
    page = f"view/{key}.html"
    folder.write(page, build_page([side], shown, title=f"{name}: {len(shown)} failed drives"))
    numbers = {scene[2]: number for number, scene in enumerate(shown)}
    for failure in results["failures"]:
        if (number := numbers.get(_scene_id(failure))) is not None:
            time = max(failure["time"] - _LEAD, 0.0)
            failure["link"] = f"{page}#scene={number}&t={time:.1f}"


def _scene_id(failure: Mapping[str, Any]) -> str:
    return "_".join(part for part in (failure["route"], failure["scenario"]) if part)


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Prints the scores of all policies, success by type, and a line for each route that failed."""
    from rich.table import Table

    from perlsim.output import plain

    policies = results["policies"]
    table = Table(title=f"{results['suite']}, {results['num_routes']} routes", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in policies:
        table.add_column(_label(name, policies[name]), justify="right")
    for label, values in _score_rows(policies):
        table.add_row(label, *(_text(value) for value in values))
    console.print(table, markup=False, highlight=False)
    table = Table(title="success by type [%]", title_justify="left")
    table.add_column("type (routes)", no_wrap=True)
    for name in policies:
        table.add_column(name, justify="right")
    for label, values in _type_rows(policies):
        table.add_row(label, *(_text(value, 0) for value in values))
    console.print(table, markup=False, highlight=False)
    for name, own in policies.items():
        if own["failures"]:
            plain(console, f"{name}: {len(own['failures'])} routes failed")
        for failure in own["failures"][:_NAMED]:
            plain(
                console, f"  {failure_text(failure)}" + (f"  {failure['link']}" if "link" in failure else "")
            )
        if len(own["failures"]) > _NAMED:
            plain(console, f"  and {len(own['failures']) - _NAMED} more (--json lists all)")


def failure_text(failure: Mapping[str, Any]) -> str:
    """Route, type, reasons with their times, and how far it got."""
    reasons = ", ".join(f"{reason['what']} at {reason['time']:.2f} s" for reason in failure["reasons"])
    return f"route {failure['route']} {failure['scenario']}: {reasons} ({failure['completion']:.0f} %)"


def finish(folder: RunFolder, results: Mapping[str, Any], names: Sequence[str]) -> None:
    """Writes the results as JSON and as a page, and marks the run as finished."""
    command = ["perlsim", *sys.argv[1:]]
    folder.write("results.json", results)
    folder.write("results.html", page_of(results, shlex.join(command)))
    folder.finish(command, {"policies": list(names), "suite": results["suite"]})


def page_of(results: Mapping[str, Any], command: str) -> str:
    """The page of a run, whose links lead to the pages of its failed drives beside it."""
    policies = results["policies"]
    heads = [_label(name, own) for name, own in policies.items()]
    failed = "".join(
        f"<h2>{escape(name)}: {len(own['failures'])} failed routes</h2><table class='text'>"
        + "".join(_failure_row(failure) for failure in own["failures"])
        + "</table>"
        for name, own in policies.items()
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>{escape(results['suite'])}</title>"
        f"<link rel='icon' href='data:,'><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(results['suite'])}, {results['num_routes']} routes</h1>"
        f"<p>Driven in vector space: not a result in CARLA. * privileged. <code>{escape(command)}</code></p>"
        f"{_html_table(heads, _score_rows(policies), 2)}<h2>Success by type [%]</h2>"
        f"{_html_table(heads, _type_rows(policies), 0)}{failed}</body></html>\n"
    )


def _html_table(heads: Sequence[str], rows: Sequence[tuple[str, list[Any]]], digits: int) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in ("", *heads))
    body = "".join(
        f"<tr><td>{escape(label)}</td>"
        + "".join(f"<td>{_text(value, digits)}</td>" for value in values)
        + "</tr>"
        for label, values in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _failure_row(failure: Mapping[str, Any]) -> str:
    text = escape(failure_text(failure))
    link = f"<a href='{escape(failure['link'], quote=True)}'>watch</a>" if "link" in failure else ""
    return f"<tr><td>{text}</td><td>{link}</td></tr>"


def _label(name: str, own: Mapping[str, Any]) -> str:
    return f"{name} *" if own["privileged"] else name


def _score_rows(policies: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
    rows = [(label, [own[key] for own in policies.values()]) for key, label in _COLUMNS.items()]
    abilities = next(iter(policies.values()))["abilities"]
    return rows + [
        (
            "mean of abilities [%]" if ability == "mean" else f"{ability} [%]",
            [own["abilities"][ability] for own in policies.values()],
        )
        for ability in abilities
    ]


def _type_rows(policies: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
    types = next(iter(policies.values()))["types"]
    return [
        (
            f"{kind} ({types[kind]['routes']})",
            [own["types"][kind]["success_rate"] for own in policies.values()],
        )
        for kind in types
    ]


def _text(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None or value != value else f"{value:.{digits}f}"
