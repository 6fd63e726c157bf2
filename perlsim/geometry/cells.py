"""Lookup of the road near a point, at a cost that does not depend on the size of the map.

A `CellTable` lays a square grid over each scenario. A cell holds, *by value* and one after the other in one flat
array, every segment within a fixed reach of it, so a lookup is one read of the grid and one read of ``capacity``
consecutive rows. `perlsim.geometry.cell_build` makes tables on the host.

Segments hold x0, y0, x1, y1 [m], z [m], then what the kind of table adds. All functions look up one point of one
scenario; callers vmap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.geometry.numerics import safe_sqrt

# Two levels of a road (a bridge and what passes under it) are told apart from this height difference on [m].
LEVEL_HEIGHT = 3.0

# Bits of the flags column of the index.
INSIDE_LOWER = 1
INSIDE_UPPER = 2
OVERFLOW = 4
OUTSIDE_GRID = 8

# Distances [m, relative] below which two segments count as equally near, for float32 at 1 km from the origin.
_TIE_RELATIVE = 1e-4
_TIE_SQUARED = 1e-6


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["origin", "num_cells", "first_cell", "index", "segments"],
    meta_fields=["cell_size", "capacity"],
)
@dataclass(frozen=True)
class CellTable:
    """Grids of many scenarios, flattened into one.

    Attributes:
        origin: ``[S, 2]`` m, lower corner of each grid.
        num_cells: int32 ``[S, 2]``, cells along x and y.
        first_cell: int32 ``[S]``, row of each grid's cell (0, 0) in ``index``; rows run along y first.
        index: int32 ``[C, 4]``: first segment, number of segments, flags, height that divides the levels [cm].
            Row 0 stands for everywhere outside the grids.
        segments: float32 ``[N, F]``, padded by ``capacity`` rows so that a full read stays in range.
        cell_size: m (static).
        capacity: most segments of a cell (static).
    """

    origin: jax.Array
    num_cells: jax.Array
    first_cell: jax.Array
    index: jax.Array
    segments: jax.Array
    cell_size: float
    capacity: int


class Cell(NamedTuple):
    """What a lookup returns: ``segments`` ``[capacity, F]`` of which the first ``count`` are the cell's own."""

    segments: jax.Array
    count: jax.Array
    flags: jax.Array
    level_height: jax.Array


def lookup(table: CellTable, scenario_idx: jax.Array, x: jax.Array, y: jax.Array) -> Cell:
    """The cell under the point (x, y) [m, scenario frame] of scenario ``scenario_idx``."""
    column = jnp.floor((x - table.origin[scenario_idx, 0]) / table.cell_size)
    row = jnp.floor((y - table.origin[scenario_idx, 1]) / table.cell_size)
    count = table.num_cells[scenario_idx]
    inside = (column >= 0) & (column < count[0]) & (row >= 0) & (row < count[1])
    cell = table.first_cell[scenario_idx] + column.astype(jnp.int32) * count[1] + row.astype(jnp.int32)
    entry = table.index[jnp.where(inside, cell, 0)]
    start = (entry[0], jnp.int32(0))
    segments = lax.dynamic_slice(table.segments, start, (table.capacity, table.segments.shape[1]))
    return Cell(segments, entry[1], entry[2], entry[3].astype(jnp.float32) * 0.01)


def nearest_on_segment(x, y, segment) -> tuple[jax.Array, jax.Array]:
    """Squared distance [m²] from a point to a segment, and signed distance to its line (left positive) [m]."""
    x0, y0 = segment[0], segment[1]
    dx, dy = segment[2] - x0, segment[3] - y0
    px, py = x - x0, y - y0
    inverse = lax.rsqrt(jnp.maximum(dx * dx + dy * dy, 1e-12))
    ux, uy = dx * inverse, dy * inverse
    along = px * ux + py * uy
    beyond = along - jnp.clip(along, 0.0, dx * ux + dy * uy)
    across = ux * py - uy * px
    return beyond * beyond + across * across, across


def signed_edge_distance(cell: Cell, x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """Distance to the nearest road edge of the point's own cell [m], positive on the drivable side.

    The sign is that of the nearest edge; where two share the nearest vertex, that of the one whose line is farther.
    Its magnitude is exact as far as the nearest edge passes through the cell; where no edge of the point's level
    does, the result is ±inf.

    Args:
        cell: cell under the point, from a table of road edges.
        x, y, z: point [m]; edges at another level (`LEVEL_HEIGHT`) are not seen.
    """
    best = jnp.float32(jnp.inf)
    side = jnp.float32(0.0)
    for k in range(cell.segments.shape[0]):
        segment = cell.segments[k]
        squared, across = nearest_on_segment(x, y, segment)
        seen = (k < cell.count) & (jnp.abs(segment[4] - z) < LEVEL_HEIGHT)
        squared = jnp.where(seen, squared, jnp.inf)
        tie = squared <= best * (1 + _TIE_RELATIVE) + _TIE_SQUARED
        closer = squared < best * (1 - _TIE_RELATIVE) - _TIE_SQUARED
        take = seen & (closer | (tie & (jnp.abs(across) > jnp.abs(side))))
        side = jnp.where(take, across, side)
        best = jnp.minimum(best, squared)
    bit = jnp.where(z > cell.level_height, INSIDE_UPPER, INSIDE_LOWER)
    flag_inside = (cell.flags & bit) != 0
    found = jnp.isfinite(best)
    inside = jnp.where(found, side >= 0, flag_inside)
    distance = jnp.where(found, safe_sqrt(jnp.where(found, best, 1.0)), jnp.inf)
    return jnp.where(inside, distance, -distance)
