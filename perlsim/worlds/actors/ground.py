"""The place of a scenario: the route round its trigger, the lanes beside it, and lines along lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perlsim.errors import PerlsimError
from perlsim.geometry import polylines
from perlsim.scenario import Array
from perlsim.vocabulary import LaneType
from perlsim.worlds.routes.definitions import RouteScenario
from perlsim.worlds.routes.graph import Place
from perlsim.worlds.routes.load import Route
from perlsim.worlds.routes.parameters import Point, Pose
from perlsim.worlds.routes.placement import Places
from perlsim.worlds.routes.rules import RULES, AtJunction, Other
from perlsim.worlds.routes.sites import NO_LANE, Movement

DEFAULT_LIMIT = 50 / 3.6  # m/s where a lane states none
BACK, ON = 80.0, 150.0  # m by which the route's line is led on behind its start and beyond its end
_REACH = 5.0  # m from a lane to a point that a file names


@dataclass(frozen=True)
class LightTimes:
    """How the programmes of lights run during a drive.

    Attributes:
        shift: s by which they are ahead.
        hold: s of the drive after which they stay as they are.
        green: s of the drive at which the ego's turns green.
    """

    shift: float
    hold: float
    green: float


@dataclass(frozen=True)
class Ground:
    """See the module.

    Attributes:
        scenario: what the file says.
        route: the ego's.
        places: of the town.
        line: ``[n, 3]`` m, the route, led on along its lanes at both ends as far as no junction comes.
        zero: m of that line at which the route starts.
        trigger: m along the route, in plan.
        rng: for what the file leaves open.
        lights: how they have to run for the type; None where that does not matter.
    """

    scenario: RouteScenario
    route: Route
    places: Places
    line: Array
    zero: float
    trigger: float
    rng: np.random.Generator
    lights: LightTimes | None = None

    def number(self, name: str) -> float:
        """A parameter that is a number."""
        return float(self.scenario.parameters.values[name])  # pyright: ignore[reportArgumentType]

    def interval(self, name: str) -> tuple[float, float]:
        """A parameter that is an interval."""
        low, high = self.scenario.parameters.values[name]  # pyright: ignore
        return float(low), float(high)  # pyright: ignore[reportArgumentType]

    def point(self, name: str) -> Point:
        """A parameter that is a point."""
        return self.scenario.parameters.values[name]  # pyright: ignore[reportReturnType]

    def sign(self) -> float:
        """+1 where the parameter ``direction`` says left, −1 where right."""
        return 1.0 if self.scenario.parameters.values["direction"] == "left" else -1.0

    @property
    def start(self) -> Array:
        """Where the ego starts, ``[3]`` m."""
        return self.route.dense.points[0]

    def lane(self, arc: float) -> int:
        """The lane under the route at ``arc`` m."""
        dense = self.route.dense
        idx = int(np.searchsorted(polylines.arc_lengths(dense.points), arc))
        return int(dense.lane_idx[min(max(idx, 0), len(dense.lane_idx) - 1)])

    def width(self, lane: int) -> float:
        """Median width of a lane, m."""
        lanes = self.places.sites.lanes
        offsets = lanes.centre.offsets
        return float(np.median(lanes.width[offsets[lane] : offsets[lane + 1]]))

    def limit(self, lane: int) -> float:
        """Speed limit of a lane, m/s."""
        limit = float(self.places.sites.lanes.speed_limit[lane])
        return limit if limit > 0 else DEFAULT_LIMIT

    def poses(self, arcs: Array | float, aside: Array | float = 0.0) -> Array:
        """Poses ``[n, 4]`` at arcs [m] of the route, ``aside`` m to the left of it."""
        arcs = np.atleast_1d(np.asarray(arcs, float)) + self.zero
        at = polylines.interpolate(self.line, arcs)
        ends = polylines.arc_lengths(self.line)
        segment = np.clip(np.searchsorted(ends, arcs, side="right") - 1, 0, len(ends) - 2)
        heading = polylines.headings(self.line)[segment]
        at[:, 0] -= np.sin(heading) * aside
        at[:, 1] += np.cos(heading) * aside
        return np.column_stack([at, heading])

    def along(self, begin: float, end: float, aside: float | Callable[[Array], Array] = 0.0) -> Array:
        """The route's line from one arc [m] to another, ``[n, 3]``; backwards where ``end`` lies behind.

        Args:
            begin, end: m along the route; cut where the line ends.
            aside: m to the left, a number or a function of the arcs.
        """
        last = polylines.arc_lengths(self.line)[-1] - self.zero
        low, high = max(min(begin, end), -self.zero), min(max(begin, end), last)
        if high - low < 2.0:
            raise self.impossible("the road is too short")
        arcs = np.append(np.arange(low, high - 0.5, 1.0), high)
        points = self.poses(arcs, aside(arcs) if callable(aside) else aside)[:, :3]
        return points if end >= begin else points[::-1]

    def beside(self, arc: float, sign: float) -> tuple[float, bool]:
        """Distance [m, left positive] to the lane at one side of the route's, and whether it is for parking."""
        sites, lane = self.places.sites, self.lane(arc)
        other = int((sites.left if sign > 0 else sites.right)[lane])
        own = self.width(lane) / 2
        if other == NO_LANE:
            return sign * (own + 1.25), False
        return sign * (own + self.width(other) / 2), sites.is_kind(other, LaneType.PARKING)

    def outermost(self, arc: float, sign: float) -> float:
        """Distance [m, left positive] from the route to the last lane of its direction at one side."""
        sites, lane = self.places.sites, self.lane(arc)
        beside, aside = sites.left if sign > 0 else sites.right, 0.0
        while sites.same_way(lane, int(beside[lane])):
            other = int(beside[lane])
            aside += sign * (self.width(lane) + self.width(other)) / 2
            lane = other
        return aside

    def edge(self, arc: float, sign: float) -> float:
        """Distance [m, left positive] from the route to where pedestrians stand at one side."""
        sites, lane = self.places.sites, self.lane(arc)
        beside, aside = sites.left if sign > 0 else sites.right, self.width(lane) / 2
        for _ in range(6):
            lane = int(beside[lane])
            if lane == NO_LANE or not (sites.graph.is_traffic[lane] or self._is_rim(lane)):
                break
            aside += self.width(lane)
        return sign * (aside + 1.0)

    def _is_rim(self, lane: int) -> bool:
        kinds = (LaneType.PARKING, LaneType.BICYCLE, LaneType.SHOULDER)
        return any(self.places.sites.is_kind(lane, kind) for kind in kinds)

    def junction(self) -> tuple[float, float]:
        """Arcs [m] at which the route enters and leaves its first junction at or behind the trigger."""
        inside = self.places.sites.lanes.in_junction[self.route.dense.lane_idx]
        arcs = polylines.arc_lengths(self.route.dense.points)
        at = np.flatnonzero(inside & (arcs >= self.trigger - 5.0))
        if not len(at):
            raise self.impossible("the route comes to no junction")
        first = int(at[0])
        after = np.flatnonzero(~inside[first:])
        last = first + int(after[0]) if len(after) else len(arcs) - 1
        return float(arcs[first]), float(arcs[last])

    def movement(self) -> Movement:
        """The ego's way through that junction."""
        sites, (enters, leaves) = self.places.sites, self.junction()
        inner, dense = self.lane(0.5 * (enters + leaves)), self.route.dense
        lanes = set(dense.lane_idx.tolist())
        ways = [way for way in sites.at_junction[sites.town.junctions[inner]] if inner in way.path]
        if not ways:
            raise self.impossible("the route passes no way through a junction")
        return max(
            ways, key=lambda way: 2 * (way.approach in lanes) + (way.exit in lanes) + (inner in way.path)
        )

    def other_way(self) -> Movement:
        """The way through the junction of whom the scenario brings, or another that meets the ego's."""
        rule = RULES[self.scenario.kind]
        ego = self.movement()
        wanted = rule.other if isinstance(rule, AtJunction) else Other.NONE
        ways = self.places.others(wanted, ego)
        side = self.scenario.parameters.values.get("direction")
        if wanted is Other.CROSSING and side:
            if side == "opposite":
                ways = self.places.others(Other.OPPOSITE, ego)
            else:
                sign = -1.0 if side == "left" else 1.0
                ways = [way for way in ways if sign * np.sin(self._turn(way, ego)) > 0] or ways
        for instead in (Other.FROM_LEFT, Other.JOINS, Other.OPPOSITE, Other.CROSSING):
            ways = ways or self.places.others(instead, ego)
        if not ways:
            raise self.impossible("no way through the junction fits its traffic")
        return ways[int(self.rng.integers(len(ways)))]

    def _turn(self, way: Movement, ego: Movement) -> float:
        return self.places.sites.heading_in(way) - self.places.sites.heading_in(ego)

    def through(self, way: Movement, before: float, after: float) -> Array:
        """The line of a way through a junction, from ``before`` m before it to ``after`` m behind it."""
        sites = self.places.sites
        head = sites.line(sites.behind(way.approach, before))
        tail = sites.line(sites.ahead(way.exit, after))
        first = max(polylines.arc_lengths(head)[-1] - before, 0.0)
        pieces = [
            _cut(head, first, np.inf),
            sites.line(list(way.path)),
            _cut(tail, 0.0, after),
        ]
        line = np.concatenate(pieces)
        return line[polylines.without_repeats(line, 0.05)]

    def between(self, start: Point, end: Point, beyond: float = 0.0) -> Array:
        """The line along the lanes from one point to another that a file names, and ``beyond`` m on."""
        graph = self.places.sites.graph
        for one in graph.places(np.array(start), _REACH):
            for two in graph.places(np.array(end), _REACH):
                way = graph.way(Place(one.lane, one.arc), Place(two.lane, two.arc))
                if way is not None:
                    line = np.concatenate([_cut(graph.lines[s.lane], s.begin, s.end) for s in way])
                    on = self.places.sites.line(self.places.sites.ahead(two.lane, two.arc + beyond))
                    line = np.concatenate([line, _cut(on, two.arc, two.arc + beyond)])
                    return line[polylines.without_repeats(line, 0.05)]
        raise self.impossible("no way leads from the start of its flow to the end")

    def onward(self, lane: int, arc: float, metres: float) -> Array:
        """The line from ``arc`` m of a lane along its straightest successors, ``metres`` m or as far as they go."""
        sites, lines = self.places.sites, self.places.sites.graph.lines
        line, seen = lines[lane], {lane}
        while polylines.arc_lengths(line)[-1] < arc + metres:
            ways = [int(other) for other in sites.lanes.successors[lane] if int(other) not in seen]
            if not ways:
                break
            heading = polylines.headings(line)[-1]
            lane = min(
                ways, key=lambda way: abs(polylines.wrap(polylines.headings(lines[way])[-1] - heading))
            )
            seen.add(lane)
            line = np.concatenate([line, lines[lane]])
        line = line[polylines.without_repeats(line, 0.05)]
        end = min(arc + metres, polylines.arc_lengths(line)[-1])
        if end - arc < 2.0:
            raise self.impossible("the road is too short")
        return polylines.interpolate(line, np.append(np.arange(arc, end - 0.5, 1.0), end))

    def place_of(self, pose: Pose) -> Place:
        """The place on a lane at which somebody stands whose pose the file gives."""
        lines = self.places.sites.graph.lines
        for place in self.places.sites.graph.places(np.array(pose[:3]), _REACH):
            x, y = polylines.interpolate(lines[place.lane], np.array([place.arc + 1.0]))[0, :2]
            back = polylines.interpolate(lines[place.lane], np.array([max(place.arc - 1.0, 0.0)]))[0]
            if np.cos(np.arctan2(y - back[1], x - back[0]) - pose[3]) > 0.5:
                return place
        raise self.impossible("no lane leads from where one of its vehicles begins")

    def impossible(self, why: str) -> PerlsimError:
        """An error that names the type and the route."""
        return PerlsimError(
            f"{self.scenario.kind} cannot be staged: {why}", field=f"route {self.route.definition.route}"
        )


