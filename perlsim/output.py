"""What commands leave behind: files that are whole or absent, and lines that scripts can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perlsim.errors import PerlsimError


def plain(console: Any, text: str) -> None:
    """Prints a line on a rich console as it is: no markup, no colours, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def as_json(content: object) -> bytes:
    """Indented JSON; numpy arrays and numbers are written as lists and numbers, NaN as null."""
    import orjson

    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)


def write_file(path: Path, content: bytes | str, field: str | None = None) -> None:
    """Writes a file, and the folders it needs, so that it is whole or as it was before.

    Args:
        path: the file.
        content: bytes, or text that is written as UTF-8.
        field: the option that named the file, for the error.

    Raises:
        PerlsimError: where it cannot be written.
    """
    from perlsim.store.manifest import write_durably

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise PerlsimError(f"cannot be written: {error.strerror}", file=path, field=field) from error


def write_json(path: Path | None, content: object, field: str = "--json") -> None:
    """Writes the result of a command where it was asked for."""
    if path is not None:
        write_file(path, as_json(content), field)
