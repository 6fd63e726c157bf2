"""What a reading process does: takes paths, sends scenarios."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from perlsim.errors import FormatError, PerlsimError
from perlsim.ingest.sources import digest
from perlsim.readers import FORMATS, Format, ReadOptions, guess_format
from perlsim.store.encoding import Encoded, encode


@dataclass(frozen=True)
class Done:
    """A log was read to its end; ``known``: it was not, since its bytes had been imported before."""

    sha256: str
    format: str = ""
    known: bool = False


@dataclass(frozen=True)
class Failed:
    """A log could not be read, or not to its end."""

    reason: str


@dataclass(frozen=True)
class Ready:
    """The process has started."""


Message = Encoded | Done | Failed


@dataclass(frozen=True)
class Reading:
    """What every reading process is told at its start.

    Attributes:
        formats: the registry.
        format: name of the format to read as, None to guess.
        options: options of the readers.
        known: sha256 of logs that were imported before with the same options.
        time_limit: s without a scene, after which the process is ended and its log has failed.
    """

    formats: dict[str, Format]
    format: str | None
    options: ReadOptions
    known: frozenset[str]
    time_limit: float


def read_logs(connection: Connection, reading: Reading) -> None:
    """Main function of a reading process: receives `(path, size)` pairs until it receives None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the writer, which ends its readers
    FORMATS.clear()
    FORMATS.update(reading.formats)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the writer was killed
        connection.send(Ready())
        while (log := connection.recv()) is not None:
            path, size = log
            for message in read_log(path, size, reading):
                connection.send(message)


def read_log(path: Path, size: int, reading: Reading) -> Iterator[Message]:
    """Reads one log; the last message is `Done` or `Failed`."""
    try:
        sha256 = digest(path)
        if sha256 in reading.known:
            yield Done(sha256, known=True)
            return
        entry = FORMATS[reading.format] if reading.format else guess_format(path)
        count = 0
        for scenario in entry.read(path, reading.options):
            yield encode(scenario.validate(), source_sha256=sha256, source_size=size)
            count += 1
        if not count:
            raise FormatError("it holds no scenario", file=path)
        yield Done(sha256, entry.name)
    except PerlsimError as error:
        yield Failed(str(error))
    except OSError as error:
        yield Failed(f"{path}: cannot be read: {error.strerror or error}")
    except Exception as error:
        # A reader must not let this through; until it is mended the other logs go on.
        yield Failed(f"{path}: the reader failed: {type(error).__name__}: {error}")
