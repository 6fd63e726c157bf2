"""The lookups of a bank: road edges, markings, lanes, and the pieces of the map that observations show."""

from __future__ import annotations

import numpy as np

from perlsim.bank import LANE_CODE, LANE_HALF_WIDTH
from perlsim.geometry.cell_build import (
    Cells,
    Grid,
    fill_cells,
    join_tables,
    limit_cells,
    mark_drivable,
    pieces_of,
    segments_of,
    thin_covered,
)
from perlsim.geometry.cells import BLOCK, OVERFLOW
from perlsim.scenario import Road
from perlsim.vocabulary import MarkingType

# Size of lookup cells [m]. A cell of edges holds what crosses it; of markings what a footprint centred in it can
# touch; of lanes what can have it within its width.
EDGE_CELL, MARKING_CELL, LANE_CELL = 1.25, 2.0, 1.25
# The most segments that a cell of edges, markings and lanes may hold. For the ego hardly a cell of real maps has more
# (none of edges and markings in 25 real scenes, one in 10,000 of lanes). Where all road users are asked about, what is
# read decides the speed: one in a thousand cells has more, and raises `Event.LOOKUP_OVERFLOW`.
EGO_CAPACITY, EVERYONE_CAPACITY = (16, 64, 32), (8, 32, 16)
LANE_REACH = 2.0
# Observed pieces of the map: cells, reach, longest piece and deviation from the map's lines [m].
PIECE_CELL, PIECE_REACH, PIECE_LENGTH, PIECE_TOLERANCE = 5.0, 50.0, 10.0, 0.1
# Codes of observed pieces beside the vocabularies: added to the type of lanes in junctions; kind of road edges.
JUNCTION_CODE, EDGE_CODE = 16, 16


def road_tables(scenarios, extents, reach: float, everyone: bool):
    """The lookups of edges, markings and lanes, and how many of their cells overflow.

    Args:
        scenarios: the scenarios.
        extents: for each the lower and upper corner [m] of the box in which it is looked up.
        reach: m, how far from its centre a footprint may touch a marking.
        everyone: whether the lookups are for all road users, not for the ego alone.
    """
    edge_capacity, marking_capacity, lane_capacity = EVERYONE_CAPACITY if everyone else EGO_CAPACITY
    parts: dict[str, list[Cells]] = {"edges": [], "markings": [], "lanes": []}
    for scenario, (low, high) in zip(scenarios, extents, strict=True):
        road, lanes = scenario.road, scenario.road.lanes
        edges = segments_of(road.edges)
        centres = segments_of(
            lanes.centre, lanes.width / 2, _as_bits(2 * np.arange(len(lanes)) + lanes.in_junction)
        )
        cells = fill_cells(Grid.over(low, high, EDGE_CELL), edges, 0.0, edge_capacity)
        mark_drivable(cells, edges, centres)
        parts["edges"].append(cells)
        markings = segments_of(road.markings.line, *_marking_bits(road.markings.kind))
        parts["markings"].append(
            fill_cells(Grid.over(low, high, MARKING_CELL), markings, reach, marking_capacity)
        )
        cells = fill_cells(Grid.over(low, high, LANE_CELL), centres, LANE_REACH, 255, nearest_first=True)
        parts["lanes"].append(limit_cells(thin_covered(cells, _covering(cells)), lane_capacity))
    tables = {}
    for name, cells in parts.items():
        fullest = max(int(part.index[:, 1].max(initial=0)) for part in cells)
        tables[name] = join_tables(cells, max(BLOCK, -BLOCK * (-fullest // BLOCK)))
    overflow = sum(int((part.index[:, 2] & OVERFLOW > 0).sum()) for cells in parts.values() for part in cells)
    return tables, overflow


def _covering(cells: Cells) -> np.ndarray:
    """How near [m] each lane in a junction must be to a cell's centre to have all of the cell within its width.

    In a junction no direction is wrong, so where one lane covers a cell the dozens that cross there need not be
    asked.
    """
    half_width, code = cells.segments[:, LANE_HALF_WIDTH], cells.segments[:, LANE_CODE]
    in_junction = (np.ascontiguousarray(code).view(np.int32) & 1) != 0
    return np.where(in_junction, half_width - cells.grid.size * np.sqrt(0.5) - 0.01, -1.0)


def _as_bits(values: np.ndarray) -> np.ndarray:
    """Integers as the float32 numbers of the same bits; float64 holds every float32 exactly."""
    return np.asarray(values, np.int32).view(np.float32).astype(np.float64)


def _marking_bits(kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sets ``1 << MarkingType`` of lines as seen from their left and from their right.

    A line that is solid on one side only counts as the kind that faces the viewer.
    """
    left, right = kind.astype(np.int64), kind.astype(np.int64)
    left = np.where(kind == MarkingType.SOLID_BROKEN, MarkingType.SOLID, left)
    right = np.where(kind == MarkingType.SOLID_BROKEN, MarkingType.BROKEN, right)
    left = np.where(kind == MarkingType.BROKEN_SOLID, MarkingType.BROKEN, left)
    right = np.where(kind == MarkingType.BROKEN_SOLID, MarkingType.SOLID, right)
    return _as_bits(1 << left), _as_bits(1 << right)


def piece_tables(scenarios, extents, sizes: tuple[int, int] | None):
    """The lookups of lane pieces and boundary pieces for observations.

    Args:
        scenarios: the scenarios.
        extents: as in `road_tables`.
        sizes: most lane and boundary pieces of an observation; None where nothing is observed.
    """
    lanes, boundaries = [], []
    for scenario, (low, high) in zip(scenarios, extents, strict=True):
        grid = Grid.over(low, high, PIECE_CELL) if sizes else Grid.over(low, low, PIECE_CELL)
        road = scenario.road if sizes else Road()
        code = road.lanes.kind + JUNCTION_CODE * road.lanes.in_junction
        limit = np.nan_to_num(road.lanes.speed_limit)
        pieces = pieces_of(road.lanes.centre, PIECE_TOLERANCE, PIECE_LENGTH, code, limit)
        lanes.append(fill_cells(grid, pieces, PIECE_REACH, sizes[0] if sizes else BLOCK, nearest_first=True))
        edge_code = np.full(len(road.edges), EDGE_CODE)
        lines = [
            pieces_of(
                road.markings.line, PIECE_TOLERANCE, PIECE_LENGTH, road.markings.kind, 0 * road.markings.kind
            ),
            pieces_of(road.edges, PIECE_TOLERANCE, PIECE_LENGTH, edge_code, 0 * edge_code),
        ]
        size = sizes[1] if sizes else BLOCK
        boundaries.append(fill_cells(grid, np.concatenate(lines), PIECE_REACH, size, nearest_first=True))
    return {
        "lane_pieces": join_tables(lanes, sizes[0] if sizes else BLOCK),
        "boundary_pieces": join_tables(boundaries, sizes[1] if sizes else BLOCK),
    }
