"""What the Waymo-derived formats share: vocabularies, map features and lights by lane.

Codes are those of the public Waymo Open Motion schema (``map.proto``; the combined codes of tf.Example's
``roadgraph_samples/type``, which GPUDrive's ``map_element_id`` repeats).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import shapely

from perlsim.geometry import polylines
from perlsim.readers.fields import ODD_STATE
from perlsim.scenario import Array, Lanes, Lights, Markings, Ragged, Road, StopSigns
from perlsim.vocabulary import AgentType, LaneType, LightState, MarkingType

MPH = 0.44704  # m/s
_SIDE = (0.75, 4.0)  # m, plausible distances from a lane's centre line to its border
_HALF_SPACING = 2.5  # m, half the greatest distance of neighbouring centre lines that tells their width
_JUNCTION_LENGTH = 80.0  # m, longest lane that is taken for one across a junction [S]
_TOUCH = 0.1  # m, between the end of a lane and the start of the next

AGENT_KINDS = (AgentType.UNKNOWN, AgentType.VEHICLE, AgentType.PEDESTRIAN, AgentType.CYCLIST)
LANE_KINDS = (LaneType.UNKNOWN, LaneType.FREEWAY, LaneType.DRIVING, LaneType.BICYCLE)
# By RoadLineType. A passing double yellow line may be crossed from one side, and the data do not say from
# which: it is taken as one that may be crossed from both.
LINE_KINDS = (
    MarkingType.UNKNOWN,
    MarkingType.BROKEN,
    MarkingType.SOLID,
    MarkingType.DOUBLE_SOLID,
    MarkingType.BROKEN,
    MarkingType.DOUBLE_BROKEN,
    MarkingType.SOLID,
    MarkingType.DOUBLE_SOLID,
    MarkingType.DOUBLE_BROKEN,
)
# By TrafficSignalLaneState.State: arrows fold into their colour.
LIGHT_STATES = (
    LightState.UNKNOWN,
    LightState.RED,
    LightState.YELLOW,
    LightState.GREEN,
    LightState.RED,
    LightState.YELLOW,
    LightState.GREEN,
    LightState.FLASHING_RED,
    LightState.FLASHING_YELLOW,
)
# Combined codes: lanes 0–3, road lines 5–13, edges 14–16, then single kinds.
FIRST_LINE, FIRST_EDGE, STOP_SIGN, CROSSWALK, SPEED_BUMP, DRIVEWAY = 5, 14, 17, 18, 19, 20
_UNCROSSED = {MarkingType.SOLID, MarkingType.DOUBLE_SOLID}


@dataclass
class Border:
    """The feature that borders a lane from one of its points to another."""

    first: int
    last: int
    feature: str


@dataclass
class Neighbour:
    """A lane beside a lane, and the kinds of the lines between them."""

    lane: str
    between: list[MarkingType] = field(default_factory=list)


@dataclass
class LaneFeature:
    """A lane as Waymo's schema has it; references are by feature id."""

    centre: Array
    kind: LaneType = LaneType.UNKNOWN
    speed_limit: float = float("nan")
    in_junction: bool = False
    exits: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    left: list[Neighbour] = field(default_factory=list)
    right: list[Neighbour] = field(default_factory=list)
    left_borders: list[Border] = field(default_factory=list)
    right_borders: list[Border] = field(default_factory=list)
    width: Array | None = None


