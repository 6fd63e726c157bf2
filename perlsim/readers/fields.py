"""Turns whatever goes wrong while a field is read into a `FormatError` that names file and field."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from perlsim.errors import FormatError
from perlsim.scenario import Array

ODD_STATE = -1
"""State of a light for which the log has what its format does not define; finalize reports it."""
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    MemoryError,
    RecursionError,
)


@contextmanager
def reading(file: object, field: str) -> Iterator[None]:
    """Within this block, errors of missing keys, wrong types and wrong shapes become a `FormatError`."""
    try:
        yield
    except _DAMAGE as error:
        raise FormatError(
            f"the content is not as the format has it ({type(error).__name__}: {error})",
            file=file,
            field=field,
            remedy="the file is damaged, or of another version of the format",
        ) from error


def numbers(values: object, *shape: int) -> Array:
    """The values as float64 of the given shape (−1: any length).

    Raises:
        ValueError: the values are no numbers, or of another shape.
    """
    array = np.asarray(values, np.float64)
    fits = array.ndim == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"expected numbers of shape {shape}, found {array.shape}")
    return array


def time_step(stamps: Array, default: float) -> float:
    """The median difference [s] of time stamps, ``default`` where there is one stamp or none.

    Raises:
        ValueError: the stamps do not increase, or vary by more than half a step.
    """
    steps = np.diff(stamps)
    if not len(steps):
        return default
    dt = float(np.median(steps))
    if not (np.abs(steps - dt) <= 0.5 * dt).all():
        raise ValueError(f"time stamps are not evenly spaced: steps from {steps.min()} to {steps.max()} s")
    return dt
