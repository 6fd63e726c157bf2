"""Banks and agents of batches of routes, padded to sizes that seldom change, so that batches share a program.

Padding is never looked at: lookups reach what stands in their grids, paths go on straight, and stop lines that no
path meets make nobody stop.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from perlsim.bank import HostBank
from perlsim.geometry.cells import BLOCK, CellTable
from perlsim.scenario import Array
from perlsim.worlds.actors.scripted import ScriptedAgents

# A size that grows gets this much more, rounded up to so many steps between powers of two [S].
_ROOM, _STEPS = 1.1, 8
# Of the columns of a road user's path, those that go on beyond its end: x, y and z (``PATH_*`` of `perlsim.bank`).
_MOVES = np.array([1, 1, 0, 1, 0], np.float32)


class Sizes:
    """Sizes by name that only grow, and then in steps."""

    def __init__(self):
        self._sizes: dict[str, int] = {}

    def at_least(self, name: str, size: int) -> int:
        """The size in force, which is ``size`` or more."""
        if size > self._sizes.get(name, 0):
            wanted = int(_ROOM * size)
            step = max(2 ** max(math.ceil(math.log2(wanted)) - 1, 0) // _STEPS, 1)
            self._sizes[name] = -(-wanted // step) * step
        return self._sizes.get(name, 0)


def padded(host: HostBank, agents: ScriptedAgents, sizes: Sizes) -> tuple[HostBank, ScriptedAgents]:
    """A bank of routes (`perlsim.worlds.suite.scene.bank_of`) and its road users, padded.

    Args:
        host: of numpy arrays.
        agents: of numpy arrays.
        sizes: in force so far; they grow where they have to.
    """
    bank = host.bank
    count_points = sizes.at_least("route", bank.route.shape[1])
    count_lines = sizes.at_least("stop_lines", bank.stop_lines.shape[2])
    lines = _padded(bank.stop_lines, 2, count_lines)
    lines[:, 2, bank.stop_lines.shape[2] :] = 1.0
    tables = {
        name: _table(getattr(bank, name), name, sizes)
        for name in ("edges", "markings", "lanes", "lane_pieces", "boundary_pieces")
    }
    larger = replace(
        bank,
        log_path=_straight(bank.log_path, 1, sizes.at_least("log_path", bank.log_path.shape[1])),
        route=_straight(bank.route, 1, count_points),
        route_limit=_padded(bank.route_limit, 1, count_points, mode="edge"),
        route_stops=_marked(bank.route_stops, 1, sizes.at_least("route_stops", bank.route_stops.shape[1])),
        stop_lines=lines,
        light_state=_padded(bank.light_state, 2, count_lines),
        **tables,
    )
    return replace(host, bank=larger), replace(
        agents,
        paths=_straight(agents.paths, 2, sizes.at_least("paths", agents.paths.shape[2]), _MOVES),
        yields=_marked(agents.yields, 1, sizes.at_least("yields", agents.yields.shape[1])),
        disturbances=_padded(
            agents.disturbances, 1, sizes.at_least("disturbances", agents.disturbances.shape[1])
        ),
        stops=_marked(agents.stops, 2, sizes.at_least("stops", agents.stops.shape[2])),
    )


def _table(table: CellTable, name: str, sizes: Sizes) -> CellTable:
    """A lookup with empty cells and segments at its end; cells may be read in larger pieces."""
    capacity = BLOCK * sizes.at_least(f"{name}.blocks", table.capacity // BLOCK)
    more = (capacity - table.capacity) // BLOCK
    return replace(
        table,
        index=_padded(table.index, 0, sizes.at_least(f"{name}.index", len(table.index))),
        segments=_padded(table.segments, 0, sizes.at_least(f"{name}.segments", len(table.segments) + more)),
        capacity=capacity,
    )


def _padded(values, axis: int, size: int, mode: Literal["constant", "edge"] = "constant") -> Array:
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, size - values.shape[axis])
    return np.pad(values, widths, mode=mode)


def _marked(values, axis: int, size: int) -> Array:
    """Padded with −1, which marks what is not there."""
    known = values.shape[axis]
    values = _padded(values, axis, size)
    np.moveaxis(values, axis, 0)[known:] = -1.0
    return values


def _straight(paths, axis: int, size: int, moves: Array | float = 1.0) -> Array:
    """Paths that go on straight, by copies of their last step in the columns that move."""
    paths = np.moveaxis(np.asarray(paths), axis, 0)
    more = np.arange(1, size - len(paths) + 1, dtype=paths.dtype).reshape(-1, *[1] * (paths.ndim - 1))
    longer = np.concatenate([paths, paths[-1] + more * moves * (paths[-1] - paths[-2])])
    return np.ascontiguousarray(np.moveaxis(longer, 0, axis))
