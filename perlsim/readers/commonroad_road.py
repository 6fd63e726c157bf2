"""The map of a CommonRoad file: lanelets, traffic signs, traffic lights and intersections.

Kinds and meanings as in the CommonRoad 2020a documentation (Althoff, Würsching et al., Technical University
of Munich).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import shapely

from perlsim.errors import FormatError
from perlsim.geometry.drivable import edges_from_lanes
from perlsim.geometry.polylines import wrap
from perlsim.lights import LightProgramme
from perlsim.readers.commonroad_xml import Element, number, place_of, points, references, value_of
from perlsim.readers.fields import ODD_STATE
from perlsim.readers.lane_rows import LaneRow, MarkingCollector, lane_graph, may_cross
from perlsim.scenario import Array, Lights, Ragged, Road, StopSigns
from perlsim.vocabulary import LaneType, LightState, MarkingType

_LANE_TYPES = {
    "urban": LaneType.DRIVING,
    "country": LaneType.DRIVING,
    "driveWay": LaneType.DRIVING,
    "intersection": LaneType.DRIVING,
    "highway": LaneType.FREEWAY,
    "interstate": LaneType.FREEWAY,
    "mainCarriageWay": LaneType.FREEWAY,
    "accessRamp": LaneType.FREEWAY,
    "exitRamp": LaneType.FREEWAY,
    "shoulder": LaneType.SHOULDER,
    "busLane": LaneType.BUS,
    "bicycleLane": LaneType.BICYCLE,
    "parking": LaneType.PARKING,
}
_NOT_LANES = ("crosswalk", "sidewalk", "border", "stairs")

# Mixed lines are named from left to right. A curb is a border without paint.
_MARKINGS = {
    "no_marking": MarkingType.NONE,
    "curb": MarkingType.NONE,
    "lowered_curb": MarkingType.NONE,
    "dashed": MarkingType.BROKEN,
    "broad_dashed": MarkingType.BROKEN,
    "solid": MarkingType.SOLID,
    "broad_solid": MarkingType.SOLID,
    "solid_solid": MarkingType.DOUBLE_SOLID,
    "dashed_dashed": MarkingType.DOUBLE_BROKEN,
    "solid_dashed": MarkingType.SOLID_BROKEN,
    "dashed_solid": MarkingType.BROKEN_SOLID,
    "unknown": MarkingType.UNKNOWN,
}

# Signs by their national numbers: Germany, USA, Spain (CommonRoad gives other countries the German ones).
_SPEED_SIGNS = ("274", "274.1", "R2-1", "r301")
_STOP_SIGNS = ("206", "R1-1", "r2")

# Both red: traffic may not start before green. A light that is out of order is off.
_COLOURS = {
    "red": LightState.RED,
    "redYellow": LightState.RED,
    "yellow": LightState.YELLOW,
    "green": LightState.GREEN,
    "inactive": LightState.OFF,
}
_MOVEMENTS = {
    "left": ("left",),
    "right": ("right",),
    "straight": ("straight",),
    "leftStraight": ("left", "straight"),
    "straightRight": ("straight", "right"),
    "leftRight": ("left", "right"),
}
_STRAIGHT = np.pi / 6  # rad, least change of direction of a turn
_OVERLAP = 0.1  # of its area, least share of a lanelet inside a junction that other lanelets cover


class CommonRoadMap:
    """The map of one file.

    Attributes:
        road: lanes, markings, edges, crosswalks and stop signs in the file's frame, float64.
        repairs: what was left out, one sentence each.
    """

    def __init__(self, root: Element, path: Path):
        self._path = path
        self._root = root
        self.repairs: list[str] = []
        self._elements: dict[str, Element] = {}
        self._rows: dict[str, LaneRow] = {}
        self._crosswalks: list[Array] = []
        speeds, stops = self._signs()
        self._read_lanelets(speeds)
        self._movements = self._intersections()
        self._mark_junctions()
        self._index = {name: i for i, name in enumerate(self._rows)}
        rows = list(self._rows.values())
        self.road = Road(
            lanes=lane_graph(rows),
            markings=self._markings(),
            edges=edges_from_lanes([row.left for row in rows], [row.right for row in rows]),
            crosswalks=Ragged.from_rows(self._crosswalks, width=3),
            stop_signs=self._stop_signs(stops),
        )

    def _read_lanelets(self, speeds: Mapping[str, float]) -> None:
        repeated, short = 0, 0
        for element in self._root.findall("lanelet"):
            name = element.get("id", "")
            if name in self._elements:
                repeated += 1
                continue
            left, right = (self._border(element, side) for side in ("leftBound", "rightBound"))
            kinds = [child.text or "" for child in element.findall("laneletType")]
            if min(len(left), len(right)) < 2:
                short += 1
                continue
            if any(kind in _NOT_LANES for kind in kinds):
                if "crosswalk" in kinds:
                    self._crosswalks.append(np.concatenate([left, right[::-1]]))
                continue
            self._elements[name] = element
            self._rows[name] = LaneRow(
                id=name,
                left=left,
                right=right,
                kind=next((_LANE_TYPES[kind] for kind in kinds if kind in _LANE_TYPES), LaneType.UNKNOWN),
                speed_limit=self._speed_limit(element, speeds),
                in_junction="intersection" in kinds,
                successors=references(element, "successor"),
                left_ids=self._neighbour(element, "Left"),
                right_ids=self._neighbour(element, "Right"),
            )
        if repeated:
            self.repairs.append(f"{repeated} lanelets had an id that was taken: left out")
        if short:
            self.repairs.append(f"{short} lanelets had a border of fewer than two points: left out")

    def _border(self, lanelet: Element, side: str) -> Array:
        element = lanelet.find(side)
        if element is None:
            raise FormatError(f"{side} is missing", file=self._path, field=place_of(lanelet))
        return points(element, self._path)

    def _paint(self, lanelet: Element, side: str) -> MarkingType:
        kind = lanelet.findtext(f"{side}/lineMarking")
        return MarkingType.NONE if kind is None else _MARKINGS.get(kind, MarkingType.UNKNOWN)

    def _neighbour(self, lanelet: Element, side: str) -> list[str]:
        adjacent = lanelet.find(f"adjacent{side}")
        if adjacent is None or adjacent.get("drivingDir") != "same":
            return []
        paint = self._paint(lanelet, f"{side.lower()}Bound")
        return [adjacent.get("ref", "")] if may_cross(paint, to_the_left=side == "Left") else []

    def _markings(self):
        collector = MarkingCollector()
        for name, row in self._rows.items():
            element = self._elements[name]
            for side, line in (("Left", row.left), ("Right", row.right)):
                paint = self._paint(element, f"{side.lower()}Bound")
                adjacent = element.find(f"adjacent{side}")
                if adjacent is None or adjacent.get("ref") not in self._rows:
                    collector.add(line, paint)
                    continue
                # The points of a shared border may differ by centimetres between its two lanelets.
                beside = {"Left": "Right", "Right": "Left"}[side]
                if adjacent.get("drivingDir") == "opposite":
                    beside = side
                collector.add(line, paint, (name, side), (adjacent.get("ref"), beside))
        return collector.markings()

    def _signs(self) -> tuple[dict[str, float], set[str]]:
        """Speed limits [m/s] and stop signs, by the ids of their traffic signs."""
        speeds: dict[str, float] = {}
        stops: set[str] = set()
        for sign in self._root.findall("trafficSign"):
            name = sign.get("id", "")
            for element in sign.findall("trafficSignElement"):
                kind, extra = element.findtext("trafficSignID"), element.find("additionalValue")
                if kind in _STOP_SIGNS:
                    stops.add(name)
                if kind in _SPEED_SIGNS and extra is not None:
                    speeds[name] = number(extra, sign, self._path)
        return speeds, stops

    def _speed_limit(self, lanelet: Element, speeds: Mapping[str, float]) -> float:
        """The lowest limit [m/s] of the signs a lanelet refers to; 2018b has the element ``speedLimit``."""
        limits = [speeds[name] for name in references(lanelet, "trafficSignRef") if name in speeds]
        old = lanelet.find("speedLimit")
        if old is not None and (old.text or "").strip() not in ("inf", "INF", ""):
            limits.append(number(old, lanelet, self._path))
        return min(limits, default=float("nan"))

    def _intersections(self) -> dict[str, str]:
        """Movement ("left", "right", "straight") of the lanelets that intersections name."""
        movements = {}
        for incoming in self._root.iterfind("intersection/incoming"):
            for movement in ("left", "right", "straight"):
                for name in references(incoming, f"successors{movement.capitalize()}"):
                    movements[name] = movement
        return movements

    def _mark_junctions(self) -> None:
        """Marks the lanelets that intersections name, and what follows them as long as it lies among others.

        Intersections name the first lanelets behind their entries only; where these are cut into several, the
        rest is told by overlap with other lanelets, which outside junctions do not overlap.
        """
        inside = [name for name in self._movements if name in self._rows]
        queue = list(inside)
        areas = {name: _area(row) for name, row in self._rows.items()} if queue else {}
        names, tree = list(areas), shapely.STRtree(list(areas.values()))
        seen = set(inside)
        while queue:
            for name in self._rows[queue.pop()].successors:
                if name not in self._rows or name in seen:
                    continue
                others = {names[i] for i in tree.query(areas[name])} - {name, *self._rows[name].successors}
                others -= {other for other in others if name in self._rows[other].successors}
                covered = shapely.intersection(
                    shapely.union_all([areas[other] for other in others]), areas[name]
                )
                if shapely.area(covered) > _OVERLAP * shapely.area(areas[name]):
                    seen.add(name)
                    queue.append(name)
        for name in seen:
            self._rows[name].in_junction = True

    def _stop_point(self, name: str) -> Array:
        """``[3]`` m, the middle of a lanelet's stop line, else of its end."""
        line = self._elements[name].find("stopLine")
        ends = points(line, self._path) if line is not None else np.zeros((0, 3))
        row = self._rows[name]
        return ends.mean(0) if len(ends) else 0.5 * (row.left[-1] + row.right[-1])

    def _stop_signs(self, stops: set[str]) -> StopSigns:
        rows = []
        for name, element in self._elements.items():
            line = element.find("stopLine")
            named = set(references(element, "trafficSignRef"))
            named |= set(references(line, "trafficSignRef")) if line is not None else set()
            if named & stops:
                rows.append(name)
        return StopSigns(
            position=np.array([self._stop_point(name) for name in rows]).reshape(-1, 3),
            heading=np.full(len(rows), np.nan),
            lane_idx=np.array([self._index[name] for name in rows], np.int32),
        )

    def lights(self, first_step: int, num_steps: int) -> Lights:
        """The light of each controlled lanelet at every step.

        A light for all directions controls the lanelet that refers to it, up to its stop line. A light for
        some directions controls the lanelets that follow in those directions, from the stop line on.

        Args:
            first_step: time step, in the file's count, of step 0.
            num_steps: T.
        """
        cycles = {light.get("id", ""): light for light in self._root.findall("trafficLight")}
        rows: dict[int, tuple[Array, Array]] = {}
        for name, element in self._elements.items():
            refs = [cycles[ref] for ref in references(element, "trafficLightRef") if ref in cycles]
            # Lights for some directions first: they know more than one for all.
            for light in sorted(refs, key=lambda light: light.findtext("direction") not in _MOVEMENTS):
                state = self._states(light, first_step, num_steps)
                for lane in self._controlled(name, light.findtext("direction") or "all"):
                    rows.setdefault(self._index[lane], (self._stop_point(name), state))
        return Lights(
            position=np.array([position for position, _ in rows.values()]).reshape(-1, 3),
            heading=np.full(len(rows), np.nan),
            lane_idx=np.array(list(rows), np.int32),
            state=np.array([state for _, state in rows.values()], np.int8).reshape(-1, num_steps),
        )

    def _controlled(self, name: str, direction: str) -> list[str]:
        wanted = _MOVEMENTS.get(direction)
        if wanted is None:
            return [name]
        following = [after for after in self._rows[name].successors if after in self._rows]
        return [after for after in following if self._movement(name, after) in wanted]

    def _movement(self, name: str, after: str) -> str:
        """Direction of a lanelet that follows another: as its intersection says, else by its turn."""
        if after in self._movements:
            return self._movements[after]
        turn = float(wrap(np.array(_direction(self._rows[after]) - _direction(self._rows[name]))))
        return "straight" if abs(turn) < _STRAIGHT else ("left" if turn > 0 else "right")

    def _states(self, light: Element, first_step: int, num_steps: int) -> Array:
        """`LightState` ``[T]``: the cycle starts at its ``timeOffset``, durations are in time steps."""
        if (light.findtext("active") or "true").strip().lower() == "false":
            return np.full(num_steps, LightState.OFF, np.int8)
        cycle = light.find("cycle")
        if cycle is None:
            return np.full(num_steps, LightState.UNKNOWN, np.int8)
        durations, colours = [], []
        for element in cycle.findall("cycleElement"):
            duration = value_of(element, "duration", self._path)
            durations.append(0.0 if duration is None else duration)
            colours.append(_COLOURS.get(element.findtext("color") or "", ODD_STATE))
        if sum(durations) <= 0 or min(durations) < 0:
            raise FormatError("expected positive durations", file=self._path, field=place_of(light))
        offset = value_of(cycle, "timeOffset", self._path) or 0.0
        return LightProgramme(colours, durations, offset).at(first_step + np.arange(num_steps))


def _area(row: LaneRow) -> shapely.Geometry:
    return shapely.make_valid(shapely.Polygon(np.concatenate([row.left, row.right[::-1]])[:, :2]))


def _direction(row: LaneRow) -> float:
    """Direction [rad] of a lanelet at its end."""
    ahead = row.left[-1] + row.right[-1] - row.left[-2] - row.right[-2]
    return float(np.arctan2(ahead[1], ahead[0]))
