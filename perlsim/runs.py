"""The folder of a run: made in pieces, each complete or absent, so that a killed run goes on where it was.

::

    RUN/run.json           what was run; written last, so that a folder without it is unfinished
    RUN/unfinished.json    the same while the run goes on
    RUN/parts/…            pieces that are finished, until the run is
    RUN/results.json, RUN/results.html, RUN/rollouts/…
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from perlsim import __version__
from perlsim.errors import FormatError, PerlsimError
from perlsim.store.manifest import write_durably

SCHEMA_VERSION = 1
RUN, UNFINISHED, PARTS = "run.json", "unfinished.json", "parts"
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class RunFolder:
    """A run that is being made, used as a context that keeps other processes out.

    Args:
        path: the folder; absent, empty, or that of a run of the same kind and settings.
        kind: what sort of run, such as "eval".
        settings: everything that the results depend on; JSON.

    Raises:
        PerlsimError: on entering, where the folder holds something else, a run of another kind or of other
            settings, or where another process is writing to it.
    """

    def __init__(self, path: Path, kind: str, settings: dict[str, Any]):
        self.path, self.kind = Path(path), kind
        # As read back from JSON, so that tuples and the like compare.
        self.settings = orjson.loads(_bytes({**settings, "perlsim": __version__}))
        self._lock = FileLock(self.path / ".lock")

    def __enter__(self) -> RunFolder:
        known = {RUN, UNFINISHED, f"{UNFINISHED}.tmp", ".lock"}
        if self.path.exists() and not self.path.is_dir():
            raise PerlsimError("expected a folder, found a file", file=self.path, field="-o")
        if self.path.is_dir() and (found := {entry.name for entry in self.path.iterdir()}):
            before = next((name for name in (RUN, UNFINISHED) if name in found), None)
            if before is not None:
                self._compare(self.path / before)
            elif found - known:
                raise PerlsimError(
                    f"the folder holds something that is not a run ({sorted(found - known)[0]})",
                    file=self.path,
                    field="-o",
                    remedy="choose another folder",
                )
        (self.path / PARTS).mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise PerlsimError(
                "another process is writing to this run", file=self.path, remedy="wait for it to end"
            ) from error
        if not self.is_finished and not (self.path / UNFINISHED).is_file():
            self.write(UNFINISHED, {"schema": SCHEMA_VERSION, "kind": self.kind, "config": self.settings})
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return (self.path / RUN).is_file()

    def part(self, name: str) -> Any | None:
        """A piece that was finished, or None."""
        path = self._part(name)
        return read_json(path) if path.is_file() else None

    def write_part(self, name: str, content: Any) -> None:
        """Keeps a piece as finished."""
        write_durably(self._part(name), _bytes(content))

    def write(self, name: str, content: Any) -> None:
        """Writes a file of the run in one step: text as it is, anything else as JSON."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content.encode() if isinstance(content, str) else _bytes(content))

    def fresh_folder(self, name: str) -> Path:
        """An empty folder to build something in, which `settle` then puts in its place."""
        path = self.path / f"{name}.tmp"
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def settle(self, name: str) -> Path:
        """Puts a folder made by `fresh_folder` in its place, in one step."""
        path = self.path / name
        shutil.rmtree(path, ignore_errors=True)
        os.replace(self.path / f"{name}.tmp", path)
        return path

    def finish(self, command: list[str], facts: dict[str, Any]) -> None:
        """Marks the run as finished.

        Args:
            command: the words of the command line.
            facts: what a reader of the run wants to know first; part of ``run.json``.
        """
        content = {
            "schema": SCHEMA_VERSION,
            "kind": self.kind,
            "perlsim": __version__,
            "command": command,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **facts,
            "config": self.settings,
        }
        self.write(RUN, content)
        (self.path / UNFINISHED).unlink(missing_ok=True)
        shutil.rmtree(self.path / PARTS, ignore_errors=True)

    def _part(self, name: str) -> Path:
        return self.path / PARTS / f"{name}.json"

    def _compare(self, path: Path) -> None:
        content = read_json(path)
        if content.get("kind") != self.kind:
            raise PerlsimError(
                f"the folder holds a run of kind {content.get('kind')!r}, not {self.kind!r}",
                file=self.path,
                field="-o",
                remedy="choose another folder",
            )
        if path.name == UNFINISHED and not any((self.path / PARTS).glob("*.json")):
            # Nothing was finished under the other settings, so nothing is lost.
            path.unlink()
            return
        before = content.get("config", {})
        for name in sorted({*before, *self.settings}):
            if before.get(name) != self.settings.get(name):
                raise PerlsimError(
                    f"the folder holds a run with {name} = {_short(before.get(name))}, "
                    f"asked for is {_short(self.settings.get(name))}",
                    file=self.path,
                    field="-o",
                    remedy="give the same options to go on with it, or choose another folder",
                )


def read_run(path: Path | str) -> dict[str, Any]:
    """``run.json`` of a finished run.

    Raises:
        PerlsimError: no run, one that is unfinished, or one of a newer version.
        FormatError: damaged.
    """
    path = Path(path)
    if not (path / RUN).is_file():
        unfinished = (path / UNFINISHED).is_file()
        raise PerlsimError(
            "this run is not finished" if unfinished else "no run here",
            file=path,
            remedy="give its command again to finish it" if unfinished else "make one with perlsim eval -o",
        )
    content = read_json(path / RUN)
    if content.get("schema", 0) > SCHEMA_VERSION:
        raise PerlsimError(
            f"the run has schema version {content['schema']}, this perlsim reads up to {SCHEMA_VERSION}",
            file=path / RUN,
            remedy="install a newer perlsim",
        )
    return content


def read_json(path: Path) -> Any:
    """Content of a JSON file that is an object.

    Raises:
        PerlsimError: where it cannot be read.
        FormatError: where it is no JSON object.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise PerlsimError(f"cannot be read: {error.strerror}", file=path) from error
    except ValueError as error:
        raise FormatError(f"expected JSON: {error}", file=path) from error
    if not isinstance(content, dict):
        raise FormatError(f"expected a JSON object, found {type(content).__name__}", file=path)
    return content


def file_name_of(name: str) -> str:
    """A name as part of a file name: what is neither letter, digit, ``_``, ``-`` nor ``.`` becomes ``_``."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".") or "_"


def _bytes(content: Any) -> bytes:
    return orjson.dumps(content, option=_OPTIONS)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
