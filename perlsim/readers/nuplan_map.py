"""nuPlan's GeoPackage maps (``<location>/<version>/map.gpkg``) as roads in the logs' UTM frame.

Layers: ``baseline_paths`` (centre lines of lanes and of the connectors through intersections),
``lanes_polygons``, ``lane_connectors``, ``gen_lane_connectors_scaled_width_polygons``, ``boundaries``, the
four that make up the drivable area, ``crosswalks``, ``stop_polygons``; ``meta`` names the projection.
Coordinates are longitude and latitude or already projected. The maps have no heights: z is 0.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from perlsim.errors import FormatError
from perlsim.geometry.drivable import edges_from_polygons
from perlsim.readers.lane_rows import may_cross
from perlsim.readers.sqlite import columns, need_columns, opened
from perlsim.readers.utm import to_utm
from perlsim.scenario import Array, Lanes, Markings, Ragged, Road, StopSigns
from perlsim.vocabulary import LaneType, MarkingType
from perlsim.worlds.opendrive import crop

DRIVABLE = ("road_segments", "intersections", "generic_drivable_areas", "carpark_areas")
_STOP_SIGN = 1  # stop_polygon_type_fid (devkit, StopLineType)
# boundary_type_fid: 0 and 2 are painted, the others outline surfaces.
_MARKINGS = {0: MarkingType.BROKEN, 2: MarkingType.SOLID}
_LANE_KINDS = {0: LaneType.DRIVING, 1: LaneType.BICYCLE}
_ENVELOPE_BYTES = (0, 32, 48, 48, 64)  # GeoPackage 1.3, 2.1.3.1.1, by the envelope indicator
_WGS84 = 4326


@dataclass(frozen=True)
class NuplanMap:
    """A city.

    Attributes:
        road: lanes, markings, crosswalks and stop signs; edges are worked out for a cropped part.
        connectors: row of each lane connector by its fid.
        drivable: polygons of the drivable area.
    """

    road: Road
    connectors: dict[int, int]
    drivable: Array

    def around(self, box: tuple[float, float, float, float]) -> tuple[Road, Array]:
        """What lies in a box, with edges, and the new index of each lane (−1 gone)."""
        road, new_idx = crop(self.road, box)
        near = (
            self.drivable[shapely.intersects(self.drivable, shapely.box(*box))] if len(self.drivable) else []
        )
        # Edges reach a little beyond the box, so that no border runs along it.
        return replace(
            road, edges=edges_from_polygons([ring for shape in near for ring in _rings(shape)])
        ), new_idx


def find_map(folder: Path | None, names: tuple[str, ...]) -> Path | None:
    """``<name>/<version>/map.gpkg`` (or ``<name>.gpkg``) under the maps folder."""
    for name in (name.removesuffix(".gpkg") for name in names if name and re.fullmatch(r"[\w.\-]+", name)):
        for pattern in (f"{name}/*/map.gpkg", f"*/{name}/*/map.gpkg", f"{name}/map.gpkg", f"{name}.gpkg"):
            found = sorted(Path(folder).glob(pattern)) if folder is not None else []
            if found:
                return found[-1]
    return None


@lru_cache(maxsize=2)
def read_map(path: Path) -> NuplanMap:
    """Reads a city.

    Raises:
        FormatError: names the file and the layer at fault.
    """
    with opened(path) as connection:
        need_columns(connection, "baseline_paths", ("lane_fid", "lane_connector_fid"), path)
        need_columns(connection, "lanes_polygons", ("lane_group_fid", "lane_index"), path)
        need_columns(connection, "lane_connectors", ("exit_lane_fid", "entry_lane_fid"), path)
        layers = _Layers(connection, path)
        try:
            return _build(layers)
        except (TypeError, ValueError, OverflowError, shapely.errors.ShapelyError) as error:
            raise FormatError(
                f"layer {layers.current}: {error}", file=path, remedy="fetch the map again"
            ) from error


class _Layers:
    """Layers of one file, with geometries in the projection of the logs."""

    def __init__(self, connection: sqlite3.Connection, path: Path):
        self.connection, self.path, self.current = connection, path, "meta"
        code = ""
        if {"key", "value"} <= columns(connection, "meta"):
            for row in connection.execute("SELECT key, value FROM meta"):
                code = str(row["value"]) if row["key"] == "projectedCoordSystem" else code
        match = re.search(r"(?i)epsg:+(32[67])(\d\d)", code)
        if not match or not 1 <= int(match[2]) <= 60:
            raise FormatError(
                f"expected a UTM zone such as EPSG:32611, found {code!r}",
                file=path,
                field="meta.projectedCoordSystem",
            )
        self.epsg, self.zone, self.south = int(match[1] + match[2]), int(match[2]), match[1] == "327"

    def rows(self, layer: str) -> tuple[list[dict[str, Any]], Array]:
        """Attributes and geometries of a layer's features that have a geometry; none if it is absent."""
        self.current = layer
        names = columns(self.connection, layer)
        column = next((name for name in ("geom", "geometry") if name in names), None)
        if column is None:
            return [], np.zeros(0, object)
        rows = [dict(row) for row in self.connection.execute(f'SELECT *, rowid AS "fid" FROM "{layer}"')]
        rows = [row for row in rows if row[column] is not None]
        shapes = shapely.from_wkb([_wkb(row.pop(column)) for row in rows])
        coordinates = shapely.get_coordinates(shapes)
        if not np.isfinite(coordinates).all():
            raise ValueError("coordinates that are not finite")
        if self._srs(layer) != self.epsg:
            if len(coordinates) and (np.abs(coordinates) > [180, 90]).any():
                raise ValueError("longitudes or latitudes out of range")
            shapes = shapely.transform(shapes, lambda points: to_utm(points, self.zone, south=self.south))
        return rows, np.asarray(shapes, object)

    def _srs(self, layer: str) -> int:
        rows = self.connection.execute(
            "SELECT srs_id FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
        )
        code = next((int(row["srs_id"]) for row in rows), _WGS84)
        if code not in (_WGS84, self.epsg):
            raise FormatError(
                f"expected coordinates in EPSG {_WGS84} or {self.epsg}, found {code}",
                file=self.path,
                field=layer,
            )
        return code


