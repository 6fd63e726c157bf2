"""Imports logs into a store."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perlsim.errors import unknown_name
from perlsim.ingest.pool import read_all
from perlsim.ingest.sources import LogPath, find_logs
from perlsim.ingest.worker import Done, Failed, Message, Reading
from perlsim.readers import FORMATS, Format, ReadOptions
from perlsim.store.encoding import Encoded
from perlsim.store.manifest import DuplicateRecord, ImportedFile
from perlsim.store.splits import SplitRule
from perlsim.store.store import ScenarioStore
from perlsim.store.writer import COMMIT_SECONDS, SHARD_BYTES, StoreWriter

# What differs between scenes in a repair of one kind: the count before and the names after.
_DETAILS = re.compile(r"^\d+( of \d+)? | \([^()]*\)$")


@dataclass(frozen=True)
class ImportOptions:
    """How to import.

    Attributes:
        format: name of the format, None to guess for each log.
        reading: options of the readers.
        strict: stop at the first log that cannot be read.
        num_workers: reading processes, None for one per core.
        time_limit: s without a scene after which a log is given up.
        keep_duplicates: store scenes that the store already has in another form.
        rule: splits of a new store, None for the default or those of the existing store.
        shard_bytes, commit_seconds: see `perlsim.store.writer`.
    """

    format: str | None = None
    reading: ReadOptions = field(default_factory=ReadOptions)
    strict: bool = False
    num_workers: int | None = None
    time_limit: float = 600.0
    keep_duplicates: bool = False
    rule: SplitRule | None = None
    shard_bytes: int = SHARD_BYTES
    commit_seconds: float = COMMIT_SECONDS

    @property
    def text(self) -> str:
        """The options that shape the scenes of a log."""
        maps = self.reading.maps.absolute() if self.reading.maps else ""
        return f"window={self.reading.window:g} ego={self.reading.ego or ''} maps={maps}"


@dataclass
class ImportReport:
    """Totals of an import.

    Attributes:
        imported: scenes stored.
        logs: log files and folders read to their end.
        skipped_logs: logs that an earlier import had read.
        skipped_scenes: scenes of logs read again which an interrupted import had stored.
        repaired: stored scenes with at least one repair.
        repairs: scenes by kind of repair (its sentence, without counts and names).
        duplicates: scenes left out, or with ``keep_duplicates`` stored, that the store had already.
        refused: logs that could not be read to their end, with the reason.
        ignored: files met in folders that no reader is for.
        interrupted: whether the import was stopped by a signal.
    """

    imported: int = 0
    logs: int = 0
    skipped_logs: int = 0
    skipped_scenes: int = 0
    repaired: int = 0
    repairs: dict[str, int] = field(default_factory=dict)
    duplicates: list[DuplicateRecord] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    ignored: int = 0
    interrupted: bool = False

    def to_json(self) -> dict:
        """Plain data for JSON."""
        return asdict(self)


class Progress:
    """What an import tells while it runs; this one stays silent."""

    def start(self, num_logs: int) -> None:
        """Called once, with the number of logs to read."""

    def update(self, report: ImportReport, num_done: int) -> None:
        """Called after each message of a reader, with the number of logs done with."""

    def refused(self, path: str, reason: str) -> None:
        """Called for each log that could not be read."""


def import_logs(
    paths: list[str], store_path: Path, options: ImportOptions, progress: Progress | None = None
) -> ImportReport:
    """Reads logs into a store, which is made where there is none.

    The store is readable at every moment, and the same call takes up where an interrupted one ended. SIGINT
    and SIGTERM end the import once the scenes at hand are written.

    Args:
        paths: files, folders and globs.
        store_path: folder of the store.
        options: how.
        progress: told about each step.

    Raises:
        PerlsimError: nothing to import, unknown format, or a store that cannot be written to.
    """
    progress = progress or Progress()
    found = find_logs(paths, _formats(options.format))
    report = ImportReport(ignored=found.ignored)
    for path, reason in found.refused:
        report.refused.append((path, reason))
        progress.refused(path, reason)
    if not found.logs or (report.refused and options.strict):
        return report
    store = ScenarioStore.open_or_create(store_path, options.rule)
    with (
        StoreWriter(store, shard_bytes=options.shard_bytes, commit_seconds=options.commit_seconds) as writer,
        _stop_on_signal() as stopped,
    ):
        _Import(writer, options, report, progress).run(found.logs, stopped)
        report.interrupted = stopped()
    return report


class _Import:
    """State of one import."""

    def __init__(self, writer: StoreWriter, options: ImportOptions, report: ImportReport, progress: Progress):
        self._writer, self._options = writer, options
        self._report, self._progress = report, progress
        store = writer.store
        self._files = [file for file in store.files if file.options == options.text]
        # A log that was cut short by a kill is read again; these of its scenes are stored already.
        self._stored = {(summary.source_sha256, *summary.key) for summary in store.summaries}

    def run(self, logs: list[LogPath], stopped: Callable[[], bool]) -> None:
        options, report = self._options, self._report
        known = {file.key for file in self._files}
        new = [log for log in logs if (str(log.real_path), log.size, log.modified, options.text) not in known]
        report.skipped_logs = len(logs) - len(new)
        self._progress.start(len(new))
        known_bytes = frozenset(file.sha256 for file in self._files)
        reading = Reading(dict(FORMATS), options.format, options.reading, known_bytes, options.time_limit)
        counts: dict[int, Counter[str]] = {}
        num_done = 0
        num_workers = options.num_workers or os.cpu_count() or 1
        for idx, message in read_all(new, reading, num_workers, stopped):
            self._take(new[idx], message, counts.setdefault(idx, Counter()))
            num_done += not isinstance(message, Encoded)
            self._progress.update(report, num_done)
            if report.refused and options.strict:
                return

    def _take(self, log: LogPath, message: Message, counts: Counter[str]) -> None:
        report = self._report
        if isinstance(message, Encoded):
            self._take_scene(message, counts)
        elif isinstance(message, Failed):
            stored = counts["imported"]
            after = f" (its first {stored} scenes are in the store)" if stored else ""
            report.refused.append((str(log.path), message.reason + after))
            self._progress.refused(*report.refused[-1])
        elif message.known:
            report.skipped_logs += 1
        else:
            report.logs += 1
            self._writer.add_file(self._record(log, message, counts))

    def _take_scene(self, scene: Encoded, counts: Counter[str]) -> None:
        report, summary = self._report, scene.summary
        if (summary.source_sha256, *summary.key) in self._stored:
            report.skipped_scenes += 1
            return
        duplicate = self._writer.add_encoded(scene, keep_duplicates=self._options.keep_duplicates)
        if duplicate is not None:
            report.duplicates.append(duplicate)
            if not duplicate.kept:
                counts["duplicates"] += 1
                return
        counts["imported"] += 1
        report.imported += 1
        report.repaired += bool(summary.repairs)
        for kind in {_DETAILS.sub("", repair) for repair in summary.repairs}:
            report.repairs[kind] = report.repairs.get(kind, 0) + 1

    def _record(self, log: LogPath, done: Done, counts: Counter[str]) -> ImportedFile:
        return ImportedFile(
            path=str(log.real_path),
            size=log.size,
            modified=log.modified,
            sha256=done.sha256,
            options=self._options.text,
            format=done.format,
            scenarios=counts["imported"],
            duplicates=counts["duplicates"],
        )


def _formats(name: str | None) -> Mapping[str, Format]:
    if name is None:
        return FORMATS
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS, "--format")
    return {name: FORMATS[name]}


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turns SIGINT and SIGTERM into a question to ask, so that no write is cut in two."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return
    previous = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
