"""The report of ``perlsim score``: as tables and as JSON."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from perlsim.metrics import bench2drive
from perlsim.metrics.navsim_tables import SceneTable
from perlsim.score_command import Report

NAMED = 20  # most lines of one kind that are printed; JSON holds all


def to_json(report: Report) -> dict[str, Any]:
    """The report as JSON; numbers that are not available are null."""
    content: dict[str, Any] = {}
    if report.gathered and report.scores:
        content |= _bench2drive(report.gathered, report.scores)
    if report.tables:
        content |= _navsim(report.tables)
    content["unreadable"] = [{"file": error.file, "problem": str(error)} for error in report.unreadable]
    content["ignored_files"] = report.ignored
    return content


def print_report(report: Report, console: Console) -> None:
    """Prints the numbers, then what is missing or wrong, line by line."""
    console = console if console.is_terminal else Console(file=console.file, width=400)
    if report.gathered and report.scores:
        _print_bench2drive(report.gathered, report.scores, console)
    if report.tables:
        _print_tables(report.tables, console)
    for title, lines in _remarks(report):
        if lines:
            console.print(f"{title}: {len(lines)}", markup=False, highlight=False)
            for line in lines[:NAMED]:
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
            if len(lines) > NAMED:
                console.print(f"  and {len(lines) - NAMED} more (--json lists all)", highlight=False)


def _bench2drive(gathered: bench2drive.Gathered, scores: bench2drive.Scores) -> dict[str, Any]:
    return {
        "driving_score": scores.driving_score,
        "success_rate": scores.success_rate,
        "efficiency": scores.efficiency,
        "comfort": scores.comfort,
        "abilities": {name: rate.value for name, rate in scores.abilities.items()},
        "ability_bounds": {name: [rate.low, rate.high] for name, rate in scores.abilities.items()},
        "bench2drive_compat": {
            "comfort": scores.comfort_compat,
            "abilities": {name: rate.value for name, rate in scores.abilities_compat.items()},
        },
        "num_routes": len(gathered.drives),
        "num_records": sum(drive.record is not None for drive in gathered.drives),
        "routes": [_route(drive) for drive in gathered.drives],
        "without_record": [{"file": file, "routes": missing} for file, missing in gathered.without_record],
        "missing_routes": [drive.route for drive in gathered.drives if drive.record is None],
        "unexpected_routes": [{"route": r.route, "file": r.file} for r in gathered.unexpected],
        "duplicates": [vars(duplicate) for duplicate in gathered.duplicates],
    }


def _route(drive: bench2drive.Drive) -> dict[str, Any]:
    record = drive.record
    row: dict[str, Any] = {
        "route": drive.route,
        "repetition": drive.repetition,
        "scenario": drive.scenario or None,
        "town": drive.town or None,
        "score": drive.score,
        "success": drive.attempt.success,
        "file": None,
    }
    if record is None:
        return row
    return row | {
        "file": record.file,
        "status": record.status,
        "completion": record.completion,
        "penalty": record.penalty,
        "stated_penalty": record.stated_penalty,
        "disagrees": drive.disagrees,
        "efficiency": record.efficiency,
        "comfort": 100 * drive.comfort,
        "comfort_compat": 100 * drive.comfort_compat,
        "passed_junction": drive.passed,
        "infractions": {kind: len(texts) for kind, texts in record.infractions.items() if texts},
    }


def _navsim(tables: list[SceneTable]) -> dict[str, Any]:
    """The tables; the score at the top only where it can mean but one table."""
    rows = [_table(table) for table in tables]

    def only(key: str) -> float | None:
        known = [row[key] for row in rows if row[key] is not None]
        return known[0] if len(known) == 1 else None

    return {"pdms": only("pdms"), "epdms": only("epdms"), "tables": rows}


def _table(table: SceneTable) -> dict[str, Any]:
    return {
        "file": table.file,
        "form": table.form,
        "scenes": len(table.tokens),
        "pdms": table.average() if table.form == "pdms" else None,
        # The second stage has weights that the file does not hold.
        "epdms": table.average() if table.form == "epdms" else None,
        "stage_one": table.average(1) if table.form == "epdms_two_stage" else None,
        "stage_two_unweighted": table.average(2) if table.form == "epdms_two_stage" else None,
        "stated": {token: numbers.get("score") for token, (_, numbers) in table.summaries.items()},
        "failed_scenes": table.failed,
        "duplicates": [{"line": line, "token": token} for line, token in table.duplicates],
        "disagreements": [vars(wrong) for wrong in table.disagreements()],
        "scores": dict(zip(table.tokens, table.scores().tolist(), strict=True)),
    }


def _print_bench2drive(gathered: bench2drive.Gathered, scores: bench2drive.Scores, console: Console) -> None:
    records = [drive.record for drive in gathered.drives if drive.record]
    table = Table(
        title=f"Bench2Drive, {len(gathered.drives)} routes, {len(records)} records", title_justify="left"
    )
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right")
    table.add_row("driving score", _text(scores.driving_score))
    table.add_row("success rate [%]", _text(scores.success_rate))
    table.add_row("efficiency [%]", _text(scores.efficiency))
    table.add_row("comfort [%]", _text(scores.comfort))
    table.add_row("comfort, bench2drive_compat [%]", _text(scores.comfort_compat))
    for name, rate in scores.abilities.items():
        text = (
            _text(rate.value)
            if rate.low == rate.high or not rate.count
            else f"{rate.low:.2f} to {rate.high:.2f}"
        )
        table.add_row(
            f"{name} [%] ({rate.count} routes)" if name != "mean" else "mean of abilities [%]", text
        )
    console.print(table, markup=False, highlight=False)
    counts: dict[str, int] = {}
    for record in records:
        for kind, texts in record.infractions.items():
            counts[kind] = counts.get(kind, 0) + len(texts)
    shown = ", ".join(f"{kind} {n}" for kind, n in counts.items() if n)
    console.print(f"infractions: {shown or 'none'}", markup=False, highlight=False)


def _print_tables(tables: list[SceneTable], console: Console) -> None:
    table = Table(title="NAVSIM", title_justify="left")
    for name in ("table", "form", "scenes", "failed", "score", "stated"):
        table.add_column(name, justify="left" if name in ("table", "form", "stated") else "right")
    for one in tables:
        if one.form == "epdms_two_stage":
            score = f"stage one {_text(one.average(1), 4)}, two (unweighted) {_text(one.average(2), 4)}"
        else:
            score = _text(one.average(), 4)
        stated = ", ".join(
            f"{token} {_text(numbers.get('score', math.nan), 4)}"
            for token, (_, numbers) in one.summaries.items()
        )
        table.add_row(one.file, one.form, str(len(one.tokens)), str(len(one.failed)), score, stated or "-")
    console.print(table, markup=False, highlight=False)


def _remarks(report: Report) -> list[tuple[str, list[str]]]:
    """What the reader should know besides, by title."""
    remarks = []
    if report.gathered:
        missing = [drive for drive in report.gathered.drives if drive.record is None]
        undecided = [
            drive for drive in report.gathered.drives if drive.attempt.may_be_rescued and drive.passed is None
        ]
        remarks += [
            ("files that lack routes", [f"{f} ({n} missing)" for f, n in report.gathered.without_record]),
            ("routes without a record, scored 0", [f"{d.route} {d.scenario}".strip() for d in missing]),
            (
                "routes with several records, of which the first counts",
                [
                    f"{d.route} (repetition {d.repetition}): {d.left_out} left out, {d.counted} counted"
                    + ("" if d.same_score else "; their scores differ")
                    for d in report.gathered.duplicates
                ],
            ),
            (
                "routes that the route file does not name, left out",
                [f"{record.route}: {record.file}" for record in report.gathered.unexpected],
            ),
            (
                "routes whose file states another penalty",
                [
                    f"{d.route}: {d.record.stated_penalty} in {d.record.file}, expected {d.record.penalty:.6f}"
                    for d in report.disagreeing
                    if d.record
                ],
            ),
            (
                "routes whose type of scenario is unknown, left out of the abilities (--routes tells)",
                [drive.route for drive in report.gathered.drives if not drive.scenario],
            ),
            (
                "failed routes that count for Traffic Signs if they passed their junction (--routes and --maps tell)",
                [drive.route for drive in undecided],
            ),
        ]
    wrong = [(table, one) for table in report.tables for one in table.disagreements()]
    remarks += [
        (
            "numbers in tables that do not follow from the sub-scores",
            [
                f"{table.file} line {one.line} ({one.token}) column {one.column}: {one.stated}, expected {one.expected}"
                for table, one in wrong
            ],
        ),
        (
            "scenes that come twice, of which the first counts",
            [
                f"{table.file} line {line}: {token}"
                for table in report.tables
                for line, token in table.duplicates
            ],
        ),
        (
            "scenes without scores, left out",
            [f"{table.file}: {token}" for table in report.tables for token in table.failed],
        ),
        ("files that could not be used", [str(error) for error in report.unreadable]),
    ]
    return remarks


def _text(value: float, digits: int = 2) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"