def ground_of(scenario: RouteScenario, route: Route, trigger: float, places: Places, seed: int) -> Ground:
    """The ground of a scenario of a route.

    Args:
        scenario: one of the route's.
        route: led along the lanes.
        trigger: m along the route (`Route.triggers`).
        places: of the town.
        seed: of what the file leaves open.
    """
    sites, dense = places.sites, route.dense
    arcs = polylines.arc_lengths(dense.points)
    first, last = int(dense.lane_idx[0]), int(dense.lane_idx[-1])
    before = _cut_at(sites.line(sites.behind(first, BACK)), dense.points[0], behind=True)
    after = _cut_at(sites.line(sites.ahead(last, BACK + ON)), dense.points[-1], behind=False)
    line = np.concatenate([before, dense.points, after])
    kept = polylines.without_repeats(line, 0.05)
    # The route itself is kept whole.
    zero = polylines.arc_lengths(np.concatenate([before, dense.points[:1]]))[-1]
    plan = float(np.interp(trigger, dense.along, arcs))
    return Ground(scenario, route, places, line[kept], float(zero), plan, np.random.default_rng(seed))


def _cut(line: Array, begin: float, end: float) -> Array:
    """A line between two arcs [m]."""
    arcs = polylines.arc_lengths(line)
    begin, end = max(begin, 0.0), min(end, arcs[-1])
    inner = arcs[(arcs > begin) & (arcs < end)]
    return polylines.interpolate(line, np.concatenate([[begin], inner, [max(end, begin)]]))


def _cut_at(line: Array, point: Array, *, behind: bool) -> Array:
    """What of a line lies a metre or more behind or ahead of a point."""
    arc = float(polylines.project(line, point[None]).arc[0])
    arcs = polylines.arc_lengths(line)
    if behind:
        return _cut(line, max(arc - 1.0 - BACK, 0.0), arc - 1.0) if arc > 2.0 else line[:0]
    return _cut(line, arc + 1.0, arc + 1.0 + ON) if arcs[-1] - arc > 2.0 else line[:0]
