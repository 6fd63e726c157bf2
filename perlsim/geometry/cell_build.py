"""Builds `CellTable`s on the host, exactly: which segments a cell must hold, and which cells are drivable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from perlsim.geometry.cells import (
    BLOCK,
    FLAG_SHIFT,
    HEIGHT_SHIFT,
    INSIDE_LOWER,
    INSIDE_UPPER,
    LEVEL_HEIGHT,
    OUTSIDE_GRID,
    OVERFLOW,
    CellTable,
)
from perlsim.scenario import Ragged

# Largest deviation [m] of the segments in a table from the map's own polylines.
SIMPLIFY_TOLERANCE = 0.008
# Lines are cut where they have climbed this much [m], so that a segment's one height is that of all of it.
_CLIMB = 0.5
# A cell also holds what passes this close by [m], so that rounding cannot lose an edge on a cell's border.
_BORDER = 0.02
# Cells of a run, on maps that are not flat, whose centres have the same side: about 10 m, in which roads climb 1 m.
_RUN = 8
# Level-height entry [dm] of cells with one level.
_ONE_LEVEL = 2**15 - 1


@dataclass(frozen=True)
class Grid:
    """Placement of one scenario's grid: ``origin`` [m] ``[2]``, ``shape`` cells ``[2]``, ``size`` [m]."""

    origin: np.ndarray
    shape: np.ndarray
    size: float

    @classmethod
    def over(cls, low: np.ndarray, high: np.ndarray, size: float) -> Grid:
        """The grid of cells of ``size`` m that covers the box from ``low`` to ``high`` [m]."""
        shape = np.maximum(np.ceil((high - low) / size).astype(np.int64), 1)
        return cls(np.asarray(low, np.float64), shape, size)

    def centres(self) -> np.ndarray:
        """Centres of the cells ``[C, 2]`` m, y running fastest."""
        return np.stack(self._corners(), 1) + self.size / 2

    def _corners(self) -> tuple[np.ndarray, np.ndarray]:
        column, row = np.divmod(np.arange(self.shape.prod()), self.shape[1])
        return self.origin[0] + column * self.size, self.origin[1] + row * self.size


@dataclass(frozen=True)
class Cells:
    """One scenario's part of a table.

    Attributes:
        grid: the cells.
        index: int64 ``[C, 4]``: first segment, number of segments, flags, height that divides the levels [dm].
        segments: float32 ``[N, F]``, cell after cell.
    """

    grid: Grid
    index: np.ndarray
    segments: np.ndarray


def pieces_of(lines: Ragged, tolerance: float, longest: float, *attributes: np.ndarray) -> np.ndarray:
    """As `segments_of`, thinned to ``tolerance`` and cut so that none is longer than ``longest`` [m]."""
    whole = segments_of(lines, *attributes, tolerance=tolerance)
    length = np.hypot(whole[:, 2] - whole[:, 0], whole[:, 3] - whole[:, 1])
    parts = np.maximum(np.ceil(length / longest), 1).astype(int)
    rank = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    cut = np.repeat(whole, parts, axis=0)
    start, chord = cut[:, :2].copy(), cut[:, 2:4] - cut[:, :2]
    share = np.repeat(1.0 / parts, parts)[:, None]
    cut[:, :2] = start + chord * share * rank[:, None]
    cut[:, 2:4] = start + chord * share * (rank[:, None] + 1)
    return cut


def segments_of(lines: Ragged, *attributes: np.ndarray, tolerance: float = SIMPLIFY_TOLERANCE) -> np.ndarray:
    """Polylines as segments x0, y0, x1, y1, z and attributes, thinned to ``tolerance`` [m].

    Args:
        lines: rows of ``[n, 3]`` m.
        attributes: one value a line ``[P]`` or one a point ``[N]``; of the latter a segment takes its first point's.

    Returns:
        float64 ``[N, 5 + len(attributes)]``.
    """
    if not len(lines):
        return np.zeros((0, 5 + len(attributes)))
    kept, piece = _simplified(lines, tolerance)
    follows = piece[1:] == piece[:-1]
    first, second = kept[:-1][follows], kept[1:][follows]
    line = np.repeat(np.arange(len(lines)), np.diff(lines.offsets))[first]
    points = lines.values.astype(np.float64)
    columns = [points[first, :2], points[second, :2], (points[first, 2:] + points[second, 2:]) / 2]
    for attribute in attributes:
        values = attribute[first] if len(attribute) == len(points) else attribute[line]
        columns.append(np.asarray(values, np.float64)[:, None])
    segments = np.concatenate(columns, 1)
    length = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    return segments[length > 1e-6]


