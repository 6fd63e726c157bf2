"""The lane graph of an OpenDRIVE map: which lane leads into which, along roads and through junctions."""

from __future__ import annotations

from collections import defaultdict

from perlsim.worlds.opendrive.sections import TRAFFIC, SampledRoad, SectionLane
from perlsim.worlds.opendrive.xml import Element, child, children, integer

# A lane of one section driven in one direction: road id, section index, lane id, along +s.
Node = tuple[str, int, int, bool]


def nodes_of(road: SampledRoad, section_idx: int, lane: SectionLane) -> list[Node]:
    """The directed lanes that one section lane stands for: two where traffic runs both ways."""
    forward = road.forward(lane.lane_id)
    directions = (True, False) if lane.both_ways else (forward,)
    return [(road.road_id, section_idx, lane.lane_id, direction) for direction in directions]


def successors(roads: dict[str, SampledRoad], root: Element) -> dict[Node, list[Node]]:
    """Successors of every lane that exists, in no particular order, without repeats."""
    joined: dict[Node, dict[Node, None]] = defaultdict(dict)
    for road in roads.values():
        _join_sections(road, joined)
        for at_end in (False, True):
            _join_road_link(roads, road, at_end, joined)
    for junction in children(root, "junction"):
        for connection in children(junction, "connection"):
            _join_connection(roads, junction, connection, joined)
    return _without_gaps(roads, joined)


def _join(roads, first, second, joined) -> None:
    """Joins two contacts, (road id, section index, lane id, at its +s end), in the direction of traffic."""
    for a, b in ((first, second), (second, first)):
        lanes = [roads[part[0]].sections[part[1]].lanes.get(part[2]) for part in (a, b)]
        if lanes[0] is None or lanes[1] is None or lanes[0].kind is None or lanes[1].kind is None:
            return
        for leaving in nodes_of(roads[a[0]], a[1], lanes[0]):
            for entering in nodes_of(roads[b[0]], b[1], lanes[1]):
                if leaving[3] == a[3] and entering[3] != b[3]:
                    joined[leaving][entering] = None


def _join_sections(road: SampledRoad, joined) -> None:
    roads = {road.road_id: road}
    for idx, (section, following) in enumerate(zip(road.sections, road.sections[1:], strict=False)):
        pairs = {(i, other) for i, lane in section.lanes.items() for other in lane.successor}
        pairs |= {(other, i) for i, lane in following.lanes.items() for other in lane.predecessor}
        for here, there in pairs:
            _join(roads, (road.road_id, idx, here, True), (road.road_id, idx + 1, there, False), joined)


def _road_link(road: SampledRoad, at_end: bool) -> tuple[str | None, str, str]:
    """Element type, id and contact point of a road's link; type None where there is none."""
    link = child(child(road.element, "link"), "successor" if at_end else "predecessor")
    if link is None:
        return None, "", ""
    return link.get("elementType", "road"), link.get("elementId", ""), link.get("contactPoint", "start")


def _contact(road: SampledRoad, at_end: bool) -> int:
    return len(road.sections) - 1 if at_end else 0


def _join_road_link(roads: dict[str, SampledRoad], road: SampledRoad, at_end: bool, joined) -> None:
    kind, other_id, contact = _road_link(road, at_end)
    if kind != "road" or other_id not in roads:
        return
    other_end = contact == "end"
    here, there = _contact(road, at_end), _contact(roads[other_id], other_end)
    for lane_id, lane in road.sections[here].lanes.items():
        for target in lane.successor if at_end else lane.predecessor:
            _join(roads, (road.road_id, here, lane_id, at_end), (other_id, there, target, other_end), joined)


def _join_connection(roads: dict[str, SampledRoad], junction: Element, connection: Element, joined) -> None:
    incoming = roads.get(connection.get("incomingRoad", ""))
    connecting = roads.get(connection.get("connectingRoad", connection.get("linkedRoad", "")))
    if incoming is None or connecting is None:
        return
    connecting_end = connection.get("contactPoint") == "end"
    _, linked, contact = _road_link(connecting, connecting_end)
    if linked == incoming.road_id:
        ends = [contact == "end"]
    else:
        wanted = ("junction", junction.get("id"))
        ends = [end for end in (False, True) if _road_link(incoming, end)[:2] == wanted]
    for link in children(connection, "laneLink"):
        for end in ends:
            _join(
                roads,
                (incoming.road_id, _contact(incoming, end), integer(link, "from"), end),
                (
                    connecting.road_id,
                    _contact(connecting, connecting_end),
                    integer(link, "to"),
                    connecting_end,
                ),
                joined,
            )


def _without_gaps(roads: dict[str, SampledRoad], joined) -> dict[Node, list[Node]]:
    """Drops lanes of no length or width; links pass through those that are merely too short."""

    def section(node: Node):
        return roads[node[0]].sections[node[1]]

    def exists(node: Node) -> bool:
        return section(node).lanes[node[2]].exists

    result = {}
    for node in joined:
        if section(node).too_short or not exists(node):
            continue
        found: dict[Node, None] = {}
        queue, seen = list(joined[node]), {node}
        while queue:
            following = queue.pop(0)
            if (following in seen and following != node) or not exists(following):
                continue
            seen.add(following)
            if section(following).too_short:
                queue += joined.get(following, ())
            else:
                found[following] = None
        result[node] = list(found)
    return result


def neighbours(road: SampledRoad, section_idx: int, node: Node) -> tuple[list[Node], list[Node]]:
    """Lanes beside a lane that run the same way and may be changed into: on its left, on its right.

    A change is ruled out where no mark on the boundary in between allows it anywhere along the section.
    """
    lanes = road.sections[section_idx].lanes
    lane = lanes[node[2]]
    if lane.kind not in TRAFFIC:
        return [], []
    side = 1 if lane.lane_id > 0 else -1
    sides: list[list[Node]] = [[], []]
    for step in (-1, 1):
        other = lanes.get(lane.lane_id + step * side)
        if other is None or other.lane_id * side <= 0 or other.kind not in TRAFFIC or not other.exists:
            continue
        candidates = [n for n in nodes_of(road, section_idx, other) if n[3] == node[3]]
        is_left_of_s = other.lane_id > lane.lane_id
        inner_lane = lane if step > 0 else other
        if not _closed_from(inner_lane, lane_is_left=not is_left_of_s):
            sides[0 if is_left_of_s == node[3] else 1] += candidates
    return sides[0], sides[1]


def _closed_from(inner: SectionLane, lane_is_left: bool) -> bool:
    """Whether the outer boundary of ``inner`` is closed throughout to one who comes from that side of +s."""
    allowed = [mark.change_right if lane_is_left else mark.change_left for mark in inner.marks]
    return bool(allowed) and not any(allowed)
