"""The scenario store: a folder of memory-mapped Arrow shards with a manifest."""

from __future__ import annotations

import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from perlsim.errors import FormatError, PerlsimError
from perlsim.scenario import Scenario
from perlsim.store.columns import SCHEMA, SCHEMA_1, RowReader
from perlsim.store.fingerprint import Fingerprint
from perlsim.store.manifest import (
    MANIFEST,
    SHARDS,
    DuplicateRecord,
    ImportedFile,
    Manifest,
    Sidecar,
    check_file,
    sha256_of,
)
from perlsim.store.splits import SPLITS, SplitRule
from perlsim.store.summary import Summary


class ScenarioStore:
    """Scenarios on disk, by number.

    ``store[i]`` gives a `Scenario` whose arrays are read-only views of the mapped file (float32, in the
    scenario frame), in microseconds once its shard is mapped. Open one with `open` or `create`.

    Attributes:
        path: folder of the store.
        manifest: see `perlsim.store.manifest`.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest
        self._starts = [0, *accumulate(shard.rows for shard in manifest.shards)]
        self._readers: dict[int, RowReader] = {}

    @classmethod
    def create(cls, path: Path | str, rule: SplitRule | None = None) -> ScenarioStore:
        """Makes an empty store in a folder that is absent or empty.

        Raises:
            PerlsimError: the folder holds something already.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise PerlsimError(
                "cannot make a store here: it exists and is not empty",
                file=path,
                remedy="choose another folder",
            )
        path.mkdir(parents=True, exist_ok=True)
        (path / SHARDS).mkdir()
        Manifest(rule or SplitRule(), splits={split: [] for split in SPLITS}).write(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path | str) -> ScenarioStore:
        """Opens a store to read; one that is being written shows what was complete at this moment.

        Raises:
            PerlsimError: no store, or one of a newer version.
            FormatError: a damaged manifest, a missing or truncated file.
        """
        path = Path(path)
        return cls(path, Manifest.read(path))

    @classmethod
    def open_or_create(cls, path: Path | str, rule: SplitRule | None = None) -> ScenarioStore:
        """Opens a store, or makes it; ``rule`` must be that of an existing store, or None.

        A folder that holds only an empty ``shards`` folder and a temporary manifest, which a writer killed in
        its first instant leaves behind, is cleared and used.
        """
        path = Path(path)
        if (path / MANIFEST).is_file():
            store = cls.open(path)
            if rule is not None and rule != store.manifest.rule:
                raise PerlsimError(
                    f"the store deals its splits by {store.manifest.rule}, not by {rule}",
                    file=path,
                    remedy="leave the split options out, or import into a new store",
                )
            return store
        if path.is_dir() and {entry.name for entry in path.iterdir()} <= {SHARDS, f"{MANIFEST}.tmp"}:
            for leftover in (path / f"{MANIFEST}.tmp", path / SHARDS):
                leftover.unlink(missing_ok=True) if not leftover.is_dir() else shutil.rmtree(leftover)
        return cls.create(path, rule)

    def append(self, scenarios: Iterable[Scenario], *, keep_duplicates: bool = True) -> None:
        """Adds scenarios, which are on disk when this returns.

        Args:
            scenarios: validated scenarios in the scenario frame; float64 arrays are stored as float32.
            keep_duplicates: whether to store scenes that the store already has in another form.

        Raises:
            PerlsimError: another process is writing to this store.
        """
        from perlsim.store.writer import StoreWriter

        with StoreWriter(self) as writer:
            for scenario in scenarios:
                writer.add(scenario, keep_duplicates=keep_duplicates)

    def refresh(self) -> None:
        """Takes note of what was written since the store was opened."""
        self.manifest = Manifest.read(self.path)
        self._starts = [0, *accumulate(shard.rows for shard in self.manifest.shards)]
        for name in ("sidecars", "summaries", "splits"):
            self.__dict__.pop(name, None)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, number: int) -> Scenario:
        reader, row = self._locate(number)
        return reader.scenario(row)

    def __iter__(self) -> Iterator[Scenario]:
        return (self[number] for number in range(len(self)))

    def fingerprint(self, number: int) -> Fingerprint:
        """Fingerprint of a scene, see `perlsim.store.fingerprint`."""
        reader, row = self._locate(number)
        return Fingerprint.unpack(reader.fingerprint(row), self.summaries[number].duration)

    @cached_property
    def sidecars(self) -> tuple[Sidecar, ...]:
        """What stands beside each shard: summaries, imported files, duplicates."""
        return tuple(self._sidecar(shard) for shard in range(len(self.manifest.shards)))

    @cached_property
    def summaries(self) -> tuple[Summary, ...]:
        """A summary of each scene, in order."""
        return tuple(summary for sidecar in self.sidecars for summary in sidecar.summaries)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The split of each scene, in order: train, val or test."""
        split_of = {number: split for split, numbers in self.manifest.splits.items() for number in numbers}
        return tuple(split_of[number] for number in range(len(self)))

    @property
    def files(self) -> Iterator[ImportedFile]:
        """The log files and folders that were read to their end."""
        return (file for sidecar in self.sidecars for file in sidecar.files)

    @property
    def duplicates(self) -> Iterator[DuplicateRecord]:
        """The pairs of scenes that show the same instants."""
        return (duplicate for sidecar in self.sidecars for duplicate in sidecar.duplicates)

    def select(
        self,
        *,
        split: str | None = None,
        tags: Iterable[str] = (),
        without_tags: Iterable[str] = (),
        source: str | None = None,
        dataset: str | None = None,
        has_ego: bool | None = None,
    ) -> list[int]:
        """Numbers of the scenes that fit every condition given, in order.

        Raises:
            PerlsimError: an unknown split or tag, so that a slip does not select nothing.
        """
        from perlsim.store.tags import TAGS

        wanted, unwanted = set(tags), set(without_tags)
        if split is not None and split not in SPLITS:
            raise PerlsimError(f"unknown split {split!r}, expected one of {', '.join(SPLITS)}", field="split")
        if unknown := sorted((wanted | unwanted) - TAGS.keys()):
            raise PerlsimError(f"unknown tags {unknown}, expected some of {', '.join(TAGS)}", field="tags")
        return [
            number
            for number, summary in enumerate(self.summaries)
            if (split is None or self.splits[number] == split)
            and wanted <= set(summary.tags)
            and not unwanted & set(summary.tags)
            and (source is None or summary.source == source)
            and (dataset is None or summary.dataset == dataset)
            and (has_ego is None or summary.has_ego == has_ego)
        ]

    def verify(self) -> list[str]:
        """Reads every byte and compares the digests; gives one sentence per damaged file."""
        problems = []
        for shard in self.manifest.shards:
            for entry in (shard.arrow, shard.sidecar):
                try:
                    if sha256_of(check_file(self.path, entry)) != entry.sha256:
                        problems.append(f"{self.path / entry.name}: the content changed since it was written")
                except FormatError as error:
                    problems.append(str(error))
        return problems

    def _locate(self, number: int) -> tuple[RowReader, int]:
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"scenario {number} of a store of {len(self)}")
        shard = bisect_right(self._starts, number) - 1
        if shard not in self._readers:
            self._readers[shard] = self._map(shard)
        return self._readers[shard], number - self._starts[shard]

    def _map(self, shard: int) -> RowReader:
        entry = self.manifest.shards[shard]
        path = check_file(self.path, entry.arrow)
        try:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            if file.schema not in (SCHEMA, SCHEMA_1) or file.num_record_batches != 1:
                raise pa.ArrowInvalid("unexpected columns or batches")
            batch = file.get_batch(0)
            batch.validate(full=False)
            if batch.num_rows != entry.rows:
                raise pa.ArrowInvalid(f"expected {entry.rows} rows, found {batch.num_rows}")
            return RowReader(batch)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatError(
                f"the shard is damaged: {error}",
                file=path,
                remedy="restore it from a copy; see perlsim info --verify",
            ) from error

    def _sidecar(self, shard: int) -> Sidecar:
        entry = self.manifest.shards[shard].sidecar
        path = check_file(self.path, entry)
        try:
            return Sidecar.from_bytes(path.read_bytes())
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"the file beside the shard is damaged: {error!r}", file=path, remedy="restore it from a copy"
            ) from error


def licences(summaries: Iterable[Summary]) -> list[dict]:
    """Scenes by source, data set and licence, for the manifest."""
    counts = Counter((summary.source, summary.dataset, summary.licence) for summary in summaries)
    return [
        {"source": source, "dataset": dataset, "licence": licence, "scenarios": count}
        for (source, dataset, licence), count in sorted(counts.items())
    ]
