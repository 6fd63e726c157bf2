"""Signed distances to the road's edge at any range, on the host.

The lookups of a bank know the edge within 1.25 m; here distances up to 40 m count. A tree of the map's own segments
answers exactly at any range, and in about the time that the simulation takes.
"""

from __future__ import annotations

import numpy as np
import shapely

from perlsim.geometry.cells import LEVEL_HEIGHT
from perlsim.scenario import Ragged

Array = np.ndarray
# Segments shorter than this have no direction [m].
_LEAST_LENGTH = 1e-6
# Points of one height, for the choice of the road's level, to this [m].
_HEIGHT_STEP = 0.5


class EdgeDistance:
    """Distances to the edges of one map.

    Args:
        edges: rows of ``[n, 3]`` m, drivable on their left.
    """

    def __init__(self, edges: Ragged):
        ends = np.concatenate([np.zeros((0, 2, 3)), *(np.stack([r[:-1], r[1:]], 1) for r in edges.rows())])
        ends = ends.astype(np.float64)
        length = np.hypot(*(ends[:, 1, :2] - ends[:, 0, :2]).T)
        ends, length = ends[length > _LEAST_LENGTH], length[length > _LEAST_LENGTH]
        self.start = ends[:, 0, :2]
        self.direction = (ends[:, 1, :2] - self.start) / length[:, None]
        self.height = ends[:, :, 2].mean(1)
        self.lines = np.asarray(shapely.linestrings(ends[:, :, :2]))
        self._trees: dict[bytes, shapely.STRtree] = {}

    def __call__(self, points: Array) -> Array:
        """Distance [m] of points ``[N, 3]`` from the nearest edge of their level, ``[N]``.

        Returns:
            *Positive off the road*, negative on it, as the challenge counts; NaN where the level has no edge. The sign
            is that of the nearest edge; where two share the nearest vertex, of the one whose line is farther.
        """
        found = np.full(len(points), np.nan)
        heights = np.round(points[:, 2] / _HEIGHT_STEP) * _HEIGHT_STEP
        for height in np.unique(heights):
            seen = np.flatnonzero(np.abs(self.height - height) < LEVEL_HEIGHT)
            if len(seen):
                here = heights == height
                found[here] = self._on_level(points[here, :2], seen)
        return found

    def _on_level(self, points: Array, seen: Array) -> Array:
        """Distances of points ``[n, 2]`` from the segments ``seen``."""
        key = seen.tobytes()
        if key not in self._trees:
            self._trees[key] = shapely.STRtree(self.lines[seen])
        tree = self._trees[key]
        # All segments that are as near as the nearest: at a vertex there are two.
        pairs, distance = tree.query_nearest(shapely.points(points), return_distance=True, all_matches=True)
        which, nearest = np.asarray(pairs[0]), seen[pairs[1]]
        offset, direction = points[which] - self.start[nearest], self.direction[nearest]
        across = direction[:, 0] * offset[:, 1] - direction[:, 1] * offset[:, 0]
        order = np.lexsort((np.abs(across), which))
        # The last of each point's matches has the farthest line.
        last = order[np.flatnonzero(np.diff(which[order], append=-1))]
        return np.where(across[last] < 0, distance[last], -distance[last])
