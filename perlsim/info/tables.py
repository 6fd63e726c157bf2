"""Prints a `StoreReport` as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from perlsim.info.report import SourceReport, StoreReport

_LABEL, _COLUMN = 26, 22  # characters: the names of the rows, and a source with its frame
_ROWS: tuple[tuple[str, Callable[[SourceReport], str]], ...] = (
    ("scenes", lambda r: str(r.scenes)),
    ("hours", lambda r: f"{r.hours:.3f}"),
    ("steps", lambda r: str(r.steps)),
    (
        "time between steps [s]",
        lambda r: _steps(r.step_seconds),
    ),
    ("scenes with ego", lambda r: str(r.scenes_with_ego)),
    ("road users", lambda r: str(r.agents)),
    ("  by type", lambda r: _counts(r.agents_by_type)),
    ("  most at once", lambda r: str(r.max_agents_at_once)),
    ("lights (state known)", lambda r: f"{r.lights} ({r.lights_known})"),
    ("lanes", lambda r: str(r.lanes)),
    ("map points", lambda r: str(r.road_points)),
    ("missing (scenes)", lambda r: _counts(r.missing)),
    ("repaired scenes", lambda r: str(r.repairs)),
    ("splits", lambda r: _counts(r.splits)),
    ("tags", lambda r: _counts(r.tags)),
    ("padding in one bucket", lambda r: f"{r.padding:.0%}"),
    (
        "overlap: scenes/steps/agents",
        lambda r: f"{r.overlap_scenes}/{r.overlap_steps}/{r.overlap_agents}" if r.scenes_with_ego else "-",
    ),
    ("|heading − motion| [rad]", lambda r: _error(r.heading_error, r.heading_error_worst, "{:.4f}")),
    ("|speed − motion|, relative", lambda r: _error(r.speed_error, r.speed_error_worst, "{:.2%}")),
    ("licence", lambda r: ", ".join(licence or "unknown" for licence in r.licences)),
)


def print_report(report: StoreReport, console: Console) -> None:
    """Prints one column a source, and the total."""
    console.print(
        f"{report.path}: {report.num_bytes / 2**20:.1f} MiB in {report.shards} shards, {report.logs} logs; "
        f"duplicates: {report.duplicates['left_out']} left out, {report.duplicates['kept']} kept; "
        f"{report.duplicates['linked']} pairs of scenes overlap in time and share a split",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    title = "errors: median over scenes (worst scene), ego above 2 m/s"
    for sources in _batches(report.sources, console):
        table = Table(title=title, title_justify="left")
        table.add_column("", min_width=_LABEL)
        for source in sources:
            table.add_column(f"{source.source}\n{source.dataset}".strip(), overflow="fold")
        for name, text in _ROWS:
            table.add_row(name, *(text(source) for source in sources))
        _wide(console).print(table, markup=False, highlight=False)
        title = ""


def print_rows(title: str, rows: Iterable[Mapping[str, object]], console: Console) -> None:
    """Prints equal dictionaries as a table."""
    rows = list(rows)
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name)
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    _wide(console).print(table, markup=False, highlight=False)


def _batches(sources: Sequence[SourceReport], console: Console) -> list[Sequence[SourceReport]]:
    """As many sources a table as there is room for; in a pipe all of them."""
    room = max((console.width - _LABEL - 4) // _COLUMN, 1) if console.is_terminal else len(sources)
    return [sources[first : first + room] for first in range(0, len(sources), room)]


def _wide(console: Console) -> Console:
    """In a pipe a table is as wide as it needs to be."""
    return console if console.is_terminal else Console(file=console.file, width=400)


def _steps(seconds: Iterable[float]) -> str:
    return ", ".join(dict.fromkeys(f"{dt:.4f}".rstrip("0") for dt in seconds))


def _counts(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{name} {count}" for name, count in counts.items()) or "-"


def _error(middle: float | None, worst: float | None, form: str) -> str:
    return "-" if middle is None or worst is None else f"{form.format(middle)} ({form.format(worst)})"
