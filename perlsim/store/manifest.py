"""The files beside the shards: what a store holds, written so that a killed writer leaves it readable.

``manifest.json`` lists the shards, with their sha256, size and row count, and deals the scenes to splits.
Beside each shard ``NNNNN.arrow`` stands ``NNNNN.json`` with a `Summary` of each row and the records of
imported files; it is hashed in the manifest too. Files are written under a temporary name, synced to disk
and renamed, shard
first, manifest last: until the manifest names a shard, the shard does not exist for readers.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from perlsim.errors import FormatError, PerlsimError
from perlsim.store.splits import SplitRule
from perlsim.store.summary import Summary

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
SHARDS = "shards"
_SHARD_NAME = re.compile(r"\d{5,}")


@dataclass(frozen=True)
class FileEntry:
    """A file of the store: its name relative to the store, sha256 and size in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class ShardEntry:
    """A shard: its Arrow file, the JSON file beside it, and its number of scenes."""

    arrow: FileEntry
    sidecar: FileEntry
    rows: int


@dataclass(frozen=True)
class ImportedFile:
    """A log file or folder that was read to its end.

    Attributes:
        path: absolute path it was read from, links followed.
        size: bytes, of a folder those of its data files.
        modified: time of the last change, ns.
        sha256: digest of the bytes, of a folder that of its data files.
        options: reader options that shape the scenes, as text.
        format: name of the reader.
        scenarios: scenes stored from it.
        duplicates: scenes left out because the store has them already.
    """

    path: str
    size: int
    modified: int
    sha256: str
    options: str
    format: str
    scenarios: int
    duplicates: int

    @property
    def key(self) -> tuple[str, int, int, str]:
        """What must be unchanged for the file to be skipped without reading it."""
        return self.path, self.size, self.modified, self.options


@dataclass(frozen=True)
class DuplicateRecord:
    """Two scenes that show the same instants.

    Attributes:
        id, source, file, group: of the later scene.
        of_id, of_source, of_group: of the scene that the store already had.
        share: shared fraction of the shorter of the two, estimated.
        is_duplicate: whether the later one adds nothing; else they merely overlap.
        kept: whether the later scene is in the store as well.
    """

    id: str
    source: str
    file: str
    group: str
    of_id: str
    of_source: str
    of_group: str
    share: float
    is_duplicate: bool
    kept: bool


@dataclass(frozen=True)
class Sidecar:
    """Content of the JSON file beside a shard."""

    summaries: tuple[Summary, ...] = ()
    files: tuple[ImportedFile, ...] = ()
    duplicates: tuple[DuplicateRecord, ...] = ()

    def to_bytes(self) -> bytes:
        """As JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def from_bytes(cls, data: bytes) -> Sidecar:
        """Inverse of `to_bytes`."""
        content = orjson.loads(data)
        return cls(
            tuple(Summary.from_json(entry) for entry in content["summaries"]),
            tuple(ImportedFile(**entry) for entry in content["files"]),
            tuple(DuplicateRecord(**entry) for entry in content["duplicates"]),
        )


@dataclass
class Manifest:
    """Content of ``manifest.json``.

    Attributes:
        rule: how scenes are dealt to splits.
        shards: in order; row numbers run through them.
        splits: scene numbers by split.
        sources: by source and data set: scenes and licence.
    """

    rule: SplitRule = field(default_factory=SplitRule)
    shards: list[ShardEntry] = field(default_factory=list)
    splits: dict[str, list[int]] = field(default_factory=dict)
    sources: list[dict] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Replaces the manifest of a store in one step."""
        content = {"schema_version": SCHEMA_VERSION, "kind": "perlsim scenario store", **asdict(self)}
        write_durably(folder / MANIFEST, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads and checks the manifest of a store, and that every file it names is there in full.

        Raises:
            PerlsimError: no store, or one of a newer version.
            FormatError: the manifest or a file it names is damaged.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise PerlsimError(
                "no scenario store here",
                file=folder,
                remedy="make one with perlsim import or perlsim generate",
            )
        try:
            content = orjson.loads(path.read_bytes())
            version = content["schema_version"]
            if version > SCHEMA_VERSION:
                raise PerlsimError(
                    f"the store has schema version {version}, this perlsim reads up to {SCHEMA_VERSION}",
                    file=path,
                    remedy="install a newer perlsim",
                )
            rule = SplitRule(**{**content["rule"], "fractions": tuple(content["rule"]["fractions"])})
            shards = [
                ShardEntry(FileEntry(**entry["arrow"]), FileEntry(**entry["sidecar"]), entry["rows"])
                for entry in content["shards"]
            ]
            manifest = cls(rule, shards, content["splits"], content["sources"])
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"the manifest is damaged: {error!r}",
                file=path,
                remedy="import the logs again into a new store",
            ) from error
        for shard in shards:
            check_file(folder, shard.arrow)
            check_file(folder, shard.sidecar)
        return manifest


def check_file(folder: Path, entry: FileEntry) -> Path:
    """Path of a file of the store, once its name is harmless and its size right.

    Raises:
        FormatError: a name that leads out of the store, a link, a file that is missing or of another size.
    """
    path = folder / entry.name
    parts = entry.name.split("/")
    if len(parts) != 2 or parts[0] != SHARDS or not _SHARD_NAME.fullmatch(parts[1].split(".")[0]):
        raise FormatError(f"refusing the file name {entry.name!r}", file=folder / MANIFEST, field="shards")
    if path.is_symlink() or path.parent.is_symlink():
        raise FormatError("refusing to follow a link inside a store", file=path)
    remedy = "restore the file from a copy, or import its logs into a new store"
    if not path.is_file():
        raise FormatError("the manifest names this file, but it is missing", file=path, remedy=remedy)
    if (size := path.stat().st_size) != entry.size:
        raise FormatError(f"expected {entry.size} bytes, found {size}", file=path, remedy=remedy)
    return path


def sha256_of(path: Path) -> str:
    """Digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_durably(path: Path, data: bytes | memoryview) -> FileEntry:
    """Writes a file so that after a crash at any moment it is either absent, as before, or complete."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return FileEntry(f"{path.parent.name}/{path.name}", hashlib.sha256(data).hexdigest(), len(data))
