"""Places for scenarios in a town: where a rule holds, and the route and trigger that come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import shapely

from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.vocabulary import LaneType
from perlsim.worlds.routes.dense import RoadOption
from perlsim.worlds.routes.graph import CHANGE_LENGTH
from perlsim.worlds.routes.parameters import Pose, written_point, written_pose
from perlsim.worlds.routes.rules import AtJunction, OnRoad, Other, Side
from perlsim.worlds.routes.sites import NO_LANE, Movement, Sites

STEP = 2.0  # m between waypoints, as in Bench2Drive's files
FAST = 50 / 3.6  # m/s
RUN_UP = (3.0, 9.0)  # m of route before the trigger of a scenario at a junction
RUN_OUT = 35.0  # m of route behind a junction
MIN_RUN_OUT = 15.0
CLEAR = 2.5  # m before and behind a junction without waypoints: CARLA would take them for another lane's
BEYOND = 2.0  # m by which CARLA's planner stops short of the last waypoint
CHANGE_AFTER = 12.0  # m behind a junction at which a route changes lanes
FIRST_CHANGE, NEXT_CHANGE = 20.0, 40.0  # m of a route that changes lanes on the open road


@dataclass(frozen=True)
class Placement:
    """A route with one scenario, before it has a name.

    Attributes:
        waypoints: ``[n, 3]`` m.
        trigger: pose at which the scenario starts.
        found: parameters that follow from the place, as a file writes them.
        passes: a lane that the route has to pass; −1 none.
    """

    waypoints: Array
    trigger: Pose
    found: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    passes: int = NO_LANE


class Places:
    """All places of one town for each rule.

    Args:
        sites: of the town.
    """

    def __init__(self, sites: Sites):
        self.sites = sites
        self.is_ramp = lru_cache(maxsize=None)(self._is_ramp)
        self.roads_in = lru_cache(maxsize=None)(self._roads_in)
        self.on_road = lru_cache(maxsize=None)(self._on_road)
        self.at_junction = lru_cache(maxsize=None)(self._at_junction)

    def has_any(self, rule: OnRoad | AtJunction) -> bool:
        """Whether the rule may hold anywhere in the town."""
        return len(self.on_road(rule) if isinstance(rule, OnRoad) else self.at_junction(rule)) > 0

    def draw(self, rule: OnRoad | AtJunction, rng: np.random.Generator) -> Placement | None:
        """A place drawn at random; None where the drawn one is too short."""
        return (
            self._drawn_on_road(rule, rng) if isinstance(rule, OnRoad) else self._drawn_at_junction(rule, rng)
        )

    def _on_road(self, rule: OnRoad) -> Array:
        """Lanes beside which there is what the rule wants."""
        sites = self.sites
        lanes = np.flatnonzero(sites.is_open).tolist()
        return np.array(
            [lane for lane in lanes if self._holds(rule.left, lane, 1) and self._holds(rule.right, lane, -1)],
            int,
        )

    def _holds(self, side: Side, lane: int, way: int) -> bool:
        sites = self.sites
        other = int((sites.left if way > 0 else sites.right)[lane])
        changes = sites.graph.left[lane] if way > 0 else sites.graph.right[lane]
        return {
            Side.ANY: lambda: True,
            Side.SAME: lambda: bool(changes),
            Side.ONCOMING: lambda: sites.oncoming(lane, other),
            Side.PARKING: lambda: sites.is_kind(other, LaneType.PARKING),
            Side.EDGE: lambda: not sites.same_way(lane, other),
        }[side]()

    def _drawn_on_road(self, rule: OnRoad, rng: np.random.Generator) -> Placement | None:
        lanes = self.on_road(rule)
        length = self.sites.graph.length
        lane = int(rng.choice(lanes, p=length[lanes] / length[lanes].sum()))
        begin, metres = float(rng.uniform(0.0, length[lane])), rule.length + BEYOND
        chain = self.sites.ahead(lane, begin + metres)
        if sum(length[chain]) < begin + metres or not set(chain) <= set(lanes.tolist()):
            return None
        lead = rule.lead + float(rng.uniform(-2.0, 2.0)) if rule.lead > 2.0 else rule.lead
        if rule.changes:
            return self._with_changes(rule, lane, begin, lead) if len(chain) == 1 else None
        line = self.sites.line(chain)
        return Placement(_points(line, begin, begin + metres), _pose(line, begin + lead))

    def _with_changes(self, rule: OnRoad, lane: int, begin: float, lead: float) -> Placement | None:
        """A route that changes to the left several times, within one section of road."""
        graph = self.sites.graph
        line, arc, parts = graph.lines[lane], begin, []
        trigger = _pose(line, begin + lead)
        for number in range(rule.changes):
            if not graph.left[lane]:
                return None
            until = arc + (NEXT_CHANGE if number else FIRST_CHANGE)
            parts.append(_points(line, arc, until))
            lane = graph.left[lane][0]
            at = polylines.interpolate(line, np.array([until]))
            line = graph.lines[lane]
            arc = float(polylines.project(line, at).arc[0]) + CHANGE_LENGTH + STEP
        end = arc + rule.length - FIRST_CHANGE - (rule.changes - 1) * NEXT_CHANGE
        if end > graph.length[lane]:
            return None
        return Placement(np.concatenate([*parts, _points(line, arc, end)]), trigger)

    def _at_junction(self, rule: AtJunction) -> tuple[tuple[Movement, tuple[Movement, ...]], ...]:
        """Movements of which the rule holds, each with the other ways it asks for."""
        found = []
        for movement in self.sites.movements:
            if movement.turn not in rule.turns or (rule.lit is not None and movement.lit != rule.lit):
                continue
            if rule.stops is not None and movement.stops != rule.stops:
                continue
            if rule.fast and not self._is_fast(movement):
                continue
            if rule.ramp and not self.is_ramp(movement):
                continue
            if rule.arms is not None and self.roads_in(movement.junction) != rule.arms:
                continue
            if rule.changes < 0 and not self._lanes_before(movement):
                continue
            if rule.changes > 0 and not self.sites.graph.left[movement.exit]:
                continue
            others = tuple(self.others(rule.other, movement))
            if others or rule.other is Other.NONE:
                found.append((movement, others))
        return tuple(found)

    def _is_fast(self, movement: Movement) -> bool:
        limits = self.sites.lanes.speed_limit[[movement.approach, movement.exit]]
        return bool((limits >= FAST - 0.1).any())

    def _is_ramp(self, ego: Movement) -> bool:
        """Whether nothing crosses a way through a junction: others only fork off or join."""
        own = shapely.LineString(self.sites.line(list(ego.path))[:, :2])
        return not ego.lit and not any(
            own.crosses(shapely.LineString(self.sites.line(list(way.path))[:, :2]))
            for way in self.sites.at_junction[ego.junction]
            if way.approach != ego.approach and way.exit != ego.exit
        )

    def _roads_in(self, junction: str) -> int:
        return len({self._road(m.approach) for m in self.sites.at_junction[junction]})

    def _road(self, lane: int) -> str:
        return self.sites.lanes.ids[lane].split(".")[0]

    def _lanes_before(self, movement: Movement) -> list[int]:
        """Lanes beside the approach from which one may change into it."""
        graph = self.sites.graph
        beside = [*graph.left[movement.approach], *graph.right[movement.approach]]
        return [lane for lane in beside if movement.approach in (*graph.left[lane], *graph.right[lane])]

    def others(self, other: Other, ego: Movement) -> list[Movement]:
        """Movements of the same junction that stand to the ego's as asked."""
        sites = self.sites

        def stands(way: Movement) -> bool:
            angle = float(polylines.wrap(np.array(sites.heading_in(way) - sites.heading_in(ego))))
            opposite, straight = abs(angle) > 0.75 * np.pi, way.turn is RoadOption.STRAIGHT
            same_exit = self._road(way.exit) == self._road(ego.exit)
            match other:
                case Other.OPPOSITE:
                    return opposite and straight
                case Other.OPPOSITE_JOINS:
                    return opposite and way.turn is RoadOption.RIGHT and same_exit
                case Other.FROM_LEFT:
                    return straight and same_exit and way.approach != ego.approach
                case Other.CROSSING:
                    return straight and 0.25 * np.pi < abs(angle) < 0.75 * np.pi
                case Other.RUNS:
                    return straight and -0.75 * np.pi < angle < -0.25 * np.pi
                case Other.WAITS:
                    beside = sites.graph.right[way.approach]
                    return opposite and way.turn is RoadOption.LEFT and bool(beside)
                case Other.JOINS:
                    return way.exit == ego.exit and self._road(way.approach) != self._road(ego.approach)
                case Other.LEAVES:
                    return way.approach == ego.approach and way.exit != ego.exit
                case Other.BICYCLES:
                    return opposite and self._bicycle_lane(way.approach) != NO_LANE
            return False

        return [way for way in sites.at_junction[ego.junction] if stands(way)]

    def _bicycle_lane(self, lane: int) -> int:
        """The bicycle lane to the right of a lane, if there is one."""
        while lane != NO_LANE and not self.sites.is_kind(lane, LaneType.BICYCLE):
            lane = int(self.sites.right[lane])
        return lane

    def _drawn_at_junction(self, rule: AtJunction, rng: np.random.Generator) -> Placement | None:
        choices = self.at_junction(rule)
        ego, others = choices[int(rng.integers(len(choices)))]
        other = others[int(rng.integers(len(others)))] if others else None
        before = rule.lead + float(rng.uniform(*RUN_UP))
        head = self._towards(rule, ego, before)
        tail = self._away(rule, ego)
        if head is None or tail is None:
            return None
        waypoints, trigger = head
        return Placement(
            np.concatenate([waypoints, tail]), trigger, self._found(rule, ego, other), passes=ego.path[0]
        )

    def _towards(self, rule: AtJunction, ego: Movement, before: float) -> tuple[Array, Pose] | None:
        """Waypoints up to the junction, and the trigger."""
        line = self.sites.line(self.sites.behind(ego.approach, before))
        end = polylines.arc_lengths(line)[-1]
        if end < rule.lead + RUN_UP[0] - 1.0:
            return None
        begin = max(end - before, 0.0)
        if rule.changes >= 0:
            return _points(line, begin, end - CLEAR), _pose(line, end - rule.lead)
        lane = self._lanes_before(ego)[0]
        first = self.sites.graph.lines[lane]
        last = polylines.arc_lengths(first)[-1]
        if min(last, self.sites.graph.length[ego.approach]) < before:
            return None
        change = rule.lead - 1.0
        parts = (
            _points(first, last - before, last - change),
            _points(line, end - change + CHANGE_LENGTH + STEP, end - CLEAR),
        )
        return np.concatenate(parts), _pose(first, last - rule.lead)

    def _away(self, rule: AtJunction, ego: Movement) -> Array | None:
        """Waypoints behind the junction."""
        line = self.sites.line(self.sites.ahead(ego.exit, RUN_OUT + BEYOND))
        length = min(polylines.arc_lengths(line)[-1], RUN_OUT + BEYOND)
        if length < MIN_RUN_OUT:
            return None
        if rule.changes <= 0:
            return _points(line, CLEAR, length)
        other = self.sites.graph.lines[self.sites.graph.left[ego.exit][0]]
        at = polylines.interpolate(self.sites.graph.lines[ego.exit], np.array([CHANGE_AFTER]))
        begin = float(polylines.project(other, at).arc[0]) + CHANGE_LENGTH + STEP
        end = begin + RUN_OUT - CHANGE_AFTER
        if end > polylines.arc_lengths(other)[-1]:
            return None
        return np.concatenate([_points(line, CLEAR, CHANGE_AFTER), _points(other, begin, end)])

    def _found(
        self, rule: AtJunction, ego: Movement, other: Movement | None
    ) -> dict[str, list[dict[str, str]]]:
        """The parameters that follow from the place, by their names in the files."""
        flow = other or ego
        if rule.other is Other.CROSSING:
            turn = np.sin(self.sites.heading_in(flow) - self.sites.heading_in(ego))
            return {"direction": [{"value": "left" if turn < 0 else "right"}]}
        lane = self._bicycle_lane(flow.approach) if rule.other is Other.BICYCLES else flow.approach
        line = self.sites.line(self.sites.behind(lane, rule.source))
        start = _pose(line, max(polylines.arc_lengths(line)[-1] - rule.source, 0.0))
        line = self.sites.line(self.sites.ahead(flow.exit, rule.sink))
        end = _pose(line, min(rule.sink, polylines.arc_lengths(line)[-1]))
        if rule.other in (Other.WAITS, Other.RUNS):
            front, left = (start, end) if rule.other is Other.WAITS else (end, start)
            return {"front": [written_pose(front)], "left": [written_pose(left)]}
        return {
            "start_actor_flow": [written_point(start[:3])],
            "end_actor_flow": [written_point(end[:3])],
            "other_actor_location": [written_point(start[:3])],
        }


def _points(line: Array, begin: float, end: float) -> Array:
    """Waypoints along a line between two arc lengths [m], rounded to decimetres as in the public files."""
    arcs = np.append(np.arange(begin, end - 0.5 * STEP, STEP), end)
    return np.round(polylines.interpolate(line, arcs), 1)


def _pose(line: Array, arc: float) -> Pose:
    """The pose at an arc length [m] of a line, in direction of travel."""
    x, y, z = polylines.interpolate(line, np.array([arc]))[0].tolist()
    arcs = polylines.arc_lengths(line)
    segment = int(np.clip(np.searchsorted(arcs, arc, side="right") - 1, 0, len(arcs) - 2))
    return x, y, z, float(polylines.headings(line)[segment])
