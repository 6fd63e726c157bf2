"""Elements and numbers of an OpenDRIVE file, with errors that say where they come from."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from perlsim.errors import FormatError

Element: TypeAlias = Any  # lxml.etree._Element; lxml brings no types


def load(path: Path) -> Element:
    """The root element of an ``.xodr`` or ``.xodr.gz`` file.

    Raises:
        FormatError: where the file is not readable XML with an ``OpenDRIVE`` root of version 1.
    """
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
        root = etree.fromstring(data, parser)
    except (OSError, EOFError, zlib.error, etree.XMLSyntaxError, ValueError) as error:
        raise FormatError(f"not readable as XML: {error}", file=path, remedy="fetch the map again") from error
    if etree.QName(root).localname != "OpenDRIVE":
        raise FormatError(f"expected the root OpenDRIVE, found {root.tag}", file=path)
    header = child(root, "header")
    major = None if header is None else header.get("revMajor")
    if major != "1":
        raise FormatError(
            f"expected version 1.x, found {major}",
            file=path,
            field="header.revMajor",
            remedy="convert to 1.4",
        )
    return root


def children(element: Element | None, name: str) -> list[Element]:
    """Direct children of that name, in any namespace."""
    return [] if element is None else list(element.iterchildren(f"{{*}}{name}"))


def child(element: Element | None, name: str) -> Element | None:
    """The first direct child of that name, in any namespace."""
    return None if element is None else next(element.iterchildren(f"{{*}}{name}"), None)


def number(element: Element, name: str, default: float | None = None) -> float:
    """A finite number from an attribute.

    Raises:
        FormatError: where it is absent without a default, no number or not finite.
    """
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(
            f"expected a number, found {text!r}", field=f"{element.getroottree().getpath(element)}/@{name}"
        )
    return value


def integer(element: Element, name: str) -> int:
    """A whole number from an attribute, such as a lane's id."""
    return int(number(element, name))


class Cubics:
    """A piecewise cubic along s: record ``i`` holds from ``start[i]`` on, in powers of ``s - start[i]``.

    Args:
        start: ``[n]`` m, ascending.
        coefficients: ``[n, 4]``: a, b, c, d.
    """

    def __init__(self, start: np.ndarray, coefficients: np.ndarray):
        order = np.argsort(start, kind="stable")
        self.start, self.coefficients = start[order], coefficients[order]

    @classmethod
    def from_elements(cls, elements: Iterable[Element], key: str = "s", origin: float = 0.0) -> Cubics:
        """Reads records with the attributes ``key`` (plus ``origin``), a, b, c, d; no record means 0."""
        rows = [
            (origin + number(e, key, 0.0), *(number(e, name, 0.0) for name in "abcd")) for e in elements
        ] or [(origin, 0.0, 0.0, 0.0, 0.0)]
        table = np.array(rows)
        return cls(table[:, 0], table[:, 1:])

    def at(self, s: np.ndarray, order: int = 0, record_at: np.ndarray | None = None) -> np.ndarray:
        """Value (or derivative ``order`` 1 or 2) at ``s``; ``record_at`` picks the record by another s."""
        record = np.searchsorted(self.start, s if record_at is None else record_at, side="right") - 1
        record = np.maximum(record, 0)
        a, b, c, d = self.coefficients[record].T
        ds = s - self.start[record]
        if order == 0:
            return a + ds * (b + ds * (c + ds * d))
        return b + ds * (2 * c + 3 * ds * d) if order == 1 else 2 * c + 6 * ds * d

    def jumps(self, least: float) -> np.ndarray:
        """Where, ascending, the value changes at once by more than ``least``."""
        if len(self.start) < 2:
            return np.zeros(0)
        at = self.start[1:]
        change = self.at(at) - self.at(at, record_at=at - 1e-9)
        return at[np.abs(change) > least]
