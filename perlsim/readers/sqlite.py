"""SQLite files, opened read-only and without trusting what their schema says."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from perlsim.errors import FormatError

MAGIC = b"SQLite format 3\x00"


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection whose rows are addressed by column name; nothing is written beside the file.

    Raises:
        FormatError: where SQLite refuses the file, when it is opened or later inside the block.
    """
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as connection:
            connection.row_factory = sqlite3.Row
            connection.text_factory = lambda raw: raw.decode(errors="replace")
            # Views and triggers of a damaged or hostile file must not call functions.
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            yield connection
    # An error message that quotes a damaged schema may not be text.
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise FormatError(
            f"not a readable SQLite file: {error}", file=path, remedy="fetch the file again"
        ) from error


def columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """Column names of a table, empty where there is no such table."""
    return {row["name"] for row in connection.execute(f'PRAGMA table_info("{table}")')}


def need_columns(connection: sqlite3.Connection, table: str, wanted: tuple[str, ...], path: Path) -> None:
    """Checks that a table is there and has the columns.

    Raises:
        FormatError: names the table and what it lacks.
    """
    found = columns(connection, table)
    if not set(wanted) <= found:
        lacking = ", ".join(sorted(set(wanted) - found))
        raise FormatError(
            f"the table lacks {lacking}" if found else "the table is missing",
            file=path,
            field=table,
            remedy="expected the schema of nuPlan v1.1",
        )
