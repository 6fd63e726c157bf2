"""Shows how an import goes: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from perlsim.ingest.run import ImportReport, Progress
from perlsim.output import plain

LINE_SECONDS = 5.0  # between lines in a pipe
NAMED_DUPLICATES = 20  # listed by name at the end


class Counter:
    """Counts what is done with on a console, used as a context: a bar, or a line every `LINE_SECONDS`.

    Args:
        console: where to.
        unit: what is counted, in the plural.
        total: how many there will be, None unknown yet.
        description: what is being done.
    """

    def __init__(self, console: Console, unit: str, total: int | None, description: str):
        self._console, self._unit, self._total = console, unit, total
        self._next_line = time.monotonic() + LINE_SECONDS
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(description, total=total)

    def __enter__(self) -> Counter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def set_total(self, total: int, description: str) -> None:
        """Takes note of how many there will be."""
        self._total = total
        self._bar.update(self._task, total=total, description=description)

    def show(self, num_done: int, text: str = "") -> None:
        """Moves the bar, or prints a line now and then; ``text`` is what else to say."""
        self._bar.update(self._task, completed=num_done, description=text or None)
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            line = f"{num_done} of {self._total} {self._unit}"
            plain(self._console, f"{line}, {text}" if text else line)


class ConsoleProgress(Progress):
    """Progress of an import on a console, used as a context."""

    def __init__(self, console: Console):
        self._console = console
        self._counter = Counter(console, "logs", None, "looking for logs")

    def __enter__(self) -> ConsoleProgress:
        self._counter.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._counter.__exit__(*error)

    def start(self, num_logs: int) -> None:
        """Takes note of the number of logs to read."""
        self._counter.set_total(num_logs, "reading")

    def update(self, report: ImportReport, num_done: int) -> None:
        """Moves the bar, or prints a line every `LINE_SECONDS`."""
        self._counter.show(num_done, f"{report.imported} scenes, {len(report.refused)} refused")

    def refused(self, path: str, reason: str) -> None:
        """Prints the reason at once."""
        plain(self._console, f"refused: {reason if path in reason else f'{path}: {reason}'}")


def print_totals(report: ImportReport, console: Console) -> None:
    """Prints what was imported, repaired, left out and refused."""

    def line(text: str) -> None:
        plain(console, text)

    if report.interrupted:
        line("interrupted: the same command takes up where this one ended")
    line(f"imported: {report.imported} scenes from {report.logs} logs")
    if report.skipped_logs or report.skipped_scenes:
        again = f"{report.skipped_scenes} scenes of logs that had to be read again"
        line(f"already imported: {report.skipped_logs} logs, and {again}")
    line(f"repaired: {report.repaired} scenes")
    for repair, count in sorted(report.repairs.items(), key=lambda item: -item[1]):
        line(f"  {count} scenes: {repair}")
    left_out = [record for record in report.duplicates if not record.kept]
    what = "left out" if len(left_out) == len(report.duplicates) else "kept"
    line(f"duplicates: {len(report.duplicates)} scenes that the store had already, {what}")
    for record in report.duplicates[:NAMED_DUPLICATES]:
        line(f"  {record.source} {record.id} is {record.of_source} {record.of_id}")
    if len(report.duplicates) > NAMED_DUPLICATES:
        line(f"  and {len(report.duplicates) - NAMED_DUPLICATES} more, all in the store's manifest")
    if report.ignored:
        line(f"ignored: {report.ignored} files that no reader is for")
    line(f"refused: {len(report.refused)} logs")
    for path, reason in report.refused:
        line(f"  {reason if path in reason else f'{path}: {reason}'}")
