"""Lookup of the road near a point, at a cost that does not depend on the size of the map.

A `CellTable` lays a square grid over each scenario. A cell holds, *by value* and one after the other in one flat
array, every segment within a fixed reach of it, so a lookup is one read of the grid and one read of ``capacity``
consecutive rows. `perlsim.geometry.cell_build` makes tables on the host.

A segment is its middle x, y [m], its unit direction x, y, half its length [m] and its height z [m], then what the
kind of table adds: with these no lookup divides or takes a root, which would keep a compiler from fusing it into one
kernel. All functions look up one point of one scenario; callers vmap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from perlsim.geometry.numerics import safe_sqrt

# Columns of every table's segments.
MID_X, MID_Y, DIR_X, DIR_Y, HALF_LENGTH, HEIGHT = range(6)
# Two levels of a road (a bridge and what passes under it) are told apart from this height difference on [m].
LEVEL_HEIGHT = 3.0

# Bits of the flags column of the index.
INSIDE_LOWER = 1
INSIDE_UPPER = 2
OVERFLOW = 4
OUTSIDE_GRID = 8

# Of two equally near segments the one whose line is farther must win, by more than float32 rounds at 1 km from the
# origin: share of the squared distance to the line that is taken off. Errs by 0.5 mm a metre.
_TIE = 1e-3
# Segments folded by one kernel; capacities are multiples of it.
BLOCK = 8


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
    """What a lookup returns: where the cell's segments begin in its table, how many they are, and its flags."""

    first: jax.Array
    count: jax.Array
    flags: jax.Array
    level_height: jax.Array


def lookup(table: CellTable, scenario_idx: jax.Array, x: jax.Array, y: jax.Array) -> Cell:
    """The cell under the point (x, y) [m, scenario frame] of scenario ``scenario_idx``."""
    column = jnp.floor((x - table.origin[scenario_idx, 0]) * (1.0 / table.cell_size))
    row = jnp.floor((y - table.origin[scenario_idx, 1]) * (1.0 / table.cell_size))
    count = table.num_cells[scenario_idx]
    inside = (column >= 0) & (column < count[0]) & (row >= 0) & (row < count[1])
    cell = table.first_cell[scenario_idx] + column.astype(jnp.int32) * count[1] + row.astype(jnp.int32)
    entry = table.index[jnp.where(inside, cell, 0)]
    return Cell(entry[0], entry[1], entry[2], entry[3].astype(jnp.float32) * 0.01)


def fold(
    table: CellTable, cell: Cell, update: Callable[[Any, jax.Array, jax.Array, Any], Any], initial: Any
) -> Any:
    """Folds ``update`` over the segments of a cell.

    A loop over blocks of `BLOCK`, unrolled inside: short enough to compile fast, and one kernel a block.

    Args:
        table, cell: where the segments are.
        update: ``(carry, segment [F], is the cell's own, rank in the cell) -> carry``.
        initial: carry.
    """

    def block(index, carry):
        start = (cell.first + BLOCK * index, jnp.int32(0))
        segments = lax.dynamic_slice(table.segments, start, (BLOCK, table.segments.shape[1]))
        for k in range(BLOCK):
            rank = BLOCK * index + k
            carry = update(carry, segments[k], rank < cell.count, rank)
        return carry

    return lax.fori_loop(0, table.capacity // BLOCK, block, initial)


def nearest_on_segment(x, y, segment) -> tuple[jax.Array, jax.Array]:
    """Squared distance [m²] from a point to a segment, and signed distance to its line [m], left positive."""
    px, py = x - segment[MID_X], y - segment[MID_Y]
    along = px * segment[DIR_X] + py * segment[DIR_Y]
    across = py * segment[DIR_X] - px * segment[DIR_Y]
    beyond = jnp.maximum(jnp.abs(along) - segment[HALF_LENGTH], 0.0)
    return beyond * beyond + across * across, across


def sort_key(value: jax.Array, low_bits: jax.Array | int, num_bits: int) -> jax.Array:
    """An int32 that orders like a non-negative float32, with a small integer in its lowest bits.

    One carried number instead of two keeps a fold in one kernel; the value loses ``num_bits`` of its 24.
    """
    return (lax.bitcast_convert_type(value, jnp.int32) & ~((1 << num_bits) - 1)) | low_bits


# Larger than the key of any distance.
NO_KEY = 0x7F000000


def signed_edge_distance(
    table: CellTable, scenario_idx: jax.Array, x: jax.Array, y: jax.Array, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Distance to the nearest road edge that crosses the point's cell, and the cell's flags.

    The sign is that of the nearest edge; where two share the nearest vertex, that of the one whose line is
    farther.

    Args:
        table: of road edges, drivable on their left.
        scenario_idx: scenario.
        x, y, z: point [m]; edges at another level (`LEVEL_HEIGHT`) are not seen.

    Returns:
        Distance [m] to 1 mm, positive on the drivable side, ±inf where no edge of the point's level crosses the
        cell; int32 flags.
    """
    cell = lookup(table, scenario_idx, x, y)

    def update(key, segment, own, rank):
        squared, across = nearest_on_segment(x, y, segment)
        seen = own & (jnp.abs(segment[HEIGHT] - z) < LEVEL_HEIGHT)
        metric = squared - _TIE * across * across + 1e-9
        outside = (across < 0).astype(jnp.int32)
        return jnp.minimum(key, jnp.where(seen, sort_key(metric, outside, 1), NO_KEY))

    key = fold(table, cell, update, jnp.int32(NO_KEY))
    found = key < NO_KEY
    level = jnp.where(z > cell.level_height, INSIDE_UPPER, INSIDE_LOWER)
    inside = jnp.where(found, (key & 1) == 0, (cell.flags & level) != 0)
    distance = jnp.where(found, safe_sqrt(lax.bitcast_convert_type(key & ~1, jnp.float32)), jnp.inf)
    return jnp.where(inside, distance, -distance), cell.flags
