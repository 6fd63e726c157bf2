"""Argoverse 2 vector maps (``log_map_archive_*.json``), the same for sensor logs and motion scenarios.

Coordinates are metres in the city frame (x east, y north, z up). Source of the fields and of the kinds of
paint: the public map format of Argoverse 2 (Wilson et al., 2021).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perlsim.errors import FormatError
from perlsim.geometry.drivable import edges_from_polygons
from perlsim.readers.lane_rows import LaneRow, MarkingCollector, lane_graph, may_cross, same_direction
from perlsim.scenario import Array, Ragged, Road
from perlsim.vocabulary import LaneType, MarkingType

_LANE_TYPES = {"VEHICLE": LaneType.DRIVING, "BIKE": LaneType.BICYCLE, "BUS": LaneType.BUS}
# Colours carry no meaning of their own here. Mixed lines are named from left to right.
_MARKINGS = {
    "NONE": MarkingType.NONE,
    "UNKNOWN": MarkingType.UNKNOWN,
    "DASHED": MarkingType.BROKEN,
    "SOLID": MarkingType.SOLID,
    "DOUBLE_SOLID": MarkingType.DOUBLE_SOLID,
    "DOUBLE_DASH": MarkingType.DOUBLE_BROKEN,
    "SOLID_DASH": MarkingType.SOLID_BROKEN,
    "DASH_SOLID": MarkingType.BROKEN_SOLID,
}
_COLOURS = ("_WHITE", "_YELLOW", "_BLUE")
_LARGEST = 200_000_000  # bytes; real archives are a few megabytes


@dataclass(frozen=True)
class Av2Map:
    """A map archive.

    Attributes:
        road: lanes, markings, edges and crosswalks in the city frame, float64.
        surface: ``[N, 3]`` m, points on the road surface (lane borders), for heights.
    """

    road: Road
    surface: Array


def find_map(folder: Path) -> Path:
    """The map archive of a log: beside its files, or in its folder ``map``.

    Raises:
        FormatError: where there is none, or more than one.
    """
    found = sorted(folder.glob("log_map_archive_*.json")) + sorted(folder.glob("map/log_map_archive_*.json"))
    if len(found) != 1:
        raise FormatError(
            f"expected one log_map_archive_*.json, here or in the folder map, found {len(found)}",
            file=folder,
            remedy="fetch the whole log, with its map",
        )
    return found[0]


def read_map(path: Path) -> Av2Map:
    """Reads a map archive.

    Raises:
        FormatError: where the file is not JSON or lacks what the format promises.
    """
    archive = _load(path)
    lanes = {
        str(key): _lane(path, str(key), entry) for key, entry in _section(archive, "lane_segments", path)
    }
    surface = [np.zeros((0, 3))]
    collector = MarkingCollector()
    for row, entry in lanes.values():
        surface += [row.left, row.right]
        for side, line in (("left", row.left), ("right", row.right)):
            collector.add(line, _marking(entry, side))
    for row, entry in lanes.values():
        row.left_ids = _neighbour(lanes, row, entry, "left")
        row.right_ids = _neighbour(lanes, row, entry, "right")
    crossings = [
        _crossing(path, str(key), entry) for key, entry in _section(archive, "pedestrian_crossings", path)
    ]
    areas = [
        _points(path, entry, "area_boundary", f"drivable_areas.{key}")
        for key, entry in _section(archive, "drivable_areas", path)
    ]
    road = Road(
        lanes=lane_graph([row for row, _ in lanes.values()]),
        markings=collector.markings(),
        edges=edges_from_polygons(areas),
        crosswalks=Ragged.from_rows(crossings, width=3),
    )
    return Av2Map(road, np.concatenate(surface))


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise FormatError(f"the file is larger than {_LARGEST} bytes", file=path)
        # The standard parser, because some archives hold heights that are NaN, which strict JSON does not
        # know.
        archive = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(
            f"not readable as JSON: {error}", file=path, remedy="fetch the file again"
        ) from error
    if not isinstance(archive, dict):
        raise FormatError("expected a JSON object", file=path)
    return archive


def _section(archive: Mapping[str, Any], name: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    section = archive.get(name)
    if not isinstance(section, dict) or not all(isinstance(entry, dict) for entry in section.values()):
        raise FormatError("expected an object of objects", file=path, field=name)
    return list(section.items())


def _points(path: Path, entry: Mapping[str, Any], key: str, where: str) -> Array:
    """A polyline ``[n, 3]`` m; heights that are NaN become the median of the others."""
    try:
        points = np.array([[p["x"], p["y"], p["z"]] for p in entry[key]], np.float64).reshape(-1, 3)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError("expected a list of points x, y, z", file=path, field=f"{where}.{key}") from error
    if not len(points):
        raise FormatError("expected points, found none", file=path, field=f"{where}.{key}")
    unknown = ~np.isfinite(points[:, 2])
    if unknown.any():
        points[unknown, 2] = np.median(points[~unknown, 2]) if not unknown.all() else 0.0
    if not np.isfinite(points).all() or np.abs(points).max() > 1e9:
        raise FormatError("expected finite coordinates below 1e9", file=path, field=f"{where}.{key}")
    return points


def _lane(path: Path, key: str, entry: dict[str, Any]) -> tuple[LaneRow, dict[str, Any]]:
    where = f"lane_segments.{key}"
    successors = entry.get("successors")
    if not isinstance(successors, list):
        raise FormatError("expected a list of lane ids", file=path, field=f"{where}.successors")
    row = LaneRow(
        id=key,
        left=_points(path, entry, "left_lane_boundary", where),
        right=_points(path, entry, "right_lane_boundary", where),
        kind=_LANE_TYPES.get(str(entry.get("lane_type")), LaneType.UNKNOWN),
        in_junction=bool(entry.get("is_intersection")),
        successors=[str(name) for name in successors],
    )
    return row, entry


def _marking(entry: Mapping[str, Any], side: str) -> MarkingType:
    name = str(entry.get(f"{side}_lane_mark_type"))
    for colour in _COLOURS:
        name = name.removesuffix(colour)
    return _MARKINGS.get(name, MarkingType.UNKNOWN)


def _neighbour(lanes: Mapping[str, tuple[LaneRow, dict]], row: LaneRow, entry: dict, side: str) -> list[str]:
    """The neighbour on a side where it is in the archive, runs the same way and may be changed into."""
    name = str(entry.get(f"{side}_neighbor_id"))
    if name not in lanes or not may_cross(_marking(entry, side), to_the_left=side == "left"):
        return []
    return [name] if same_direction(row.left, lanes[name][0].left) else []


def _crossing(path: Path, key: str, entry: Mapping[str, Any]) -> Array:
    """A crosswalk polygon from its two long edges, which may run the same way or opposite ways."""
    one = _points(path, entry, "edge1", f"pedestrian_crossings.{key}")
    two = _points(path, entry, "edge2", f"pedestrian_crossings.{key}")
    return np.concatenate([one, two[::-1] if same_direction(one, two) else two])
