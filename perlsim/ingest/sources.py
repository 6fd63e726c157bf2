"""Which logs there are under the paths a user names."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perlsim.errors import PerlsimError
from perlsim.readers import Format
from perlsim.store.manifest import MANIFEST, SHARDS

# Sensor recordings beside a log: perlsim reads none, and they can be terabytes.
SENSOR_FOLDERS = ("sensors", "camera", "lidar", "radar")


@dataclass(frozen=True)
class LogPath:
    """A log file or folder.

    Attributes:
        path: as found from what the user named.
        real_path: absolute, links followed.
        size: bytes; of a folder, of its data files (sensor recordings are left out).
        modified: time of the last change, ns.
    """

    path: Path
    real_path: Path
    size: int
    modified: int


@dataclass
class Found:
    """What a search found.

    Attributes:
        logs: files and folders to read.
        refused: paths the user named that are not there, with the reason.
        ignored: number of files met in folders that no reader is for.
    """

    logs: list[LogPath] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    ignored: int = 0


def find_logs(paths: list[str], formats: Mapping[str, Format]) -> Found:
    """Finds the logs among files, folders (recursively) and globs.

    A folder that a reader recognises as a log (Argoverse, Bench2Drive) is one log, and nothing below it is
    looked at. In other folders, files whose names no reader claims are ignored; a file named by the user
    never is.

    Args:
        paths: as given by the user.
        formats: the formats to look for, by name.

    Returns:
        Logs in a fixed order (that of ``paths``, then of names), each once.
    """
    found, seen = Found(), set()

    def add(path: Path) -> None:
        if (real := path.resolve()) in seen:
            return
        seen.add(real)
        files = list(data_files(path))
        stats = [file.stat() for file in files]
        found.logs.append(
            LogPath(
                path,
                real,
                sum(stat.st_size for stat in stats),
                max((stat.st_mtime_ns for stat in stats), default=0),
            )
        )

    def walk(folder: Path) -> None:
        if (folder / MANIFEST).is_file() and (folder / SHARDS).is_dir():
            return  # a scenario store, perhaps the one imported into
        if any(entry.sniff(folder) for entry in formats.values() if "" in entry.suffixes):
            add(folder)
            return
        if (real := folder.resolve()) in seen:  # a link back up
            return
        seen.add(real)
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                walk(path)
            elif any(_claims(entry, path) for entry in formats.values()):
                add(path)
            else:
                found.ignored += 1

    for text in paths:
        matches = [text] if os.path.lexists(text) else sorted(glob.glob(text, recursive=True))
        if not matches:
            found.refused.append((text, "no such file or folder"))
        for path in map(Path, matches):
            try:
                walk(path) if path.is_dir() else add(path)
            except OSError as error:
                found.refused.append((str(path), f"cannot be read: {error.strerror or error}"))
    if not found.logs and not found.refused:
        raise PerlsimError(
            f"found no log under {', '.join(paths)}", remedy="perlsim import --help lists the formats"
        )
    return found


def data_files(path: Path) -> Iterator[Path]:
    """The files of a log, sensor recordings left out, in a fixed order."""
    if not path.is_dir():
        yield path
        return
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.name.lower().startswith(SENSOR_FOLDERS):
            yield from data_files(entry)
        elif entry.is_file():
            yield entry


def digest(path: Path) -> str:
    """sha256 of a file; of a folder, that of the relative names and digests of its data files."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = (f"{file.relative_to(path).as_posix()} {digest(file)}\n" for file in data_files(path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _claims(entry: Format, path: Path) -> bool:
    """Whether the file's name is one of the format's (the content is looked at by the reading process)."""
    name = path.name
    return any(
        suffix and (name.endswith(suffix) or (suffix.endswith("-") and suffix in name))
        for suffix in entry.suffixes
    )
