"""CommonRoad XML: parsing without entities or network, and the values that its elements hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without type stubs

from perlsim.errors import FormatError
from perlsim.scenario import Array

Element: TypeAlias = Any  # lxml.etree._Element
_LARGEST = 300_000_000  # bytes
_VERSIONS = ("2020a", "2018b")


def parse(path: Path) -> Element:
    """The root element ``commonRoad`` of a file.

    Raises:
        FormatError: where the file is not well-formed XML, declares a document type (a road to entities,
        which
            the format does not use), is not CommonRoad or of an unknown version.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True
    )
    try:
        if path.stat().st_size > _LARGEST:
            raise FormatError(f"the file is larger than {_LARGEST} bytes", file=path)
        tree = etree.parse(str(path), parser)
    except (etree.XMLSyntaxError, OSError) as error:
        raise FormatError(
            f"not well-formed XML: {error}", file=path, remedy="fetch the file again"
        ) from error
    if tree.docinfo.doctype:
        raise FormatError("document type declarations are refused", file=path, field="DOCTYPE")
    root = tree.getroot()
    if root.tag != "commonRoad":
        raise FormatError(f"expected the element commonRoad, found {root.tag}", file=path)
    version = root.get("commonRoadVersion", "")
    if version not in _VERSIONS:
        raise FormatError(
            f"expected version {' or '.join(_VERSIONS)}, found {version!r}",
            file=path,
            field="commonRoadVersion",
            remedy="convert the file with CommonRoad's own tools",
        )
    return root


def place_of(element: Element) -> str:
    """Name and id of an element, for error messages."""
    named = element
    while named.get("id") is None and named.getparent() is not None:
        named = named.getparent()
    return f"{named.tag} {named.get('id', '')}".strip()


def number(element: Element, where: Element, path: Path) -> float:
    """The number in an element's text; ``where`` names the place in errors."""
    try:
        value = float(element.text or "")
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise FormatError(
            f"{place_of(where)}: expected a finite number in {element.tag}, found {element.text!r}",
            file=path,
            field=place_of(where),
        )
    return value


def value_of(parent: Element, name: str, path: Path) -> float | None:
    """An exact value, or the middle of an interval; None where the element is absent."""
    element = parent.find(name)
    if element is None:
        return None
    parts = [element.find(tag) for tag in ("exact", "intervalStart", "intervalEnd")]
    if parts[0] is not None:
        return number(parts[0], parent, path)
    if parts[1] is not None and parts[2] is not None:
        return 0.5 * (number(parts[1], parent, path) + number(parts[2], parent, path))
    if len(element) == 0:
        return number(element, parent, path)
    raise FormatError(
        f"expected exact, or intervalStart and intervalEnd, in {name}", file=path, field=place_of(parent)
    )


def point(element: Element, path: Path) -> Array:
    """``[3]`` m of an element with x, y and perhaps z (else 0)."""
    values = []
    for name in ("x", "y", "z"):
        child = element.find(name)
        if child is None and name != "z":
            raise FormatError(f"a point lacks {name}", file=path, field=place_of(element))
        values.append(0.0 if child is None else number(child, element, path))
    return np.array(values)


def points(element: Element, path: Path) -> Array:
    """``[n, 3]`` m of the ``point`` children of an element."""
    found = [point(child, path) for child in element.findall("point")]
    return np.array(found).reshape(-1, 3)


def references(element: Element, name: str) -> list[str]:
    """The ``ref`` attributes of the children of one name."""
    return [child.get("ref", "") for child in element.findall(name)]


def shapes(parent: Element, path: Path) -> list[tuple[Array, float, Array]]:
    """Boxes round the rectangles, circles and polygons under an element.

    Returns:
        For each shape its centre ``[3]`` m, heading rad, and length and width ``[2]`` m. A polygon's box is
        parallel to the axes.
    """
    found = []
    for shape in parent:
        if shape.tag == "rectangle":
            size = np.array([value_of(shape, name, path) or 0.0 for name in ("length", "width")])
            found.append((_centre(shape, path), value_of(shape, "orientation", path) or 0.0, size))
        elif shape.tag == "circle":
            radius = value_of(shape, "radius", path) or 0.0
            found.append((_centre(shape, path), 0.0, np.array([2 * radius, 2 * radius])))
        elif shape.tag == "polygon":
            outline = points(shape, path)
            if len(outline):
                low, high = outline.min(0), outline.max(0)
                found.append((0.5 * (low + high), 0.0, (high - low)[:2]))
    return found


def _centre(shape: Element, path: Path) -> Array:
    centre = shape.find("center")
    return np.zeros(3) if centre is None else point(centre, path)
