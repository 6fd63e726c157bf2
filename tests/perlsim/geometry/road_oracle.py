"""What a map says about footprints, by brute force with shapely over the map's own polylines."""

import numpy as np
import shapely

from perlsim.geometry.cells import LEVEL_HEIGHT
from perlsim.vocabulary import MarkingType

# Distance [m] within which rounding and simplification may decide either way.
MARGIN = 0.01


def pieces(lines):
    """Segments of polylines: shapely lines, ends ``[N, 2, 2]``, heights ``[N]`` and line numbers ``[N]``."""
    ends = [np.stack([row[:-1], row[1:]], 1) for row in lines.rows()]
    ends = np.concatenate([np.zeros((0, 2, 3)), *ends]).astype(float)
    line = np.repeat(np.arange(len(lines)), [len(row) - 1 for row in lines.rows()])
    long = np.hypot(*(ends[:, 1, :2] - ends[:, 0, :2]).T) > 1e-6
    ends, line = ends[long], line[long]
    return shapely.linestrings(ends[:, :, :2]), ends[:, :, :2], ends[:, :, 2].mean(1), line


class RoadOracle:
    """One scenario's map.

    Args:
        scenario: in the scenario frame.
    """

    def __init__(self, scenario):
        self.road = scenario.road
        self.edges = pieces(self.road.edges)
        self.markings = pieces(self.road.markings.line)
        self.lanes = pieces(self.road.lanes.centre)

    def edge_distance(self, x, y, z):
        """Signed distance [m] to the nearest road edge of the level, positive on its left; NaN without."""
        shapes, ends, height, _ = self.edges
        seen = np.flatnonzero(np.abs(height - z) < LEVEL_HEIGHT)
        if not len(seen):
            return np.nan
        distance = shapely.distance(shapely.Point(x, y), shapes[seen])
        tied = seen[distance <= distance.min() + 1e-7]
        chord = ends[tied, 1] - ends[tied, 0]
        offset = np.array([x, y]) - ends[tied, 0]
        across = (chord[:, 0] * offset[:, 1] - chord[:, 1] * offset[:, 0]) / np.hypot(*chord.T)
        return np.copysign(distance.min(), across[np.argmax(np.abs(across))])

    def touched(self, footprint, z, margin):
        """Kinds of marking that come within ``margin`` [m] of the footprint (negative: that far inside)."""
        shapes, _, height, line = self.markings
        near = np.abs(height - z) < LEVEL_HEIGHT
        hit = near & shapely.intersects(shapes, footprint.buffer(margin, join_style="mitre"))
        return {MarkingType(int(kind)) for kind in self.road.markings.kind[line[hit]]}

    def nearest_lane_heights(self, x, y, z):
        """Heights [m] of the lanes as near as the nearest, to `MARGIN`."""
        shapes, _, height, _ = self.lanes
        seen = np.abs(height - z) < LEVEL_HEIGHT
        distance = np.where(seen, shapely.distance(shapely.Point(x, y), shapes), np.inf)
        return height[distance <= distance.min() + MARGIN]


def footprint(x, y, heading, half_length, half_width):
    """The box as a polygon."""
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (half_length, half_width)
    cos, sin = np.cos(heading), np.sin(heading)
    return shapely.Polygon(corners @ np.array([[cos, sin], [-sin, cos]]) + (x, y))