class MapFeatures:
    """Collects map features by id and packs them into a `Road`."""

    def __init__(self):
        self.lanes: dict[str, LaneFeature] = {}
        self.lines: dict[str, tuple[Array, MarkingType]] = {}
        self.edges: dict[str, Array] = {}
        self.crosswalks: list[Array] = []
        self.stop_signs: list[tuple[Array, list[str]]] = []

    def add_coded(self, name: str, code: int, points: Array) -> None:
        """Adds a feature by its combined code; speed bumps and driveways are left out."""
        if 0 <= code < 4:
            self.lanes[name] = LaneFeature(points, LANE_KINDS[code])
        elif FIRST_LINE <= code < FIRST_LINE + len(LINE_KINDS):
            self.lines[name] = (points, LINE_KINDS[code - FIRST_LINE])
        elif FIRST_EDGE <= code < STOP_SIGN:
            self.edges[name] = points
        elif code == STOP_SIGN and len(points):
            self.stop_signs.append((points[0], []))
        elif code == CROSSWALK:
            self.crosswalks.append(points)

    def connect_touching(self) -> tuple[str, ...]:
        """Adds successors where one lane ends within 0.1 m of where another starts, turning under 60 degrees.

        For formats without a lane graph. On Waymo maps, whose graph is known, this finds 99 to 100 % of the
        successors, and 93.7 to 100 % of what it finds is in the graph.

        Returns:
            A sentence for `Scenario.repairs`, or none.
        """
        names = [name for name, lane in self.lanes.items() if len(lane.centre) > 1]
        if not names:
            return ()
        lines = [self.lanes[name].centre for name in names]
        directions = [polylines.headings(line) for line in lines]
        starts, ends = np.array([line[0] for line in lines]), np.array([line[-1] for line in lines])
        turn = np.array([d[-1] for d in directions])[:, None] - np.array([d[0] for d in directions])
        near = np.linalg.norm(ends[:, None] - starts, axis=-1) < _TOUCH
        pairs = np.argwhere(near & (np.cos(turn) > 0.5))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        for one, two in pairs.tolist():
            self.lanes[names[one]].exits.append(names[two])
        if not len(pairs):
            return ()
        return (
            f"{len(pairs)} lane successors were inferred from lanes that touch: the log has no lane graph",
        )

    def lane_rows(self) -> dict[str, int]:
        """Row of each lane in the packed arrays."""
        return {name: row for row, name in enumerate(self.lanes)}

    def road(self, lights: Lights | None = None) -> Road:
        """All features, packed; lanes that ``lights`` control start at a stop line: they lie in junctions."""
        lines, lanes = list(self.lines.values()), self._packed_lanes()
        if lights is not None:
            lanes.in_junction[lights.lane_idx[lights.lane_idx >= 0]] = True
        return Road(
            lanes=lanes,
            markings=Markings(
                Ragged.from_rows([points for points, _ in lines], width=3),
                np.array([kind for _, kind in lines], np.int8),
            ),
            edges=Ragged.from_rows(self.edges.values(), width=3),
            crosswalks=Ragged.from_rows(self.crosswalks, width=3),
            stop_signs=self._packed_stop_signs(),
        )

    def _packed_lanes(self) -> Lanes:
        rows, lanes = self.lane_rows(), list(self.lanes.values())
        following: list[dict[int, None]] = [
            {rows[name]: None for name in lane.exits if name in rows} for lane in lanes
        ]
        for row, lane in enumerate(lanes):
            for name in lane.entries:
                if name in rows:
                    following[rows[name]][row] = None
        widths = [self._width(lane) if lane.width is None else lane.width for lane in lanes]
        return Lanes(
            centre=Ragged.from_rows([lane.centre for lane in lanes], width=3),
            width=np.concatenate([np.zeros(0), *widths]),
            kind=np.array([lane.kind for lane in lanes], np.int8),
            speed_limit=np.array([lane.speed_limit for lane in lanes], np.float64),
            in_junction=self._in_junction([list(found) for found in following]),
            successors=Ragged.from_rows([list(found) for found in following], dtype=np.int32),
            left=self._packed_neighbours([lane.left for lane in lanes], rows),
            right=self._packed_neighbours([lane.right for lane in lanes], rows),
            ids=tuple(rows),
        )

    def _in_junction(self, following: list[list[int]]) -> Array:
        """Lanes marked as in a junction; where none is marked, those that cross others, and their siblings.

        Siblings are the other lanes that start where a crossing lane starts: a right turn crosses nothing.
        """
        lanes = list(self.lanes.values())
        marked = np.array([lane.in_junction for lane in lanes], bool)
        if marked.any():
            return marked
        # A longer lane is a street that a driveway crosses.
        short = [polylines.arc_lengths(lane.centre)[-1:] < _JUNCTION_LENGTH for lane in lanes]
        marked |= crossing([lane.centre for lane in lanes]) & np.array([row.all() for row in short], bool)
        for targets in following:
            if len(targets) > 1 and marked[targets].any():
                marked[targets] = True
        return marked

    def _packed_neighbours(self, sides: list[list[Neighbour]], rows: dict[str, int]) -> Ragged:
        """Neighbours that run the same way and are not wholly behind a solid line."""
        lanes = list(self.lanes.values())
        packed = []
        for own, side in zip(lanes, sides, strict=True):
            found = {}
            for neighbour in side:
                row = rows.get(neighbour.lane)
                solid = bool(neighbour.between) and all(kind in _UNCROSSED for kind in neighbour.between)
                if row is not None and not solid and _same_way(own.centre, lanes[row].centre):
                    found[row] = None
            packed.append(list(found))
        return Ragged.from_rows(packed, dtype=np.int32)

    def _width(self, lane: LaneFeature) -> Array:
        """Width at each point: distances to the borders on both sides, NaN where neither is known."""
        left = self._side(lane, lane.left_borders, lane.left)
        right = self._side(lane, lane.right_borders, lane.right)
        left, right = np.where(np.isnan(left), right, left), np.where(np.isnan(right), left, right)
        return left + right

    def _side(self, lane: LaneFeature, borders: list[Border], beside: list[Neighbour]) -> Array:
        """Distance from the centre line to the border of one side, ``[n]``; NaN where there is none."""
        points = np.asarray(shapely.points(lane.centre[:, :2]))
        distance = np.full(len(points), np.nan)
        for neighbour in beside:
            other = self.lanes.get(neighbour.lane)
            if other is not None and len(other.centre) > 1:
                half = 0.5 * shapely.distance(points, shapely.LineString(other.centre[:, :2]))
                distance = np.fmin(distance, np.where(half < _HALF_SPACING, half, np.nan))
        for border in borders:
            line = self.lines.get(border.feature, (self.edges.get(border.feature),))[0]
            part = slice(max(border.first, 0), border.last + 1)
            if line is not None and len(line) > 1 and len(points[part]):
                distance[part] = shapely.distance(points[part], shapely.LineString(line[:, :2]))
        known = np.flatnonzero((distance > _SIDE[0]) & (distance < _SIDE[1]))
        if not len(known):
            return np.full(len(points), np.nan)
        arcs = polylines.arc_lengths(lane.centre)
        return np.interp(arcs, arcs[known], distance[known])

    def _packed_stop_signs(self) -> StopSigns:
        """One row for each controlled lane, at the lane's point nearest to the sign."""
        rows = self.lane_rows()
        positions, lane_rows = [], []
        for position, names in self.stop_signs:
            known = [name for name in names if name in rows and len(self.lanes[name].centre) > 1]
            for name in known:
                line = self.lanes[name].centre
                arc = polylines.project(line, position[None]).arc
                positions.append(polylines.interpolate(line, arc)[0])
                lane_rows.append(rows[name])
            if not known:
                positions.append(position)
                lane_rows.append(-1)
        return StopSigns(
            np.array(positions).reshape(-1, 3), np.full(len(positions), np.nan), np.array(lane_rows, np.int32)
        )