def _wkb(blob: Any) -> bytes:
    """The well-known binary in a GeoPackage geometry."""
    if not isinstance(blob, bytes) or blob[:2] != b"GP" or len(blob) < 8:
        raise ValueError("a geometry without a GeoPackage header")
    envelope = (blob[3] >> 1) & 7
    if envelope >= len(_ENVELOPE_BYTES):
        raise ValueError(f"unknown envelope indicator {envelope}")
    return blob[8 + _ENVELOPE_BYTES[envelope] :]


def _build(layers: _Layers) -> NuplanMap:
    paths: dict[tuple[str, int], Array] = {}
    for row, shape in zip(*layers.rows("baseline_paths"), strict=True):
        for kind in ("lane", "lane_connector"):
            fid, line = row[f"{kind}_fid"], _line(shape)
            if fid is not None and len(line) > 1:
                paths[kind, int(fid)] = line
    lanes = [(row, shape) for row, shape in zip(*layers.rows("lanes_polygons"), strict=True)]
    lanes = [(row, shape) for row, shape in lanes if ("lane", int(row["fid"])) in paths]
    links = [row for row in layers.rows("lane_connectors")[0] if ("lane_connector", int(row["fid"])) in paths]
    areas = {
        int(row["lane_connector_fid"]): shape
        for row, shape in zip(*layers.rows("gen_lane_connectors_scaled_width_polygons"), strict=True)
        if row.get("lane_connector_fid") is not None
    }
    kinds, lines = {}, []
    for row, shape in zip(*layers.rows("boundaries"), strict=True):
        kinds[int(row["fid"])] = kind = _MARKINGS.get(row.get("boundary_type_fid", -1), MarkingType.NONE)
        if len(line := _line(shape)) > 1:
            lines.append((line, kind))
    graph, connectors = _graph(lanes, links, paths, areas, kinds)
    crosswalks = [ring[:-1] for shape in layers.rows("crosswalks")[1] for ring in _rings(shape, holes=False)]
    road = Road(
        graph,
        Markings(
            Ragged.from_rows([line for line, _ in lines], width=3),
            np.array([kind for _, kind in lines], np.int8),
        ),
        crosswalks=Ragged.from_rows(crosswalks, width=3),
        stop_signs=_stop_signs(graph, *layers.rows("stop_polygons")),
    )
    drivable = np.concatenate([np.zeros(0, object), *(layers.rows(name)[1] for name in DRIVABLE)])
    return NuplanMap(road, connectors, drivable)


def _line(shape) -> Array:
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "LineString"]
    points = shapely.get_coordinates(parts[0]) if parts else np.zeros((0, 2))
    return np.column_stack([points, np.zeros(len(points))])


def _rings(shape, *, holes: bool = True) -> list[Array]:
    """Outlines of the polygons of a shape; holes follow as outlines of their own only where asked for."""
    rings = []
    for part in shapely.get_parts(shape):
        if part.geom_type == "Polygon" and not part.is_empty:
            # A polygon with holes is cut into pieces without: outlines alone would fill them.
            pieces = [part] if not (holes and part.interiors) else _without_holes(part)
            rings += [shapely.get_coordinates(piece.exterior) for piece in pieces]
    return [np.column_stack([ring, np.zeros(len(ring))]) for ring in rings]


