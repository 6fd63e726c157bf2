"""Borders of the drivable area, drivable on their left, from polygons, lane borders or centre lines.

Polygons of one level are united; polygons that overlap at heights more than 3 m apart (a bridge over a
road) stay apart, so that the border of the lower road is not lost under the bridge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from perlsim.scenario import Array, Ragged

LEVEL_GAP = 3.0  # m, height difference from which two surfaces are two levels
_CLOSE = 0.03  # m, half the width of the gaps that are closed between neighbouring polygons


def edges_from_polygons(polygons: Sequence[Array]) -> Ragged:
    """Rings (or, where a bridge ramp splits levels, open lines) around the union of polygons.

    Gaps narrower than 6 cm between polygons are closed with mitred corners; elsewhere borders stay where they
    were. Heights come from the nearest border of the source polygons.

    Args:
        polygons: ``[n, 3]`` m each, closed or not, in either orientation; fewer than three points or no area
            are skipped.

    Returns:
        Rows of float64 ``[n, 3]`` m: exteriors counter-clockwise, holes clockwise, first point repeated.
    """
    sources, shapes = [], []
    for points in polygons:
        shape = _polygon(points)
        if shape is not None:
            sources.append(_closed(np.asarray(points, np.float64)))
            shapes.append(shape)
    if not shapes:
        return Ragged.from_rows([], width=3)
    levels, links = _levels(shapes, sources)
    rows = []
    for level in range(levels.max() + 1):
        members = np.flatnonzero(levels == level)
        united = shapely.union_all([shapes[i].buffer(_CLOSE, join_style="mitre") for i in members])
        united = united.buffer(-_CLOSE, join_style="mitre")
        beside = [shapes[j] for i, j in links if levels[i] == level and levels[j] != level]
        beside += [shapes[i] for i, j in links if levels[j] == level and levels[i] != level]
        lines = _rings(united)
        if beside:
            inner = shapely.union_all(beside).buffer(_CLOSE, join_style="mitre")
            lines = [piece for line in lines for piece in _pieces(line.difference(inner))]
        rows += _with_heights(lines, [sources[i] for i in members])
    return Ragged.from_rows(rows, width=3)


def edges_from_lanes(left: Iterable[Array], right: Iterable[Array]) -> Ragged:
    """Borders of the area between left and right lane borders, both ``[n, 3]`` m in driving direction."""
    pairs = zip(left, right, strict=True)
    return edges_from_polygons([np.concatenate([a, np.asarray(b)[::-1]]) for a, b in pairs])


def edges_from_centre_lines(centre: Iterable[Array], width: Iterable[Array | float]) -> Ragged:
    """Borders of the area swept by lanes of known width.

    Args:
        centre: rows of ``[n, 3]`` m, two distinct points at least.
        width: m for each row, one number or one for each point.
    """
    left, right = [], []
    for line, full in zip(centre, width, strict=True):
        points = np.asarray(line, np.float64)
        aside = _normals(points) * (0.5 * np.broadcast_to(np.asarray(full, np.float64), len(points)))[:, None]
        offset = np.concatenate([aside, np.zeros((len(points), 1))], axis=1)
        left.append(points + offset)
        right.append(points - offset)
    return edges_from_lanes(left, right)


def _normals(points: Array) -> Array:
    """Left normals ``[n, 2]``, at inner points lengthened so that offset borders keep their distance."""
    steps = np.diff(points[:, :2], axis=0)
    steps /= np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-9)
    across = np.stack([-steps[:, 1], steps[:, 0]], axis=1)
    before, after = np.concatenate([across[:1], across]), np.concatenate([across, across[-1:]])
    mean = before + after
    # |mean|² / 2 = 1 + cos of the turn; at turns of more than about 120 degrees the mitre is capped.
    return mean / np.maximum(0.5 * (mean**2).sum(1, keepdims=True), 0.5)


def _closed(points: Array) -> Array:
    return points if np.array_equal(points[0], points[-1]) else np.concatenate([points, points[:1]])


def _polygon(points: Array) -> BaseGeometry | None:
    """A valid polygonal geometry, or None where the points enclose nothing."""
    points = np.asarray(points, np.float64)
    if len(points) < 3 or not np.isfinite(points).all():
        return None
    shape = shapely.Polygon(points[:, :2])
    if not shape.is_valid:
        shape = shapely.make_valid(shape, method="structure", keep_collapsed=False)
    return shape if shape.area > 1e-4 else None


def _levels(shapes: list, sources: list[Array]) -> tuple[Array, list[tuple[int, int]]]:
    """Level of each polygon, and the pairs that touch at the same height."""
    tree = shapely.STRtree(shapes)
    near = tree.query(shapes, predicate="dwithin", distance=2 * _CLOSE).T
    links: list[tuple[int, int]] = []
    apart: dict[int, set[int]] = {i: set() for i in range(len(shapes))}
    touching: dict[int, set[int]] = {i: set() for i in range(len(shapes))}
    low, high = (np.array([of(source[:, 2]) for source in sources]) for of in (np.min, np.max))
    near = near[near[:, 0] < near[:, 1]]
    # Heights that differ by less cannot differ by more where the polygons meet.
    flat = np.maximum(*high[near.T]) - np.minimum(*low[near.T]) <= LEVEL_GAP
    for (i, j), is_flat in zip(near.tolist(), flat.tolist(), strict=True):
        if is_flat or _height_gap(shapes, sources, i, j) <= LEVEL_GAP:
            links.append((i, j))
            touching[i].add(j)
            touching[j].add(i)
        else:
            apart[i].add(j)
            apart[j].add(i)
    levels = np.full(len(shapes), -1)
    members: list[set[int]] = []
    for seed in range(len(shapes)):
        queue = [seed] if levels[seed] < 0 else []
        while queue:
            i = queue.pop()
            if levels[i] >= 0:
                continue
            free = (k for k, group in enumerate(members) if not apart[i] & group)
            # Prefer the level of a neighbour: a level then stays in one piece as far as it can.
            wanted = [levels[j] for j in touching[i] if levels[j] >= 0 and not apart[i] & members[levels[j]]]
            level = wanted[0] if wanted else next(free, len(members))
            if level == len(members):
                members.append(set())
            members[level].add(i)
            levels[i] = level
            queue += [j for j in touching[i] if levels[j] < 0]
    return levels, links


def _height_gap(shapes: list, sources: list[Array], i: int, j: int) -> float:
    """Height difference [m] of two polygons where they meet."""
    common = shapes[i].intersection(shapes[j])
    where = np.array((common if not common.is_empty else shapes[i]).representative_point().coords[0])
    heights = []
    for ring in (sources[i], sources[j]):
        nearest = np.argsort(((ring[:, :2] - where) ** 2).sum(1))[:2]
        heights.append(ring[nearest, 2].mean())
    return abs(heights[0] - heights[1])


def _rings(shape: BaseGeometry) -> list[shapely.LineString]:
    """Exterior rings counter-clockwise and holes clockwise: the area is on the left of each."""
    rings = []
    for part in shapely.get_parts(shape):
        if part.geom_type == "Polygon" and not part.is_empty:
            part = shapely.orient_polygons(part)
            rings += [shapely.LineString(ring.coords) for ring in (part.exterior, *part.interiors)]
    return rings


def _pieces(shape: BaseGeometry) -> list[shapely.LineString]:
    merged = shapely.line_merge(shape, directed=True) if shape.geom_type == "MultiLineString" else shape
    return [
        part for part in shapely.get_parts(merged) if part.geom_type == "LineString" and not part.is_empty
    ]


def _with_heights(lines: list[shapely.LineString], sources: list[Array]) -> list[Array]:
    """The lines as ``[n, 3]``, heights interpolated on the nearest source border."""
    borders = np.array([shapely.LineString(ring) for ring in sources])
    tree = shapely.STRtree(borders)
    rows = []
    for line in lines:
        points = shapely.points(np.array(line.coords)[:, :2])
        nearest = borders[tree.nearest(points)]
        on_border = shapely.line_interpolate_point(nearest, shapely.line_locate_point(nearest, points))
        rows.append(np.column_stack([shapely.get_coordinates(points), shapely.get_z(on_border)]))
    return rows
