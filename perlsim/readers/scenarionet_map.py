"""Map features and lights of ScenarioNet's dictionaries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import shapely

from perlsim.geometry.drivable import edges_from_polygons
from perlsim.readers.fields import numbers
from perlsim.readers.waymo_map import MPH, Border, LaneFeature, MapFeatures, Neighbour, pack_lights
from perlsim.scenario import Array, Lights, Ragged, Road
from perlsim.vocabulary import LaneType, MarkingType

_KMH = 1 / 3.6  # m/s
_LANE_KINDS = {
    "LANE_SURFACE_STREET": LaneType.DRIVING,
    "LANE_SURFACE_UNSTRUCTURE": LaneType.DRIVING,
    "LANE_FREEWAY": LaneType.FREEWAY,
    "LANE_BIKE_LANE": LaneType.BICYCLE,
    "LANE_UNKNOWN": LaneType.UNKNOWN,
}
# Lines by their name without colour; a passing line as in `waymo_map`.
_LINE_KINDS = {
    "BROKEN_SINGLE": MarkingType.BROKEN,
    "SOLID_SINGLE": MarkingType.SOLID,
    "SOLID_DOUBLE": MarkingType.DOUBLE_SOLID,
    "BROKEN_DOUBLE": MarkingType.DOUBLE_BROKEN,
    "PASSING_DOUBLE": MarkingType.DOUBLE_BROKEN,
}
# Waymo's state codes, by Waymo's and by MetaDrive's names.
_LIGHT_CODES = {
    "LANE_STATE_UNKNOWN": 0,
    "LANE_STATE_ARROW_STOP": 1,
    "LANE_STATE_ARROW_CAUTION": 2,
    "LANE_STATE_ARROW_GO": 3,
    "LANE_STATE_STOP": 4,
    "LANE_STATE_CAUTION": 5,
    "LANE_STATE_GO": 6,
    "LANE_STATE_FLASHING_STOP": 7,
    "LANE_STATE_FLASHING_CAUTION": 8,
    "TRAFFIC_LIGHT_RED": 4,
    "TRAFFIC_LIGHT_YELLOW": 5,
    "TRAFFIC_LIGHT_GREEN": 6,
    "TRAFFIC_LIGHT_UNKNOWN": 0,
}


def map_of(raw: dict[str, Any], *, flat: bool) -> MapFeatures:
    """The features of a scene.

    Args:
        raw: ``map_features``.
        flat: whether the map has no heights (nuScenes): third numbers of points are dropped, and lanes
            without
            a polygon are lane connectors, which lie in junctions.
    """
    features = MapFeatures()
    for key, item in raw.items():
        name, kind = str(key), str(item["type"])
        if kind.startswith("LANE_"):
            features.lanes[name] = _lane(item, kind, flat)
        elif kind.startswith("ROAD_LINE_") or kind == "UNKNOWN_LINE":
            if not (flat and is_ring(name)):
                features.lines[name] = (_points(item["polyline"], flat), _line_kind(kind))
        elif kind.startswith("ROAD_EDGE_") and "SIDEWALK" not in kind:
            features.edges[name] = _points(item["polyline"], flat)
        elif kind in ("CROSSWALK", "CROSS_WALK"):
            features.crosswalks.append(_points(item.get("polygon", item.get("polyline")), flat))
        elif kind == "STOP_SIGN":
            lanes = [str(lane) for lane in np.ravel(item.get("lane", []))]
            features.stop_signs.append((_points([item["position"]], flat)[0], lanes))
    return features


def is_ring(name: str) -> bool:
    """Whether a line of a nuScenes map is a ring of its drivable area rather than paint."""
    return name.startswith("boundary_")


def road_of(features: MapFeatures, lights: Lights, raw: dict[str, Any]) -> Road:
    """The road, with edges from drivable rings or lane polygons where the map has no road edges."""
    road = features.road(lights)
    if features.edges:
        return road
    rings = [_points(item["polyline"], True) for name, item in raw.items() if is_ring(str(name))]
    if rings:
        return replace(road, edges=_oriented(rings))
    polygons = [_points(item["polygon"], True) for name, item in raw.items() if _is_lane_area(item)]
    return replace(road, edges=edges_from_polygons(polygons))


def _is_lane_area(item: dict[str, Any]) -> bool:
    return str(item["type"]).startswith("LANE_") and item.get("polygon") is not None


def _oriented(rings: list[Array]) -> Ragged:
    """Rings with the drivable area on their left: counter-clockwise, and clockwise if within another one."""
    rings = [ring for ring in rings if len(ring) > 3 and np.isfinite(ring).all()]
    areas = [shapely.Polygon(ring[:, :2]) for ring in rings]
    rows = []
    for i, ring in enumerate(rings):
        start = shapely.Point(ring[0, :2])
        depth = sum(j != i and area.contains_properly(start) for j, area in enumerate(areas))
        outward = shapely.LinearRing(ring[:, :2]).is_ccw
        rows.append(ring if outward == (depth % 2 == 0) else ring[::-1])
    return Ragged.from_rows(rows, width=3)


def _points(values: Any, flat: bool) -> Array:
    """Points as ``[n, 3]``; heights 0 where the map has none."""
    points = np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise ValueError(f"expected points [n, 2] or [n, 3], found {points.shape}")
    if points.shape[1] == 2 or flat:
        points = np.column_stack([points[:, :2], np.zeros(len(points))])
    return points


def _line_kind(name: str) -> MarkingType:
    name = name.removeprefix("ROAD_LINE_").removesuffix("_WHITE").removesuffix("_YELLOW")
    return _LINE_KINDS.get(name, MarkingType.UNKNOWN)


def _lane(item: dict[str, Any], kind: str, flat: bool) -> LaneFeature:
    return LaneFeature(
        centre=_points(item["polyline"], flat),
        kind=_LANE_KINDS.get(kind, LaneType.UNKNOWN),
        speed_limit=float("nan") if flat else _speed_limit(item),
        in_junction=item.get("polygon") is None if flat else bool(item.get("interpolating", False)),
        exits=[str(name) for name in np.ravel(item.get("exit_lanes", []))],
        entries=[str(name) for name in np.ravel(item.get("entry_lanes", []))],
        left=_neighbours(item.get("left_neighbor", [])),
        right=_neighbours(item.get("right_neighbor", [])),
        left_borders=_borders(item.get("left_boundaries", [])),
        right_borders=_borders(item.get("right_boundaries", [])),
    )


def _speed_limit(item: dict[str, Any]) -> float:
    """Speed limit [m/s]; 0 in the log means that there is none."""
    for key, unit in (("speed_limit_mph", MPH), ("speed_limit_kmh", _KMH)):
        value = item.get(key)
        if value is not None and float(value) > 0:
            return float(value) * unit
    return float("nan")


def _neighbours(items: Any) -> list[Neighbour]:
    found = []
    for item in items:
        if isinstance(item, dict):
            between = [_line_kind(str(part["boundary_type"])) for part in item.get("boundaries", [])]
            found.append(Neighbour(str(item["feature_id"]), between))
        else:
            found.append(Neighbour(str(item)))
    return found


def _borders(items: Any) -> list[Border]:
    return [
        Border(int(b["lane_start_index"]), int(b["lane_end_index"]), str(b["boundary_feature_id"]))
        for b in items
    ]


def lights_of(raw: dict[str, Any], num_steps: int, lane_rows: dict[str, int]) -> Lights:
    """Lights in both layouts: lane and stop point of the light, or of each of its steps.

    Steps without a state, or with lane 0 in the older layout, were not observed: UNKNOWN.
    """
    seen = []
    for key, item in raw.items():
        state = item["state"]
        codes = [_light_code(value) for value in list(state["object_state"])[:num_steps]]
        point = item.get("stop_point", state.get("stop_point"))
        points = np.broadcast_to(
            numbers(np.atleast_2d(np.asarray(point, np.float64)), -1, 3), (len(codes), 3)
        )
        lane = str(item.get("lane", key))
        stepped = np.ravel(state["lane"]) if "lane" in state else np.ones(len(codes))
        for step, (code, on, where) in enumerate(zip(codes, stepped, points, strict=False)):
            if code is not None and float(on) != 0:
                seen.append((step, lane, code, where))
    return pack_lights(seen, num_steps, lane_rows)


def _light_code(value: Any) -> int | None:
    """Waymo's code of a state; None where nothing was observed."""
    if value is None:
        return None
    return _LIGHT_CODES.get(value, -1) if isinstance(value, str) else int(value)
