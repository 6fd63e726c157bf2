"""What a training writes down as it goes: JSON lines, and TensorBoard's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import orjson

from perlsim.store.manifest import write_durably


class RunLog(Protocol):
    """Takes figures of a stage by update. Other trackers plug in by these three methods."""

    def rewind(self, update: int) -> None:
        """Forgets what was written after an update, from which a training goes on."""
        ...

    def write(self, update: int, figures: Mapping[str, float]) -> None:
        """Takes figures.

        Args:
            update: number of updates done.
            figures: by name; a slash in a name groups.
        """
        ...

    def close(self) -> None:
        """Writes what is left."""
        ...


class JsonLines:
    """One JSON object a line: ``update`` and the figures.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = None

    def rewind(self, update: int) -> None:
        """Forgets later lines, and one that a killed process left half written."""
        self.close()
        kept = [orjson.dumps(line) + b"\n" for line in read_lines(self.path) if line["update"] <= update]
        write_durably(self.path, b"".join(kept))

    def write(self, update: int, figures: Mapping[str, float]) -> None:
        """Writes a line, at once."""
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
        self._file.write(orjson.dumps({"update": update, **figures}) + b"\n")

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoard:
    """TensorBoard's event files, by tensorboardX.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._writer = None
        self._purged: int | None = None

    def rewind(self, update: int) -> None:
        """Tells TensorBoard not to show what was written later."""
        self.close()
        self._purged = update + 1

    def write(self, update: int, figures: Mapping[str, float]) -> None:
        """Writes scalars."""
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=self._purged)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, update)

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Logs:
    """Several logs as one.

    Args:
        logs: written to in turn.
    """

    def __init__(self, logs: Sequence[RunLog]):
        self.logs = tuple(logs)

    def rewind(self, update: int) -> None:
        """Rewinds all."""
        for log in self.logs:
            log.rewind(update)

    def write(self, update: int, figures: Mapping[str, float]) -> None:
        """Writes to all."""
        for log in self.logs:
            log.write(update, figures)

    def close(self) -> None:
        """Closes all."""
        for log in self.logs:
            log.close()


def read_lines(path: Path) -> list[dict]:
    """The lines of a log that are whole, none where there is no file."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_bytes().split(b"\n"):
        try:
            line = orjson.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("update"), int):
            lines.append(line)
    return lines
