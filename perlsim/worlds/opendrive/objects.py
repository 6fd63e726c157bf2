"""Objects of an OpenDRIVE map that traffic heeds: crosswalks and painted stop lines."""

from __future__ import annotations

import numpy as np

from perlsim.scenario import Array
from perlsim.worlds.opendrive.sections import SampledRoad
from perlsim.worlds.opendrive.xml import Element, child, children, number


def read_crosswalks(roads: dict[str, SampledRoad]) -> list[Array]:
    """Outlines ``[n, 3]`` m of the crosswalk objects, without the repeated first point.

    Newer exporters write crosswalks as objects of type "-1" that are known by their names.
    """
    outlines = []
    for road in roads.values():
        for element in _objects(road):
            name = element.get("name", "").lower()
            kind = element.get("type", "").lower()
            if kind == "crosswalk" or (kind in ("", "-1") and "crosswalk" in name and "stop" not in name):
                outline = _outline(road, element)
                if np.array_equal(outline[0], outline[-1]):
                    outline = outline[:-1]
                if len(outline) >= 3:
                    outlines.append(outline)
    return outlines


def read_stop_lines(roads: dict[str, SampledRoad]) -> list[Array]:
    """Painted stop lines, from end to end, ``[n, 3]`` m."""
    lines = []
    for road in roads.values():
        for element in _objects(road):
            name = element.get("name", "").lower().replace("_", "")
            if not name.startswith("stopline") and element.get("subtype", "").lower() != "stopline":
                continue
            outline = _outline(road, element)
            if len(outline) > 2:
                outline = _spine(outline)
            if np.ptp(outline[:, :2], axis=0).max() > 0:
                lines.append(outline)
        for element in children(child(road.element, "signals"), "signal"):
            if element.get("name", "").lower().startswith("stopline"):
                lines += _across_lane(road, number(element, "s"), number(element, "t", 0.0))
    return lines


def _across_lane(road: SampledRoad, s: float, t: float) -> list[Array]:
    """The line across the lane at a point: newer exporters write stop lines as signals, without their ends."""
    section = road.sections[road.section_at(s)]
    at = np.array([s])
    for lane in section.lanes.values():
        ends = sorted(float(np.interp(s, section.s, side)) for side in (lane.inner, lane.outer))
        if lane.lane_id and ends[0] < t < ends[1]:
            return [np.concatenate([road.points(at, np.array([end]))[0] for end in ends])]
    return []


def _objects(road: SampledRoad) -> list[Element]:
    return children(child(road.element, "objects"), "object")


def _spine(outline: Array) -> Array:
    """The two points midway along the short sides of a long outline."""
    centre = outline.mean(0)
    axis = np.append(np.linalg.svd(outline[:, :2] - centre[:2], full_matrices=False)[2][0], 0.0)
    along = (outline - centre) @ axis
    return centre + axis * np.array([[along.min()], [along.max()]])


def _outline(road: SampledRoad, element: Element) -> Array:
    holder = child(element, "outline")
    if holder is None:
        holder = child(child(element, "outlines"), "outline")
    corners = children(holder, "cornerRoad")
    if corners:
        s, t = (np.array([number(c, key) for c in corners]) for key in "st")
        return road.points(s, t)[0] + np.array([[0, 0, number(c, "dz", 0.0)] for c in corners])
    corners = children(holder, "cornerLocal")
    if corners:
        local = np.array([[number(c, key, 0.0) for key in "uvz"] for c in corners])
    else:
        half = 0.5 * np.array([number(element, "length", 0.0), number(element, "width", 0.0)])
        local = np.array([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]]) * [*half, 0]
    origin, heading = road.points(np.array([number(element, "s")]), np.array([number(element, "t", 0.0)]))
    angle = heading[0] + number(element, "hdg", 0.0)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y, z = local.T
    return origin[0] + np.stack(
        [cos * x - sin * y, sin * x + cos * y, z + number(element, "zOffset", 0.0)], 1
    )
