"""Arrow IPC (Feather), and Parquet files as numpy columns, with errors that name the file and the column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perlsim.errors import FormatError
from perlsim.scenario import Array

ARROW_MAGIC = b"ARROW1"
PARQUET_MAGIC = b"PAR1"


def starts_with(path: Path, magic: bytes) -> bool:
    """Whether a file begins with some bytes; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def read_table(path: Path) -> pa.Table:
    """Reads an Arrow IPC file (memory-mapped) or a Parquet file, every buffer checked against its type.

    Raises:
        FormatError: where the file is missing, cut short or damaged.
    """
    try:
        if starts_with(path, PARQUET_MAGIC):
            table = pq.ParquetFile(path).read()
        else:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        return table
    except FileNotFoundError as error:
        raise FormatError("the file is missing", file=path) from error
    except (pa.ArrowException, OSError, ValueError, MemoryError, RuntimeError) as error:
        raise FormatError(
            f"not a readable Arrow or Parquet file: {error}",
            file=path,
            remedy="fetch or convert the file again",
        ) from error


def column(table: pa.Table, name: str, path: Path) -> pa.Array:
    """One column in a single piece.

    Raises:
        FormatError: where the table has no such column.
    """
    if name not in table.column_names:
        raise FormatError(
            f"the column is missing; found {', '.join(table.column_names)}", file=path, field=name
        )
    return table[name].combine_chunks()


def numbers(table: pa.Table, name: str, path: Path, dtype: type = np.float64) -> Array:
    """A numeric column ``[rows]`` as float64 or int64; nulls become NaN, and are refused in integers.

    Raises:
        FormatError: where the column is missing, not numeric or, for integers, has nulls.
    """
    values = column(table, name, path)
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise FormatError(f"expected numbers, found {values.type}", file=path, field=name)
    if np.issubdtype(dtype, np.integer) and (values.null_count or not pa.types.is_integer(values.type)):
        raise FormatError("expected integers without nulls", file=path, field=name)
    return values.to_numpy(zero_copy_only=False).astype(dtype)


def texts(table: pa.Table, name: str, path: Path) -> list[str]:
    """A text column as Python strings.

    Raises:
        FormatError: where the column is missing, not text or has nulls.
    """
    values = column(table, name, path)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)) or values.null_count:
        raise FormatError(f"expected text without nulls, found {values.type}", file=path, field=name)
    return values.to_pylist()