def crossing(centres: list[Array]) -> Array:
    """Lanes ``[P]`` whose inner part crosses another lane at the same height and at over 20 degrees."""
    found = np.zeros(len(centres), bool)
    usable = [i for i, line in enumerate(centres) if len(line) > 1 and np.isfinite(line).all()]
    lines = [shapely.LineString(centres[i][:, :2]) for i in usable]
    pairs = shapely.STRtree(lines).query(lines, predicate="crosses").T
    for a, b in pairs[pairs[:, 0] < pairs[:, 1]].tolist():
        point = shapely.get_coordinates(lines[a].intersection(lines[b]))[:1]
        directions, heights, margins = [], [], []
        for line in (centres[usable[a]], centres[usable[b]]):
            hit = polylines.project(line, point)
            directions.append(polylines.headings(line)[hit.segment[0]])
            heights.append(polylines.interpolate(line, hit.arc)[0, 2])
            margins.append(min(hit.arc[0], polylines.arc_lengths(line)[-1] - hit.arc[0]))
        steep = abs(np.sin(directions[0] - directions[1])) > np.sin(np.radians(20))
        if steep and abs(heights[0] - heights[1]) < 3.0 and min(margins) > 1.0:
            found[[usable[a], usable[b]]] = True
    return found


def _same_way(a: Array, b: Array) -> bool:
    """Whether two lanes side by side run the same way, by their directions where they are nearest."""
    if len(a) < 2 or len(b) < 2:
        return False
    middle = len(a) // 2
    segment = polylines.project(b, a[middle : middle + 1]).segment[0]
    turn = polylines.headings(a)[middle] - polylines.headings(b)[segment]
    return bool(np.cos(turn) > 0)


def pack_lights(
    seen: Iterable[tuple[int, str, int, Array]], num_steps: int, lane_rows: dict[str, int]
) -> Lights:
    """Lights from observations, one row for each lane, UNKNOWN at steps without one.

    Args:
        seen: step, lane id, Waymo state code, stop point ``[3]`` m.
        num_steps: T; observations at other steps are left out.
        lane_rows: row of each lane id.
    """
    states: dict[str, Array] = {}
    points: dict[str, list[Array]] = {}
    for step, lane, code, point in seen:
        if not 0 <= step < num_steps:
            continue
        known = 0 <= code < len(LIGHT_STATES)
        state = LIGHT_STATES[code] if known else ODD_STATE
        states.setdefault(lane, np.zeros(num_steps, np.int8))[step] = state
        points.setdefault(lane, []).append(point)
    return Lights(
        position=np.array([np.median(points[lane], axis=0) for lane in states]).reshape(-1, 3),
        heading=np.full(len(states), np.nan),
        lane_idx=np.array([lane_rows.get(lane, -1) for lane in states], np.int32),
        state=np.array(list(states.values()), np.int8).reshape(-1, num_steps),
    )
