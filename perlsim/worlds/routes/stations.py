"""Lengths of lane sections on the road's reference line, where CARLA counts its metres, from OpenDRIVE."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from perlsim.errors import FormatError
from perlsim.scenario import Array, Lanes
from perlsim.worlds.opendrive.xml import child, children, number


def read_stations(path: Path, lanes: Lanes) -> Array:
    """``[P]`` m of reference line beside each lane of a map (`TownGraph` takes them).

    Args:
        path: the ``.xodr`` or ``.xodr.gz`` file that the lanes were read from.
        lanes: with ids ``road.section.lane``, as `perlsim.worlds.opendrive.read` names them.

    Raises:
        FormatError: not readable as XML, or a lane's section is not in the file.
    """
    lengths: dict[str, float] = {}
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            for _, road in etree.iterparse(
                file, tag="{*}road", resolve_entities=False, no_network=True, huge_tree=True
            ):
                starts = sorted(number(e, "s") for e in children(child(road, "lanes"), "laneSection"))
                ends = [*starts[1:], number(road, "length")]
                for idx, (start, end) in enumerate(zip(starts, ends, strict=True)):
                    lengths[f"{road.get('id')}.{idx}"] = end - start
                road.clear()
    except (OSError, EOFError, zlib.error, etree.XMLSyntaxError) as error:
        raise FormatError(f"not readable as XML: {error}", file=path) from error
    sections = [name.rsplit(".", 1)[0] for name in lanes.ids]
    missing = next((name for name in sections if name not in lengths), None)
    if missing is not None:
        raise FormatError("a lane of another map", file=path, field=f"section {missing}")
    return np.array([lengths[name] for name in sections])