def _simplified(lines: Ragged, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the points that Douglas and Peucker's algorithm keeps, and which piece of a line each ends.

    Lines are cut wherever they have climbed by `_CLIMB`, because the algorithm looks at x and y only.
    """
    count = np.diff(lines.offsets)
    start_height = np.repeat(lines.values[lines.offsets[:-1], 2], count)
    level = np.floor((lines.values[:, 2] - start_height) / _CLIMB)
    line = np.repeat(np.arange(len(lines)), count)
    cut = np.flatnonzero((line[1:] == line[:-1]) & (level[1:] != level[:-1])) + 1
    # A point at which a line is cut ends one piece and begins the next.
    idx = np.sort(np.concatenate([np.arange(len(line)), cut]))
    begins = np.r_[True, (idx[1:] == idx[:-1]) | (line[idx[1:]] != line[idx[:-1]])]
    piece = np.cumsum(begins) - 1
    lonely = np.bincount(piece)[piece] < 2
    idx, piece = idx[~lonely], np.unique(piece[~lonely], return_inverse=True)[1]
    # The index rides along as the height, which simplification carries over.
    shapes = shapely.linestrings(
        np.column_stack([lines.values[idx, :2], idx]).astype(np.float64), indices=piece
    )
    kept, piece = shapely.get_coordinates(
        shapely.simplify(shapes, tolerance, preserve_topology=False), include_z=True, return_index=True
    )
    return kept[:, 2].astype(np.int64), piece


def fill_cells(
    grid: Grid, segments: np.ndarray, reach: float, capacity: int, *, nearest_first: bool = False
) -> Cells:
    """Assigns to each cell every segment within ``reach`` [m] of it, and perhaps some a little farther.

    Cells with more than ``capacity`` keep those nearest to their centres and get the `OVERFLOW` bit.

    Args:
        grid: the cells.
        segments: x0, y0, x1, y1, z and attributes ``[N, ≥5]``.
        reach: m.
        capacity: most segments of a cell.
        nearest_first: whether to sort each cell by distance to its centre.
    """
    count_cells = int(grid.shape.prod())
    index = np.zeros((count_cells, 4), np.int64)
    index[:, 3] = _ONE_LEVEL
    if not len(segments):
        return Cells(grid, index, _by_middle(segments))
    cell, segment = _near_cells(grid, segments, reach + _BORDER)
    count = np.bincount(cell, minlength=count_cells)
    if nearest_first or (count > capacity).any():
        distance = _distance(grid.centres()[cell], segments[segment])
        order = np.lexsort((distance, cell))
    else:
        order = np.argsort(cell, kind="stable")
    cell, segment = cell[order], segment[order]
    index, keep = _limited(_with_counts(index, count), capacity)
    return Cells(grid, index, _by_middle(segments[segment[keep]]))


def _near_cells(grid: Grid, segments: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of cells and segments of which some points may be within ``reach`` [m] of each other."""
    low = np.minimum(segments[:, :2], segments[:, 2:4]) - reach
    high = np.maximum(segments[:, :2], segments[:, 2:4]) + reach
    first = np.maximum(np.floor((low - grid.origin) / grid.size).astype(np.int64), 0)
    last = np.minimum(np.floor((high - grid.origin) / grid.size).astype(np.int64), grid.shape - 1)
    extent = np.maximum(last - first + 1, 0)
    pairs = extent.prod(1)
    segment = np.repeat(np.arange(len(segments)), pairs)
    rank = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    column, row = np.divmod(rank, extent[segment, 1])
    column, row = column + first[segment, 0], row + first[segment, 1]
    # Of the cells in a slanting segment's bounding box, those on whose square, grown by the reach, it has no part.
    chord = segments[:, 2:4] - segments[:, :2]
    normal = np.stack([-chord[:, 1], chord[:, 0]], 1) / np.maximum(np.hypot(*chord.T), 1e-9)[:, None]
    along_normal = (segments[:, :2] * normal).sum(1)
    half = grid.size / 2 + reach
    centre_x = grid.origin[0] + (column + 0.5) * grid.size
    centre_y = grid.origin[1] + (row + 0.5) * grid.size
    aside = centre_x * normal[segment, 0] + centre_y * normal[segment, 1] - along_normal[segment]
    near = np.abs(aside) <= half * np.abs(normal).sum(1)[segment]
    cell, segment = (column * grid.shape[1] + row)[near], segment[near]
    # And of those the ones within reach as the crow flies.
    near = _distance(grid.centres()[cell], segments[segment]) <= reach + grid.size * np.sqrt(0.5)
    return cell[near], segment[near]


def _distance(points: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Distance [m] of each point from its segment."""
    chord = segments[:, 2:4] - segments[:, :2]
    offset = points - segments[:, :2]
    share = np.clip((offset * chord).sum(1) / np.maximum((chord**2).sum(1), 1e-12), 0, 1)[:, None]
    return np.hypot(*(offset - share * chord).T)


def limit_cells(cells: Cells, capacity: int) -> Cells:
    """Leaves the first ``capacity`` segments of each cell, and sets the `OVERFLOW` bit where it had more."""
    index, keep = _limited(cells.index, capacity)
    return Cells(cells.grid, index, cells.segments[keep])


def _limited(index: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """The index of cells cut to ``capacity``, and which of their segments are left, bool ``[N]``."""
    count = index[:, 1]
    rank = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    limited = _with_counts(index, np.minimum(count, capacity))
    limited[:, 2] |= np.where(count > capacity, OVERFLOW, 0)
    return limited, rank < capacity


def _with_counts(index: np.ndarray, count: np.ndarray) -> np.ndarray:
    """A copy of an index whose cells hold ``count`` segments each, one cell after the other."""
    changed = index.copy()
    changed[:, 1] = count
    changed[:, 0] = np.cumsum(count) - count
    return changed


def thin_covered(cells: Cells, covering: np.ndarray) -> Cells:
    """Leaves one segment in each cell that one covers, for lookups that ask no more than whether one does.

    Args:
        cells: the cells.
        covering: m for each segment of ``cells`` ``[N]``: it covers every point of a cell whose centre is that
            near to it; negative for those that cover nothing.

    Returns:
        The cells, those with a covering segment left with the nearest such.
    """
    if not len(cells.segments):
        return cells
    count = cells.index[:, 1]
    cell = np.repeat(np.arange(len(count)), count)
    columns = cells.segments.astype(np.float64)
    middle, half = columns[:, :2], columns[:, 2:4] * columns[:, 4:5]
    distance = _distance(cells.grid.centres()[cell], np.concatenate([middle - half, middle + half], 1))
    covers = distance <= covering
    order = np.lexsort((distance, ~covers, cell))
    first = np.r_[True, cell[order][1:] != cell[order][:-1]]
    chosen = np.zeros(len(cell), bool)
    chosen[order[first]] = covers[order[first]]
    covered = np.zeros(len(count), bool)
    covered[cell[chosen]] = True
    keep = chosen | ~covered[cell]
    index = _with_counts(cells.index, np.bincount(cell[keep], minlength=len(count)))
    return Cells(cells.grid, index, cells.segments[keep])


def mark_drivable(cells: Cells, edges: np.ndarray, lanes: np.ndarray) -> None:
    """Sets, in place, the flags that say on which level a cell's centre is drivable.

    Args:
        cells: cells of road edges.
        edges: all segments of road edges ``[N, ≥5]``, drivable on their left.
        lanes: segments of lane centre lines ``[M, ≥5]``; their heights tell which levels a cell has.
    """
    if not len(edges):
        return
    centres = cells.grid.centres()
    low, high = _lane_heights(cells.grid, lanes)
    known = np.isfinite(low)
    single = ~known | (high - low < LEVEL_HEIGHT)
    side, height = _side_of_cells(cells, edges, lanes)
    middle = np.where(known, (np.where(known, low, 0) + np.where(known, high, 0)) / 2, height)
    cells.index[:, 2] |= np.where(side & single, INSIDE_LOWER | INSIDE_UPPER, 0)
    # The nearest edge belongs to another level: ask again among the edges of the cell's own.
    for cell in np.flatnonzero(single & known & (np.abs(height - middle) >= LEVEL_HEIGHT)):
        inside = _side_at(centres[cell], middle[cell], edges)
        both = INSIDE_LOWER | INSIDE_UPPER
        cells.index[cell, 2] = (cells.index[cell, 2] & ~both) | (both if inside else 0)
    for cell in np.flatnonzero(~single):
        cells.index[cell, 3] = round(np.clip(10 * (low[cell] + high[cell]) / 2, -_ONE_LEVEL, _ONE_LEVEL))
        inside_low = _side_at(centres[cell], low[cell], edges)
        inside_high = _side_at(centres[cell], high[cell], edges)
        cells.index[cell, 2] |= INSIDE_LOWER * inside_low | INSIDE_UPPER * inside_high


def _lane_heights(grid: Grid, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest lane near each cell [m]; infinite where there is none."""
    count = int(grid.shape.prod())
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    cell, segment = _near_cells(grid, lanes, 2.0)
    np.minimum.at(low, cell, lanes[segment, 4])
    np.maximum.at(high, cell, lanes[segment, 4])
    return low, high


def _side_of_cells(cells: Cells, edges: np.ndarray, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`_side_of_nearest` for the centres of all cells.

    A cell without edges has the side of a neighbour without edges: one of each run is asked, and on a map that is not
    flat, where heights matter as well, one of a few cells.
    """
    heights = np.concatenate([edges[:, 4], lanes[:, 4]])
    empty = cells.index[:, 1] == 0
    column = np.arange(len(empty)) % cells.grid.shape[1]
    is_flat = np.ptp(heights) < LEVEL_HEIGHT
    head = ~(empty & np.r_[False, empty[:-1]]) | (column % (len(empty) if is_flat else _RUN) == 0)
    side, height = _side_of_nearest(cells.grid.centres()[head], edges)
    run = np.cumsum(head) - 1
    return side[run], height[run]


def _side_of_nearest(points: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each point lies left of its nearest edge, and that edge's height [m]."""
    shapes: Any = shapely.linestrings(edges[:, :4].reshape(-1, 2, 2))
    tree = shapely.STRtree(shapes)
    geometry = shapely.points(points)
    nearest = tree.nearest(geometry)
    distance = shapely.distance(geometry, shapes[nearest])
    point, edge = tree.query(geometry, predicate="dwithin", distance=distance * (1 + 1e-9) + 1e-9)
    across = _across(points[point], edges[edge])
    # Of the edges that share the nearest vertex, the one whose line is farther tells the side.
    order = np.lexsort((np.abs(across), point))
    last = order[np.flatnonzero(np.r_[point[order][1:] != point[order][:-1], True])]
    side, height = np.zeros(len(points), bool), np.zeros(len(points))
    side[point[last]] = across[last] >= 0
    # Of the edge that told the side: another, of another level, may be exactly as near.
    height[point[last]] = edges[edge[last], 4]
    return side, height


def _side_at(point: np.ndarray, height: float, edges: np.ndarray) -> bool:
    """Whether a point at ``height`` [m] lies on the drivable side of the nearest edge of its level."""
    level = edges[np.abs(edges[:, 4] - height) < LEVEL_HEIGHT]
    return bool(len(level)) and bool(_side_of_nearest(point[None], level)[0][0])


def _across(points: np.ndarray, segments: np.ndarray) -> np.ndarray:
    direction = segments[:, 2:4] - segments[:, :2]
    offset = points - segments[:, :2]
    return (direction[:, 0] * offset[:, 1] - direction[:, 1] * offset[:, 0]) / np.hypot(*direction.T)


def _by_middle(segments: np.ndarray) -> np.ndarray:
    """Segments with middle, unit direction and half length for their end points, as a `CellTable` holds them."""
    chord = segments[:, 2:4] - segments[:, :2]
    length = np.hypot(*chord.T)[:, None]
    middle = (segments[:, :2] + segments[:, 2:4]) / 2
    return np.concatenate([middle, chord / length, length / 2, segments[:, 4:]], 1).astype(np.float32)


def join_tables(parts: list[Cells], capacity: int) -> CellTable:
    """Puts the cells of many scenarios into one table of numpy arrays."""
    outside = np.array([[0, 0, OUTSIDE_GRID, _ONE_LEVEL]], np.int64)
    index, blocks, first_cell, first_block = [outside], [], [], 0
    num_cells = 1
    for part in parts:
        first_cell.append(num_cells)
        num_cells += len(part.index)
        packed, starts = _in_blocks(part)
        moved = part.index.copy()
        moved[:, 0] = starts + first_block
        first_block += len(packed)
        index.append(moved)
        blocks.append(packed)
    # Ordinary finite numbers in the padding: it is masked, but 0 · NaN would not be.
    blocks.append(np.zeros((capacity // BLOCK, parts[0].segments.shape[1], BLOCK), np.float32))
    arrays: dict[str, Any] = {
        "origin": np.stack([part.grid.origin for part in parts]).astype(np.float32),
        "num_cells": np.stack([part.grid.shape for part in parts]).astype(np.int32),
        "first_cell": np.asarray(first_cell, np.int32),
        "index": _packed(np.concatenate(index)),
        "segments": np.concatenate(blocks),
    }
    return CellTable(**arrays, cell_size=parts[0].grid.size, capacity=capacity)


def _packed(index: np.ndarray) -> np.ndarray:
    """The index as `CellTable` holds it: two words for a cell, since a lookup pays for each."""
    word = index[:, 1] | index[:, 2] << FLAG_SHIFT | index[:, 3] << HEIGHT_SHIFT
    return np.stack([index[:, 0], word], 1).astype(np.int32)


def _in_blocks(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Segments ``[blocks, F, BLOCK]``, each cell's in blocks of its own, and the first block of each cell."""
    count = cells.index[:, 1]
    blocks = -(-count // BLOCK)
    starts = np.cumsum(blocks) - blocks
    packed = np.zeros((blocks.sum() * BLOCK, cells.segments.shape[1]), np.float32)
    rank = np.arange(len(cells.segments)) - np.repeat(np.cumsum(count) - count, count)
    packed[np.repeat(starts * BLOCK, count) + rank] = cells.segments
    return packed.reshape(-1, BLOCK, packed.shape[1]).transpose(0, 2, 1), starts
