"""Lookup of the road near a point, at a cost that does not depend on the size of the map.

A `CellTable` lays a square grid over each scenario. A cell holds, *by value* and in consecutive blocks of one flat
array, every segment within a fixed reach of it, so a lookup is one read of the grid and one of a fixed number of
blocks. A block holds `BLOCK` segments column by column, so that arithmetic on it is arithmetic on vectors.
`perlsim.geometry.cell_build` makes tables on the host.

A segment is its middle x, y [m], its unit direction x, y, half its length [m] and its height z [m], then what the
kind of table adds: with these no lookup divides or takes a root, which would keep a compiler from fusing it into one
kernel. All functions look up one point of one scenario; callers vmap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

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
# Where flags and height stand in the second word of the index.
FLAG_SHIFT, HEIGHT_SHIFT = 8, 16

# Of two equally near segments the one whose line is farther must win, by more than float32 rounds at 1 km from the
# origin: share of the squared distance to the line that is taken off. Errs by 0.5 mm a metre.
_TIE = 1e-3
# Squared distance that stands for "none" [m²].
_FAR = 1e12
# Segments in a block; capacities are multiples of it.
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
        index: int32 ``[C, 2]``: first block; number of segments (8 bits), flags (8 bits), height that divides the
            levels [dm] (16 bits). Row 0 stands for everywhere outside the grids.
        segments: float32 ``[N, F, BLOCK]``, padded so that a full read stays in range.
        cell_size: m (static).
        capacity: most segments of a cell, a multiple of `BLOCK` (static).
    """

    origin: jax.Array
    num_cells: jax.Array
    first_cell: jax.Array
    index: jax.Array
    segments: jax.Array
    cell_size: float
    capacity: int


class Cell(NamedTuple):
    """What a lookup returns: the cell's first block in its table, its number of segments, and its flags."""

    first: jax.Array
    size: jax.Array
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
    word = entry[1]
    height = jnp.right_shift(word, HEIGHT_SHIFT).astype(jnp.float32) * 0.1
    return Cell(entry[0], word & 0xFF, jnp.right_shift(word, FLAG_SHIFT) & 0xFF, height)


class Segments(NamedTuple):
    """Segments of a cell: ``columns`` ``[F, capacity / BLOCK, BLOCK]``, of which ``own`` are the cell's."""

    columns: jax.Array
    own: jax.Array


def segments_of_cell(table: CellTable, cell: Cell) -> Segments:
    """Reads the segments of a cell."""
    blocks = table.capacity // BLOCK
    start = (cell.first, jnp.int32(0), jnp.int32(0))
    segments = lax.dynamic_slice(table.segments, start, (blocks, *table.segments.shape[1:]))
    rank = jnp.arange(table.capacity, dtype=jnp.int32).reshape(blocks, BLOCK)
    return Segments(segments.transpose(1, 0, 2), rank < cell.size)


def nearest_on_segment(x, y, columns) -> tuple[jax.Array, jax.Array]:
    """Squared distances [m²] from a point to segments, and signed distances to their lines [m], left positive."""
    px, py = x - columns[MID_X], y - columns[MID_Y]
    along = px * columns[DIR_X] + py * columns[DIR_Y]
    across = py * columns[DIR_X] - px * columns[DIR_Y]
    beyond = jnp.maximum(jnp.abs(along) - columns[HALF_LENGTH], 0.0)
    return beyond * beyond + across * across, across


def sort_key(value: jax.Array, low_bits: jax.Array | int, num_bits: int) -> jax.Array:
    """An int32 that orders like a non-negative float32, with a small integer in its lowest bits.

    A minimum of integers is one vectorised reduction where an argmin of floats is not; the value loses
    ``num_bits`` of its 24.
    """
    return (lax.bitcast_convert_type(value, jnp.int32) & ~((1 << num_bits) - 1)) | low_bits


# Larger than the key of any distance.
NO_KEY = 0x7F000000
# Bits that hold a segment's rank in its cell: the capacity of cells is at most 64.
_RANK_BITS = 6


def nearest_height(
    table: CellTable, cell: Cell, squared: jax.Array, seen: jax.Array, otherwise: jax.Array
) -> jax.Array:
    """Height [m] of the nearest of a cell's segments that count, or another where there is none.

    Args:
        table, cell: of the segments.
        squared: their squared distances [m²], as `nearest_on_segment` gives them.
        seen: bool of the same shape, which of them count.
        otherwise: m.
    """
    rank = jnp.arange(table.capacity, dtype=jnp.int32).reshape(seen.shape)
    nearest = jnp.where(seen, sort_key(squared, rank, _RANK_BITS), NO_KEY).min()
    rank = nearest & ((1 << _RANK_BITS) - 1)
    height = table.segments[cell.first + rank // BLOCK, HEIGHT, rank % BLOCK]
    return jnp.where(nearest < NO_KEY, height, otherwise)


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

    columns, own = segments_of_cell(table, cell)
    squared, across = nearest_on_segment(x, y, columns)
    seen = own & (jnp.abs(columns[HEIGHT] - z) < LEVEL_HEIGHT)
    metric = jnp.where(seen, squared - _TIE * across * across + 1e-9, jnp.float32(_FAR))
    # Two reductions of what was read, not one: a read with one consumer would be fused into it, element by element.
    key = sort_key(metric, 0, 0).min()
    outside = ((sort_key(metric, 0, 0) == key) & (across < 0)).any()
    nearest = lax.bitcast_convert_type(key, jnp.float32)
    found = nearest < _FAR
    level = jnp.where(z > cell.level_height, INSIDE_UPPER, INSIDE_LOWER)
    inside = jnp.where(found, ~outside, (cell.flags & level) != 0)
    distance = jnp.where(found, safe_sqrt(nearest), jnp.inf)
    return jnp.where(inside, distance, -distance), cell.flags