def _without_holes(shape: shapely.Polygon) -> list[shapely.Polygon]:
    """The polygon cut along a line through the middle of its first hole, until no hole is left."""
    if not shape.interiors:
        return [shape]
    x_min, y_min, x_max, y_max = shape.bounds
    x = shapely.Polygon(shape.interiors[0]).representative_point().x
    halves = [
        shapely.box(x_min - 1, y_min - 1, x, y_max + 1),
        shapely.box(x, y_min - 1, x_max + 1, y_max + 1),
    ]
    parts = [part for half in halves for part in shapely.get_parts(shape.intersection(half))]
    return [piece for part in parts if part.geom_type == "Polygon" for piece in _without_holes(part)]


def _graph(lanes, links, paths, areas, kinds) -> tuple[Lanes, dict[int, int]]:
    lane_row = {int(row["fid"]): idx for idx, (row, _) in enumerate(lanes)}
    connector_row = {int(row["fid"]): len(lanes) + idx for idx, row in enumerate(links)}
    successors: list[list[int]] = [[] for _ in range(len(lanes) + len(links))]
    for row in links:
        here = connector_row[int(row["fid"])]
        # The connector leaves its exit lane and enters its entry lane.
        if row["exit_lane_fid"] in lane_row:
            successors[lane_row[row["exit_lane_fid"]]].append(here)
        if row["entry_lane_fid"] in lane_row:
            successors[here].append(lane_row[row["entry_lane_fid"]])
    groups = {(row["lane_group_fid"], row["lane_index"]): idx for idx, (row, _) in enumerate(lanes)}
    left, right = _beside(lanes, groups, kinds)
    centres = [paths["lane", int(row["fid"])] for row, _ in lanes]
    centres += [paths["lane_connector", int(row["fid"])] for row in links]
    shapes = [shape for _, shape in lanes] + [areas.get(int(row["fid"])) for row in links]
    widths = [np.full(len(line), _width(line, shape)) for line, shape in zip(centres, shapes, strict=True)]
    rows = [row for row, _ in lanes] + links
    empty: list[list[int]] = [[] for _ in links]
    graph = Lanes(
        centre=Ragged.from_rows(centres, width=3),
        width=np.concatenate([np.zeros(0), *widths]),
        kind=np.array([_LANE_KINDS.get(row.get("lane_type_fid"), LaneType.DRIVING) for row in rows], np.int8),
        speed_limit=np.array([_speed(row.get("speed_limit_mps")) for row in rows], np.float64),
        in_junction=np.arange(len(rows)) >= len(lanes),
        successors=Ragged.from_rows(successors, dtype=np.int32),
        left=Ragged.from_rows(left + empty, dtype=np.int32),
        right=Ragged.from_rows(right + empty, dtype=np.int32),
        ids=(*(f"lane {fid}" for fid in lane_row), *(f"connector {fid}" for fid in connector_row)),
    )
    return graph, connector_row


def _beside(lanes, groups, kinds) -> tuple[list[list[int]], list[list[int]]]:
    """Neighbours in the same lane group, whose indices grow from left to right (devkit, NuPlanLane)."""
    sides: tuple[list[list[int]], list[list[int]]] = ([], [])
    for row, _ in lanes:
        for side, step, boundary in ((0, -1, "left_boundary_fid"), (1, 1, "right_boundary_fid")):
            other = None
            if row["lane_group_fid"] is not None and isinstance(row["lane_index"], int):
                other = groups.get((row["lane_group_fid"], row["lane_index"] + step))
            kind = kinds.get(row.get(boundary), MarkingType.NONE)
            open_line = may_cross(kind, to_the_left=side == 0)
            sides[side].append([other] if other is not None and open_line else [])
    return sides


def _width(line: Array, shape) -> float:
    """Mean width [m] of a lane: its area over its length; NaN without a polygon."""
    length = np.linalg.norm(np.diff(line[:, :2], axis=0), axis=1).sum()
    return float(shape.area / length) if shape is not None and length > 0.1 else float("nan")


def _speed(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < 100 else float("nan")


def _stop_signs(graph: Lanes, rows: list[dict[str, Any]], shapes: Array) -> StopSigns:
    """Stop signs where the stop polygon meets a lane, one row for each lane that runs into it."""
    found = []
    signs = [
        shape
        for row, shape in zip(rows, shapes, strict=True)
        if row.get("stop_polygon_type_fid") == _STOP_SIGN
    ]
    lines = [shapely.LineString(line[:, :2]) for line in graph.centre.rows()]
    tree = shapely.STRtree(lines)
    for shape in signs:
        for lane in tree.query(shape, predicate="intersects"):
            if graph.in_junction[lane]:
                continue
            at = lines[lane].project(
                shapely.Point(shapely.get_coordinates(lines[lane].intersection(shape))[0])
            )
            here, ahead = lines[lane].interpolate(at), lines[lane].interpolate(at + 0.5)
            back = lines[lane].interpolate(at - 0.5) if at > 0.5 else here
            found.append((here.x, here.y, 0.0, np.arctan2(ahead.y - back.y, ahead.x - back.x), lane))
    table = np.array(found, np.float64).reshape(-1, 5)
    return StopSigns(table[:, :3], table[:, 3], table[:, 4].astype(np.int32))
