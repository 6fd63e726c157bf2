"""Dataclasses of arrays in one uncompressed NumPy archive: no pickles, whole or not there, checked when read."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import typing
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_LABEL = "label"


def write_arrays(path: Path, value: Any, label: str) -> None:
    """Writes a dataclass whose fields are arrays, strings, tuples of strings and dataclasses of these.

    The file appears whole or not at all.

    Args:
        path: file to write; its folder is made.
        value: the dataclass.
        label: what `read_arrays` has to be given, such as a version and a digest.

    Raises:
        OSError: where the file cannot be written.
    """
    arrays = {_LABEL: np.array(label)}
    _flatten(value, "", arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_arrays(path: Path, cls: type[T], label: str) -> T | None:
    """A dataclass as `write_arrays` wrote it; None where the file is absent, damaged or bears another label."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive[_LABEL]) != label:
                return None
            return _build(cls, "", archive)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _flatten(value: Any, prefix: str, arrays: dict[str, np.ndarray]) -> None:
    for field in dataclasses.fields(value):
        item, key = getattr(value, field.name), prefix + field.name
        if dataclasses.is_dataclass(item):
            _flatten(item, key + ".", arrays)
        elif isinstance(item, tuple):
            arrays[key] = np.array(item, np.str_) if item else np.zeros(0, "U1")
        else:
            arrays[key] = np.asarray(item)


def _build(cls: type[T], prefix: str, archive) -> T:
    values = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(typing.cast(Any, cls)):
        hint, key = hints[field.name], prefix + field.name
        if dataclasses.is_dataclass(hint):
            values[field.name] = _build(typing.cast(type, hint), key + ".", archive)
        elif typing.get_origin(hint) is tuple:
            values[field.name] = tuple(archive[key].tolist())
        else:
            values[field.name] = str(archive[key]) if hint is str else archive[key]
    return cls(**values)
