"""OpenDRIVE 1.4 maps (``.xodr``, also gzipped): towns of CARLA and any other, as a `perlsim.scenario.Road`.

Frame: the file's own, right-handed; CARLA's world is its mirror image (y flipped). Lanes are split at lane
sections; their ids are ``road.section.lane`` (with ``r`` where a two-way lane is driven against s). Read are
plan view, lane offset, widths and borders, elevation, superelevation, lateral shape, lane types, speed limits,
road marks and the changes of lanes they allow, left-hand traffic, junctions, crosswalks, stop lines, signals
and their controllers. Not read: lane heights, access rules, railways, tunnels.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from perlsim.errors import FormatError
from perlsim.worlds.opendrive.boundaries import CURB, LaneSides
from perlsim.worlds.opendrive.build import build
from perlsim.worlds.opendrive.crop import box_around, boxes_along, crop
from perlsim.worlds.opendrive.signals import Controllers, SignalKind, Signals
from perlsim.worlds.opendrive.types import OpenDriveMap

__all__ = [
    "CURB",
    "Controllers",
    "LaneSides",
    "OpenDriveMap",
    "SignalKind",
    "Signals",
    "box_around",
    "boxes_along",
    "crop",
    "find_town",
    "read",
]


def find_town(folder: Path | None, town: str) -> Path | None:
    """The OpenDRIVE file of a town in a folder or one of its sub-folders; None where there is none."""
    # The name comes from a file: it must not lead elsewhere or hold patterns.
    if folder is None or not re.fullmatch(r"[\w\-]+", town):
        return None
    folder = Path(folder)
    for pattern in ("", "*/", "*/*/"):
        for ending in (".xodr", ".xodr.gz"):
            found = sorted(folder.glob(f"{pattern}{town}{ending}"))
            if found:
                return found[0]
    return None


def read(path: Path, *, with_edges: bool = True) -> OpenDriveMap:
    """Reads a map.

    Args:
        path: an ``.xodr`` or ``.xodr.gz`` file.
        with_edges: whether to work out the borders of the drivable area, which takes most of the time; not
            needed for `OpenDriveMap.around`.

    Raises:
        FormatError: names the file and the record at fault.
    """
    path = Path(path)
    try:
        # Absurd records overflow on their way to the check that refuses them.
        with np.errstate(all="ignore"):
            return build(path, with_edges)
    except FormatError as error:
        if error.file is None:
            raise FormatError(error.message, file=path, field=error.field, remedy=error.remedy) from error
        raise
    except RecursionError as error:
        raise FormatError("elements are nested too deeply", file=path) from error
