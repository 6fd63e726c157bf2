"""Builds `CellTable`s on the host, exactly: which segments a cell must hold, and which cells are drivable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from perlsim.geometry.cells import (
    BLOCK,
    INSIDE_LOWER,
    INSIDE_UPPER,
    LEVEL_HEIGHT,
    OUTSIDE_GRID,
    OVERFLOW,
    CellTable,
)
from perlsim.geometry.polylines import simplify
from perlsim.scenario import Ragged

# Largest deviation [m] of the segments in a table from the map's own polylines.
SIMPLIFY_TOLERANCE = 0.008
# A cell also holds what passes this close by [m], so that rounding cannot lose an edge on a cell's border.
_BORDER = 0.02
# Level-height entry [cm] of cells with one level.
_ONE_LEVEL = 10**7


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

    def boxes(self) -> np.ndarray:
        """The cells as shapely boxes, y running fastest."""
        x, y = self._corners()
        return shapely.box(x, y, x + self.size, y + self.size)

    def centres(self) -> np.ndarray:
        """Centres of the cells ``[C, 2]`` m, y running fastest."""
        return np.stack(self._corners(), 1) + self.size / 2

    def _corners(self) -> tuple[np.ndarray, np.ndarray]:
        column, row = np.divmod(np.arange(self.shape.prod()), self.shape[1])
        return self.origin[0] + column * self.size, self.origin[1] + row * self.size


@dataclass(frozen=True)
class Cells:
    """One scenario's part of a table: ``index`` int64 ``[C, 4]`` as in `CellTable`, with the first segment in place
    of the first block, and ``segments`` ``[N, F]``."""

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


def segments_of(
    lines: Ragged, *attributes: np.ndarray, tolerance: float = SIMPLIFY_TOLERANCE
) -> np.ndarray:
    """Polylines as segments x0, y0, x1, y1, z and attributes, thinned to ``tolerance`` [m].

    Args:
        lines: rows of ``[n, 3]`` m.
        attributes: one value a line ``[P]`` or one a point ``[N]``; of the latter a segment takes its first point's.

    Returns:
        float64 ``[N, 5 + len(attributes)]``.
    """
    if not len(lines):
        return np.zeros((0, 5 + len(attributes)))
    kept = [lines.offsets[row] + simplify(lines[row], tolerance) for row in range(len(lines))]
    first = np.concatenate([points[:-1] for points in kept])
    second = np.concatenate([points[1:] for points in kept])
    line = np.repeat(np.arange(len(lines)), [len(points) - 1 for points in kept])
    points = lines.values.astype(np.float64)
    columns = [points[first, :2], points[second, :2], (points[first, 2:] + points[second, 2:]) / 2]
    for attribute in attributes:
        values = attribute[first] if len(attribute) == len(points) else attribute[line]
        columns.append(np.asarray(values, np.float64)[:, None])
    segments = np.concatenate(columns, 1)
    length = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    return segments[length > 1e-6]


def fill_cells(grid: Grid, segments: np.ndarray, reach: float, capacity: int) -> Cells:
    """Assigns to each cell every segment within ``reach`` [m] of it, nearest to its centre first.

    Cells with more than ``capacity`` keep the nearest and get the `OVERFLOW` bit.
    """
    count_cells = int(grid.shape.prod())
    index = np.zeros((count_cells, 4), np.int64)
    index[:, 3] = _ONE_LEVEL
    if not len(segments):
        return Cells(grid, index, _by_middle(segments))
    shapes = shapely.linestrings(segments[:, :4].reshape(-1, 2, 2))
    cell, segment = shapely.STRtree(shapes).query(grid.boxes(), predicate="dwithin", distance=reach + _BORDER)
    distance = shapely.distance(shapely.points(grid.centres()[cell]), shapes[segment])
    order = np.lexsort((distance, cell))
    cell, segment = cell[order], segment[order]
    count = np.bincount(cell, minlength=count_cells)
    rank = np.arange(len(cell)) - np.repeat(np.cumsum(count) - count, count)
    keep = rank < capacity
    index[:, 2] = np.where(count > capacity, OVERFLOW, 0)
    index[:, 1] = np.minimum(count, capacity)
    index[:, 0] = np.cumsum(index[:, 1]) - index[:, 1]
    return Cells(grid, index, _by_middle(segments[segment[keep]]))


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
    side, height = _side_of_nearest(centres, edges)
    middle = np.where(known, (np.where(known, low, 0) + np.where(known, high, 0)) / 2, height)
    cells.index[:, 2] |= np.where(side & single, INSIDE_LOWER | INSIDE_UPPER, 0)
    # The nearest edge belongs to another level: ask again among the edges of the cell's own.
    for cell in np.flatnonzero(single & known & (np.abs(height - middle) >= LEVEL_HEIGHT)):
        inside = _side_at(centres[cell], middle[cell], edges)
        both = INSIDE_LOWER | INSIDE_UPPER
        cells.index[cell, 2] = (cells.index[cell, 2] & ~both) | (both if inside else 0)
    for cell in np.flatnonzero(~single):
        cells.index[cell, 3] = round(100 * (low[cell] + high[cell]) / 2)
        inside_low = _side_at(centres[cell], low[cell], edges)
        inside_high = _side_at(centres[cell], high[cell], edges)
        cells.index[cell, 2] |= INSIDE_LOWER * inside_low | INSIDE_UPPER * inside_high


def _lane_heights(grid: Grid, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest lane near each cell [m]; infinite where there is none."""
    count = int(grid.shape.prod())
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    if len(lanes):
        tree = shapely.STRtree(shapely.linestrings(lanes[:, :4].reshape(-1, 2, 2)))
        cell, segment = tree.query(grid.boxes(), predicate="dwithin", distance=2.0)
        np.minimum.at(low, cell, lanes[segment, 4])
        np.maximum.at(high, cell, lanes[segment, 4])
    return low, high


def _side_of_nearest(points: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each point lies left of its nearest edge, and that edge's height [m]."""
    shapes = shapely.linestrings(edges[:, :4].reshape(-1, 2, 2))
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
    return CellTable(
        origin=np.stack([part.grid.origin for part in parts]).astype(np.float32),
        num_cells=np.stack([part.grid.shape for part in parts]).astype(np.int32),
        first_cell=np.asarray(first_cell, np.int32),
        index=np.concatenate(index).astype(np.int32),
        segments=np.concatenate(blocks),
        cell_size=parts[0].grid.size,
        capacity=capacity,
    )


def _in_blocks(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Segments ``[blocks, F, BLOCK]``, each cell's in blocks of its own, and the first block of each cell."""
    count = cells.index[:, 1]
    blocks = -(-count // BLOCK)
    starts = np.cumsum(blocks) - blocks
    packed = np.zeros((blocks.sum() * BLOCK, cells.segments.shape[1]), np.float32)
    rank = np.arange(len(cells.segments)) - np.repeat(np.cumsum(count) - count, count)
    packed[np.repeat(starts * BLOCK, count) + rank] = cells.segments
    return packed.reshape(-1, BLOCK, packed.shape[1]).transpose(0, 2, 1), starts
