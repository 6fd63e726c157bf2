"""Adds scenarios to a store: one writer at a time, a shard at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import pyarrow as pa
from filelock import FileLock, Timeout

from perlsim.errors import PerlsimError
from perlsim.scenario import Scenario
from perlsim.store.columns import SCHEMA, Row, encode_batch, row_bytes
from perlsim.store.encoding import Encoded, encode
from perlsim.store.fingerprint import NAMED_APART_SHARE, DuplicateIndex, Match
from perlsim.store.manifest import (
    SHARDS,
    DuplicateRecord,
    ImportedFile,
    ShardEntry,
    Sidecar,
    write_durably,
)
from perlsim.store.splits import SPLITS, assign_splits
from perlsim.store.store import ScenarioStore, licences
from perlsim.store.summary import Summary

SHARD_BYTES = 64 * 2**20  # arrays kept in memory before a shard is written
COMMIT_SECONDS = 60.0  # most work that a kill can undo


class StoreWriter:
    """A writing session, used as a context; leaving it writes what is pending, also on an exception.

    Args:
        store: the store; it is refreshed after each commit.
        shard_bytes: size at which a shard is closed.
        commit_seconds: time after which a shard is closed although it is small.

    Raises:
        PerlsimError: on entering, where another process is writing to this store.
    """

    def __init__(
        self,
        store: ScenarioStore,
        *,
        shard_bytes: int = SHARD_BYTES,
        commit_seconds: float = COMMIT_SECONDS,
    ):
        self.store = store
        self._shard_bytes = shard_bytes
        self._commit_seconds = commit_seconds
        self._lock = FileLock(store.path / ".lock")
        self._index = DuplicateIndex()
        self._summaries: list[Summary] = []
        self._links: list[tuple[str, str]] = []
        self._pending = _Pending()

    def __enter__(self) -> StoreWriter:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise PerlsimError(
                "another process is writing to this store", file=self.store.path, remedy="wait for it to end"
            ) from error
        self.store.refresh()
        self._remove_orphans()
        self._summaries = list(self.store.summaries)
        self._links = [(record.of_group, record.group) for record in self.store.duplicates]
        for number in range(len(self.store)):
            self._index.add(self.store.fingerprint(number))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.commit()
        finally:
            self._lock.release()

    def add(self, scenario: Scenario, *, keep_duplicates: bool = True) -> DuplicateRecord | None:
        """Adds a scenario in the scenario frame once it is found valid; see `add_encoded`."""
        return self.add_encoded(encode(scenario.validate()), keep_duplicates=keep_duplicates)

    def add_encoded(self, encoded: Encoded, *, keep_duplicates: bool = True) -> DuplicateRecord | None:
        """Adds a scenario, unless it is a duplicate and those are not to be kept.

        Args:
            encoded: the scenario.
            keep_duplicates: whether to store a scene that the store already has in another form.

        Returns:
            The record of the duplicate where the store had the scene already (``kept`` says whether it was
            stored all the same), else None.
        """
        pending, summary = self._pending, encoded.summary
        records = [self._record(summary, match) for match in self._index.matches(encoded.fingerprint)]
        records.sort(key=lambda record: not record.is_duplicate)
        duplicate = records[0] if records and records[0].is_duplicate else None
        self._links += [(record.of_group, record.group) for record in records]
        if duplicate is not None and not keep_duplicates:
            pending.duplicates.append(replace(duplicate, kept=False))
            return pending.duplicates[-1]
        # Overlapping windows of one recording are no news; the same scene twice is.
        pending.duplicates += [r for r in records if r.is_duplicate or r.group != r.of_group]
        self._index.add(encoded.fingerprint)
        self._summaries.append(summary)
        pending.rows.append(encoded.row)
        pending.summaries.append(summary)
        pending.num_bytes += row_bytes(encoded.row)
        if pending.num_bytes >= self._shard_bytes or time.monotonic() - pending.since >= self._commit_seconds:
            self.commit()
        return duplicate

    def add_file(self, file: ImportedFile) -> None:
        """Notes that a file was read to its end; committed with its last scene or later."""
        self._pending.files.append(file)

    def commit(self) -> None:
        """Writes what is pending as a shard and then the manifest that names it."""
        # Taken before anything is written, so that a commit cut short is never repeated on leaving.
        pending, self._pending = self._pending, _Pending()
        if pending.is_empty():
            return
        store, manifest = self.store, self.store.manifest
        stem = store.path / SHARDS / f"{len(manifest.shards):05d}"
        sidecar = Sidecar(tuple(pending.summaries), tuple(pending.files), tuple(pending.duplicates))
        entry = ShardEntry(
            write_durably(stem.with_suffix(".arrow"), _arrow_bytes(pending.rows)),
            write_durably(stem.with_suffix(".json"), sidecar.to_bytes()),
            len(pending.rows),
        )
        splits = assign_splits(manifest.rule, self._summaries, self._links)
        replace(
            manifest,
            shards=[*manifest.shards, entry],
            splits={split: [i for i, own in enumerate(splits) if own == split] for split in SPLITS},
            sources=licences(self._summaries),
        ).write(store.path)
        store.refresh()

    def _record(self, summary: Summary, match: Match) -> DuplicateRecord:
        rule, old = self.store.manifest.rule, self._summaries[match.row]
        # A data set may name several scenes of the same traffic: windows that overlap, or planning problems
        # (CommonRoad). There, other names mean other scenes unless the same ego drives nearly all the same.
        same_data = (summary.source, summary.dataset) == (old.source, old.dataset)
        named_apart = (same_data and summary.id != old.id) and not (
            match.same_ego and match.share_of_longer >= NAMED_APART_SHARE
        )
        return DuplicateRecord(
            id=summary.id,
            source=summary.source,
            file=summary.source_file,
            group=rule.group(summary),
            of_id=old.id,
            of_source=old.source,
            of_group=rule.group(old),
            share=round(match.share, 3),
            is_duplicate=match.adds_nothing and match.same_ego is not False and not named_apart,
            kept=True,
        )

    def _remove_orphans(self) -> None:
        """Removes what a killed writer left: files that the manifest does not name."""
        named = {
            self.store.path / entry.name
            for shard in self.store.manifest.shards
            for entry in (shard.arrow, shard.sidecar)
        }
        for path in (self.store.path / SHARDS).iterdir():
            if path not in named:
                path.unlink()


@dataclass
class _Pending:
    """What the next shard will hold."""

    rows: list[Row] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    files: list[ImportedFile] = field(default_factory=list)
    duplicates: list[DuplicateRecord] = field(default_factory=list)
    num_bytes: int = 0
    since: float = field(default_factory=time.monotonic)

    def is_empty(self) -> bool:
        return not (self.rows or self.files or self.duplicates)


def _arrow_bytes(rows: list[Row]) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as file:
        file.write_batch(encode_batch(rows))
    return memoryview(sink.getvalue())
