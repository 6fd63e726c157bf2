"""What is read of an OpenDRIVE map."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from perlsim.geometry.drivable import edges_from_polygons
from perlsim.scenario import Array, Ragged, Road
from perlsim.worlds.opendrive.boundaries import LaneSides
from perlsim.worlds.opendrive.crop import Region, crop, rows_in
from perlsim.worlds.opendrive.signals import Controllers, Signals


def _no_lines() -> Ragged:
    return Ragged.from_rows([], width=3)


@dataclass(frozen=True)
class OpenDriveMap:
    """A map.

    Attributes:
        name: file name without its endings, "Town01".
        road: lanes, markings, edges, crosswalks and stop signs.
        signals: lights and signs with the lanes they govern.
        surfaces: rows of ``[n, 3]`` m, outlines of all lanes on which wheels belong, however narrow.
        sides: borders of the lanes and their paint.
        junctions: id of the junction that each lane belongs to; "" outside junctions.
        controllers: signals that change together.
        stop_lines: rows of ``[n, 3]`` m, painted stop lines; where traffic stops is told by `Signals.stop`.
    """

    name: str
    road: Road
    signals: Signals
    surfaces: Ragged = field(default_factory=_no_lines)
    sides: LaneSides = field(default_factory=LaneSides)
    junctions: tuple[str, ...] = ()
    controllers: Controllers = field(default_factory=Controllers)
    stop_lines: Ragged = field(default_factory=_no_lines)

    def around(self, region: Region) -> tuple[Road, Array]:
        """What of the road lies in a region, one box or several, as `crop` gives it.

        The edges are worked out for the lanes that reach into the region alone, which takes a fraction of the
        time that those of a large town do.
        """
        road, new_idx = crop(replace(self.road, edges=Ragged.from_rows([], width=3)), region)
        near = [self.surfaces[int(row)] for row in np.flatnonzero(rows_in(self.surfaces, region))]
        return replace(road, edges=edges_from_polygons(near)), new_idx
