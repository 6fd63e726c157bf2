"""The map files of py123d 0.7: one row for each map object, with its features packed by msgpack.

Columns: ``object_id``, ``map_layer`` (see `Layer`), ``features`` (msgpack; arrays as type, shape and bytes),
``wkb`` (the outline or line as well-known binary, with heights only for lines). Coordinates are metres in the
frame of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import shapely

from perlsim.errors import FormatError
from perlsim.geometry.drivable import edges_from_polygons
from perlsim.geometry.polylines import interpolate, project
from perlsim.readers.arrow_tables import column, numbers, read_table
from perlsim.readers.fields import reading
from perlsim.readers.lane_rows import (
    LaneRow,
    MarkingCollector,
    centre_line,
    lane_graph,
    may_cross,
    same_direction,
)
from perlsim.scenario import Array, Ragged, Road, StopSigns
from perlsim.vocabulary import LaneType, MarkingType


class Layer(IntEnum):
    """Kinds of map objects that are used here; the format has walkways, road edges and speed bumps, too."""

    LANE = 0
    LANE_GROUP = 1
    INTERSECTION = 2
    CROSSWALK = 3
    CARPARK = 5
    GENERIC_DRIVABLE = 6
    STOP_ZONE = 7
    ROAD_LINE = 9


_LANE_TYPES = (LaneType.UNKNOWN, LaneType.FREEWAY, LaneType.DRIVING, LaneType.BICYCLE, LaneType.BUS)
# In the order of the format's numbers: none, unknown, dash-solid (two colours), dashed (2), double solid (2),
# double dashed (2), solid (2), solid-dash (2), solid blue. Mixed lines are named from left to right.
_MARKINGS = (
    MarkingType.NONE,
    MarkingType.UNKNOWN,
    *(MarkingType.BROKEN_SOLID, MarkingType.BROKEN_SOLID),
    *(MarkingType.BROKEN, MarkingType.BROKEN),
    *(MarkingType.DOUBLE_SOLID, MarkingType.DOUBLE_SOLID),
    *(MarkingType.DOUBLE_BROKEN, MarkingType.DOUBLE_BROKEN),
    *(MarkingType.SOLID, MarkingType.SOLID),
    *(MarkingType.SOLID_BROKEN, MarkingType.SOLID_BROKEN),
    MarkingType.SOLID,
)
_STOP_SIGN = 2
_DTYPES = ("<f8", "<f4", "<i8", "<i4", "<i2", "|i1", "|u1", "|b1")
# Layers whose union is the drivable area. Argoverse 2 gives that area itself; its lanes may reach out of it.
_DRIVABLE = (Layer.LANE, Layer.LANE_GROUP, Layer.INTERSECTION, Layer.CARPARK, Layer.GENERIC_DRIVABLE)


def unpack(data: bytes, path: Path, field: str) -> dict[str, Any]:
    """A msgpack map, with arrays where the format packs them.

    Raises:
        FormatError: where the bytes are not such a map.
    """
    with reading(path, field):
        value = msgpack.unpackb(data, raw=False, strict_map_key=False, object_hook=_array)
    if not isinstance(value, dict):
        raise FormatError("expected a map of names to values", file=path, field=field)
    return value


def _array(value: dict) -> Any:
    if b"__ndarray__" not in value:
        return value
    if value[b"dtype"] not in _DTYPES:
        raise ValueError(f"arrays of type {value[b'dtype']!r}")
    return np.frombuffer(value[b"data"], np.dtype(value[b"dtype"])).reshape(value[b"shape"])


def metadata(table: pa.Table, path: Path) -> dict[str, Any]:
    """What a file's schema says about its numbers.

    Raises:
        FormatError: where it says nothing, or not in msgpack.
    """
    packed = (table.schema.metadata or {}).get(b"metadata")
    if packed is None:
        raise FormatError("the schema has no metadata: not a py123d file", file=path, field="metadata")
    return unpack(packed, path, "metadata")


@dataclass(frozen=True)
class _Object:
    """A map object: its id, features, and points ``[n, 3]`` m of its outline or line."""

    id: int
    features: Mapping[str, Any]
    points: Array


class Py123dMap:
    """A map file.

    Attributes:
        is_whole: whether the map is the log's own, not that of a city.
        has_heights: whether its z are heights; else they are 0.
    """

    def __init__(self, path: Path, *, is_whole: bool, dataset: str):
        self._path = path
        self.is_whole = is_whole
        self._drivable = (Layer.GENERIC_DRIVABLE,) if dataset.startswith("av2") else _DRIVABLE
        table = read_table(path)
        self.has_heights = metadata(table, path).get("map_has_z") is not False
        ids = numbers(table, "object_id", path, np.int64).tolist()
        layers = numbers(table, "map_layer", path, np.int64).tolist()
        features, outlines = self._binary(table, "features"), self._binary(table, "wkb")
        self._objects: dict[Layer, dict[int, _Object]] = {layer: {} for layer in Layer}
        known = {int(layer) for layer in Layer}
        for key, layer, packed, outline in zip(ids, layers, features, outlines, strict=True):
            if layer in known:
                self._objects[Layer(layer)][key] = self._object(key, Layer(layer), packed, outline)
        self._lines = MarkingCollector()
        for line in self._objects[Layer.ROAD_LINE].values():
            self._lines.add(line.points, _paint(line))

    def _binary(self, table: pa.Table, name: str) -> list[bytes]:
        values = column(table, name, self._path)
        if (
            not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type))
            or values.null_count
        ):
            raise FormatError(f"expected bytes, found {values.type}", file=self._path, field=name)
        return values.to_pylist()

    def _object(self, key: int, layer: Layer, packed: bytes, outline: bytes) -> _Object:
        features = unpack(packed, self._path, f"{layer.name} {key} features")
        if layer != Layer.ROAD_LINE:
            return _Object(key, features, self._points(features, "outline", layer, key))
        try:
            line = shapely.get_coordinates(shapely.from_wkb(outline), include_z=True)
        except (shapely.errors.GEOSException, ValueError) as error:
            raise FormatError(str(error), file=self._path, field=f"{layer.name} {key} wkb") from error
        return _Object(key, features, _with_heights(line))

    def _points(self, features: Mapping[str, Any], name: str, layer: Layer, key: int) -> Array:
        points = features.get(name)
        if not isinstance(points, np.ndarray) or points.ndim != 2 or points.shape[1] not in (2, 3):
            raise FormatError(
                "expected points of two or three coordinates",
                file=self._path,
                field=f"{layer.name} {key} {name}",
            )
        if points.shape[1] == 2:
            points = np.column_stack([points, np.zeros(len(points))])
        return _with_heights(points.astype(np.float64))

    def road(self, low: Array, high: Array) -> Road:
        """The objects that reach into a box, as a road.

        Args:
            low: ``[2]`` m, least x and y.
            high: ``[2]`` m, greatest x and y.
        """
        near = {
            layer: [o for o in objects.values() if self.is_whole or _reaches(o.points, low, high)]
            for layer, objects in self._objects.items()
        }
        markings = MarkingCollector()
        for line in near[Layer.ROAD_LINE]:
            markings.add(line.points, _paint(line))
        lanes = [self._lane(lane) for lane in near[Layer.LANE]]
        lanes = [row for row in lanes if min(len(row.left), len(row.right)) >= 2]
        by_id = {row.id: row for row in lanes}
        for row in lanes:
            row.left_ids = self._beside(row, by_id, "left")
            row.right_ids = self._beside(row, by_id, "right")
        return Road(
            lanes=lane_graph(lanes),
            markings=markings.markings(),
            edges=edges_from_polygons([o.points for layer in self._drivable for o in near[layer]]),
            crosswalks=Ragged.from_rows([o.points for o in near[Layer.CROSSWALK]], width=3),
            stop_signs=_stop_signs(near[Layer.STOP_ZONE], lanes),
        )

    def _lane(self, lane: _Object) -> LaneRow:
        features = lane.features
        group = self._objects[Layer.LANE_GROUP].get(_key(features.get("lane_group_id")))
        limit = features.get("speed_limit_mps")
        return LaneRow(
            id=str(lane.id),
            left=self._points(features, "left_boundary", Layer.LANE, lane.id),
            right=self._points(features, "right_boundary", Layer.LANE, lane.id),
            kind=_pick(_LANE_TYPES, features.get("lane_type")),
            speed_limit=float(limit) if isinstance(limit, int | float) else float("nan"),
            in_junction=group is not None and group.features.get("intersection_id") is not None,
            successors=_names(features.get("successor_ids")),
        )

    def _beside(self, row: LaneRow, by_id: Mapping[str, LaneRow], side: str) -> list[str]:
        """The neighbour on a side where it runs the same way and may be changed into."""
        other = by_id.get(str(self._objects[Layer.LANE][int(row.id)].features.get(f"{side}_lane_id")))
        paint = self._lines.kind_of(row.left if side == "left" else row.right)
        if other is None or not may_cross(paint, to_the_left=side == "left"):
            return []
        return [other.id] if same_direction(row.left, other.left) else []


def _stop_signs(zones: list[_Object], rows: list[LaneRow]) -> StopSigns:
    """Stop zones of stop signs, placed where the zone's middle projects onto each lane it governs."""
    index = {row.id: i for i, row in enumerate(rows)}
    position, lane_idx = [], []
    for zone in zones:
        if zone.features.get("stop_zone_type") != _STOP_SIGN or not len(zone.points):
            continue
        low, high = zone.points.min(0), zone.points.max(0)
        middle = 0.5 * (low + high)
        lanes = [index[name] for name in _names(zone.features.get("lane_ids")) if name in index]
        if not lanes:
            position.append(middle)
            lane_idx.append(-1)
        for lane in lanes:
            centre, _ = centre_line(rows[lane].left, rows[lane].right)
            position.append(interpolate(centre, project(centre, middle[None]).arc)[0])
            lane_idx.append(lane)
    return StopSigns(
        np.array(position).reshape(-1, 3), np.full(len(position), np.nan), np.array(lane_idx, np.int32)
    )


def _paint(line: _Object) -> MarkingType:
    return _pick(_MARKINGS, line.features.get("road_line_type"))


def _with_heights(points: Array) -> Array:
    points = points.copy()
    points[~np.isfinite(points[:, 2]), 2] = 0.0
    return points


def _reaches(points: Array, low: Array, high: Array) -> bool:
    if not len(points):
        return False
    return bool((points[:, :2].max(0) >= low).all() and (points[:, :2].min(0) <= high).all())


def _pick(values: tuple, position: Any) -> Any:
    """The value at a position, or the format's "unknown" (0 for lanes, 1 for lines) where there is none."""
    if isinstance(position, int) and 0 <= position < len(values):
        return values[position]
    return type(values[0]).UNKNOWN


def _key(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _names(values: Any) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list | tuple) else []
