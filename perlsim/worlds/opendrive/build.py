"""Putting an OpenDRIVE map together from its sampled roads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perlsim.errors import FormatError
from perlsim.geometry.drivable import edges_from_polygons
from perlsim.scenario import Array, Lanes, Markings, Ragged, Road
from perlsim.vocabulary import MarkingType
from perlsim.worlds.opendrive.boundaries import LaneSides, sides_of
from perlsim.worlds.opendrive.network import Node, neighbours, nodes_of, successors
from perlsim.worlds.opendrive.objects import read_crosswalks, read_stop_lines
from perlsim.worlds.opendrive.sections import MIN_SECTION, SampledRoad, Section
from perlsim.worlds.opendrive.signals import read_controllers, read_signals
from perlsim.worlds.opendrive.stencils import with_stencils
from perlsim.worlds.opendrive.types import OpenDriveMap
from perlsim.worlds.opendrive.xml import children, load

MAX_LINK_GAP = 2.0  # m, a link to a lane that starts farther away is the map's mistake (Town03 has one)


def build(path: Path, with_edges: bool) -> OpenDriveMap:
    """Reads and puts together a map; see `perlsim.worlds.opendrive.read`."""
    root = load(path)
    roads: dict[str, SampledRoad] = {}
    for element in children(root, "road"):
        road = SampledRoad(element)
        if road.road_id in roads:
            raise FormatError("two roads of the same id", field=f"road {road.road_id}")
        roads[road.road_id] = road
    if not roads:
        raise FormatError("no roads", remedy="check that the file is a complete map")
    nodes = [
        node
        for road in roads.values()
        for idx, section in enumerate(road.sections)
        if not section.too_short
        for lane in section.lanes.values()
        if lane.is_used
        for node in nodes_of(road, idx, lane)
    ]
    lane_of = {node: idx for idx, node in enumerate(nodes)}
    lanes = _lanes(roads, nodes, lane_of, successors(roads, root))
    sides = LaneSides.joined(
        [sides_of(section, section.lanes[node[2]], node[3]) for node, section in _sections(roads, nodes)]
    )
    signals = with_stencils(read_signals(roads, lane_of), lanes, roads)
    surfaces = _surfaces(roads)
    road = Road(
        lanes=lanes,
        markings=_markings(roads),
        edges=edges_from_polygons(surfaces.rows() if with_edges else []),
        crosswalks=Ragged.from_rows(read_crosswalks(roads), width=3),
        stop_signs=signals.stop_signs(),
    )
    return OpenDriveMap(
        path.name.split(".")[0],
        road,
        signals,
        surfaces,
        sides=sides,
        junctions=tuple("" if (name := roads[node[0]].junction) == "-1" else name for node in nodes),
        controllers=read_controllers(root, signals),
        stop_lines=Ragged.from_rows(read_stop_lines(roads), width=3),
    )


def _sections(roads: dict[str, SampledRoad], nodes: list[Node]):
    """Each directed lane with the section that it belongs to."""
    return [(node, roads[node[0]].sections[node[1]]) for node in nodes]


def _surfaces(roads: dict[str, SampledRoad]) -> Ragged:
    """Outlines of all lanes on which wheels belong, however narrow."""
    outlines = []
    for road in roads.values():
        for section in road.sections:
            for lane in section.lanes.values():
                if lane.kind is not None and lane.exists and not section.too_short:
                    left = section.points(np.maximum(lane.inner, lane.outer))
                    right = section.points(np.minimum(lane.inner, lane.outer))
                    outlines.append(np.concatenate([left, right[::-1]]))
    return Ragged.from_rows(outlines, width=3)


def _lanes(roads, nodes: list[Node], lane_of, following) -> Lanes:
    centres, widths, successor_rows, left_rows, right_rows = [], [], [], [], []
    for node in nodes:
        road, section = roads[node[0]], roads[node[0]].sections[node[1]]
        lane = section.lanes[node[2]]
        step = 1 if node[3] else -1
        centres.append(section.points(0.5 * (lane.inner + lane.outer))[::step])
        widths.append(np.abs(lane.outer - lane.inner)[::step])
        successor_rows.append([lane_of[n] for n in following.get(node, ()) if n in lane_of])
        for rows, side in zip((left_rows, right_rows), neighbours(road, node[1], node), strict=True):
            rows.append([lane_of[n] for n in side if n in lane_of])
    for centre, row in zip(centres, successor_rows, strict=True):
        row[:] = [other for other in row if np.linalg.norm(centres[other][0] - centre[-1]) < MAX_LINK_GAP]
    section_lanes = [roads[node[0]].sections[node[1]].lanes[node[2]] for node in nodes]
    return Lanes(
        centre=Ragged.from_rows(centres, width=3),
        width=np.concatenate([np.zeros(0), *widths]),
        kind=np.array([lane.kind for lane in section_lanes], np.int8),
        speed_limit=np.array([lane.speed_limit for lane in section_lanes], np.float64),
        in_junction=np.array([roads[node[0]].junction not in ("-1", "") for node in nodes], bool),
        successors=Ragged.from_rows(successor_rows, dtype=np.int32),
        left=Ragged.from_rows(left_rows, dtype=np.int32),
        right=Ragged.from_rows(right_rows, dtype=np.int32),
        ids=tuple(_name(roads, node) for node in nodes),
    )


def _name(roads, node: Node) -> str:
    road_id, section_idx, lane_id, forward = node
    against = roads[road_id].sections[section_idx].lanes[lane_id].both_ways and not forward
    return f"{road_id}.{section_idx}.{lane_id}{'r' if against else ''}"


def _markings(roads: dict[str, SampledRoad]) -> Markings:
    """Marks along +s on every boundary; unpainted borders only beside lanes and outside junctions."""
    lines, kinds = [], []
    for road in roads.values():
        for section in road.sections:
            if section.too_short:
                continue
            for lane in section.lanes.values():
                for mark in lane.marks if lane.lane_id == 0 or lane.exists else ():
                    if mark.kind is None or mark.end - mark.start < MIN_SECTION:
                        continue
                    if mark.kind == MarkingType.NONE and not _is_border(road, section, lane.lane_id):
                        continue
                    lines.append(_part(section, lane.outer, mark.start, mark.end))
                    kinds.append(mark.kind)
    return Markings(Ragged.from_rows(lines, width=3), np.array(kinds, np.int8))


def _is_border(road: SampledRoad, section: Section, lane_id: int) -> bool:
    """Whether the boundary outside a lane separates two lanes on which wheels belong, outside junctions."""
    if road.junction not in ("-1", ""):
        return False
    beside = (lane_id + 1, lane_id - 1) if lane_id == 0 else (lane_id, lane_id + (1 if lane_id > 0 else -1))
    lanes = [section.lanes.get(i) for i in beside]
    return all(lane is not None and lane.kind is not None and lane.exists for lane in lanes)


def _part(section: Section, t: Array, start: float, end: float) -> Array:
    """The line at lateral position ``t`` between two s, cut exactly at both."""
    inside = (section.s > start + 1e-6) & (section.s < end - 1e-6)
    points = section.points(t)
    ends = np.stack([np.interp([start, end], section.s, points[:, axis]) for axis in range(3)], axis=1)
    return np.concatenate([ends[:1], points[inside], ends[1:]])
