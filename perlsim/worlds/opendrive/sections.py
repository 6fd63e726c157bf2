"""Roads of an OpenDRIVE map sampled into lanes: centres, widths and boundaries along each lane section.

Frame: the file's own (right-handed, x east, y north, z up).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perlsim.errors import FormatError
from perlsim.vocabulary import LaneType
from perlsim.worlds.opendrive.lateral import LateralProfile
from perlsim.worlds.opendrive.marks import Mark, read_marks
from perlsim.worlds.opendrive.reference_line import ReferenceLine
from perlsim.worlds.opendrive.xml import Cubics, Element, child, children, integer, number

Array = np.ndarray

CHORD_ERROR = 0.01  # m, largest distance between a sampled line and the curve it stands for
MAX_SPACING = 5.0  # m between samples
MIN_SPACING = 0.05  # m: what asks for more is a broken record, not a bend of radius under half a metre
MIN_SECTION = 0.002  # m, shorter lane sections hold no lanes; their links are passed through
MIN_WIDTH = 0.05  # m, a lane that is nowhere wider is not there
MIN_LANE_WIDTH = 0.5  # m, a shoulder that is nowhere wider belongs to the drivable area, but holds nobody
JUMP = 0.005  # m, a sudden change of a width, border or offset that lines have to follow
RAMP = 0.06  # m along the road in which they do: so no point of a line is farther than that from its place
_FAR = 1e8  # m
_CLOSE = 1e-3  # m, records that begin nearer to an end of the section get no sample
_SLIP = 1e-6  # m, rounding of s in exported files
_MAX_SAMPLES = 50_000  # of one lane section: a broken curvature or length, not a road

# Lane types (1.4 and later) on which wheels belong; all others (sidewalk, median, curb, ...) are left out.
LANE_TYPES = {
    "driving": LaneType.DRIVING,
    "entry": LaneType.DRIVING,
    "exit": LaneType.DRIVING,
    "offRamp": LaneType.DRIVING,
    "onRamp": LaneType.DRIVING,
    "connectingRamp": LaneType.DRIVING,
    "mwyEntry": LaneType.FREEWAY,
    "mwyExit": LaneType.FREEWAY,
    "bidirectional": LaneType.DRIVING,
    "roadWorks": LaneType.DRIVING,
    "taxi": LaneType.BUS,
    "bus": LaneType.BUS,
    "HOV": LaneType.DRIVING,
    "biking": LaneType.BICYCLE,
    "shoulder": LaneType.SHOULDER,
    "stop": LaneType.SHOULDER,
    "parking": LaneType.PARKING,
}
TRAFFIC = frozenset({LaneType.DRIVING, LaneType.FREEWAY, LaneType.BUS})

# m/s of one unit of speed; without a unit the value is in m/s (1.4, table of speed).
_SPEED_UNITS = {"km/h": 1 / 3.6, "mph": 0.44704, "m/s": 1.0}


@dataclass
class SectionLane:
    """One lane of one section.

    Attributes:
        lane_id: OpenDRIVE's id, negative on the right of the centre.
        kind: None where the lane is no place for wheels.
        both_ways: whether traffic runs in both directions.
        inner, outer: ``[n]`` m, lateral position t of its boundaries at the section's samples.
        marks: on the outer boundary.
        speed_limit: m/s or NaN.
        predecessor, successor: lane ids in the previous and next section or road.
    """

    lane_id: int
    kind: LaneType | None
    both_ways: bool
    inner: Array
    outer: Array
    marks: list[Mark]
    speed_limit: float
    predecessor: list[int]
    successor: list[int]

    @property
    def exists(self) -> bool:
        """Whether it has any width."""
        return bool(np.abs(self.outer - self.inner).max() >= MIN_WIDTH)

    @property
    def is_used(self) -> bool:
        """Whether it carries traffic, however narrow, or is wide enough somewhere to stand in."""
        if self.kind in TRAFFIC:
            return self.exists
        return self.kind is not None and bool(np.abs(self.outer - self.inner).max() >= MIN_LANE_WIDTH)


@dataclass
class Section:
    """One lane section, sampled.

    Attributes:
        s: ``[n]`` m, ascending.
        xy, normal: ``[n, 2]``, reference line and its left normal.
        z: ``[n]`` m.
        lateral: tilt and shape of the surface.
        lanes: by lane id, the centre lane (0, no width) included.
    """

    s: Array
    xy: Array
    normal: Array
    z: Array
    lateral: LateralProfile
    lanes: dict[int, SectionLane] = field(default_factory=dict)

    def points(self, t: Array) -> Array:
        """Points ``[n, 3]`` at lateral positions ``t [n]``."""
        aside, up = self.lateral.offsets(self.s, t)
        return np.concatenate([self.xy + self.normal * aside[:, None], (self.z + up)[:, None]], axis=1)

    @property
    def too_short(self) -> bool:
        """Whether it holds no lanes of its own."""
        return self.s[-1] - self.s[0] < MIN_SECTION


class SampledRoad:
    """One road: its sections, and points by (s, t).

    Args:
        element: the ``road`` element.

    Raises:
        FormatError: names the road and the record at fault.
    """

    def __init__(self, element: Element):
        self.element = element
        self.road_id = element.get("id", "")
        self.junction = element.get("junction", "-1")
        self.length = number(element, "length")
        self.left_hand = element.get("rule", "RHT") == "LHT"
        self.line = ReferenceLine(element)
        self._elevation = Cubics.from_elements(children(child(element, "elevationProfile"), "elevation"))
        self.lateral = LateralProfile(element)
        lanes = child(element, "lanes")
        self._offset = Cubics.from_elements(children(lanes, "laneOffset"))
        self._types = sorted(
            (number(e, "s", 0.0), e.get("type", ""), _speed(child(e, "speed")))
            for e in children(element, "type")
        )
        elements = sorted(children(lanes, "laneSection"), key=lambda e: number(e, "s"))
        if not elements:
            raise FormatError("a road without lane sections", field=f"road {self.road_id}")
        starts = [number(e, "s") for e in elements]
        ends = [*starts[1:], max(self.length, starts[-1])]
        self.sections = [self._sample(*part) for part in zip(elements, starts, ends, strict=True)]

    def points(self, s: Array, t: Array) -> tuple[Array, Array]:
        """Points ``[n, 3]`` and road headings ``[n]`` at road coordinates ``s``, ``t`` ``[n]``."""
        xy, heading = self.line.at(s)
        normal = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
        aside, up = self.lateral.offsets(s, t)
        z = self._elevation.at(s) + up
        return np.concatenate([xy + normal * aside[:, None], z[:, None]], axis=1), heading

    def section_at(self, s: float) -> int:
        """Index of the section under ``s``."""
        starts = [section.s[0] for section in self.sections]
        return max(int(np.searchsorted(starts, s, side="right")) - 1, 0)

    def forward(self, lane_id: int) -> bool:
        """Whether traffic on the lane runs along +s."""
        return (lane_id < 0) != self.left_hand

    def _sample(self, element: Element, start: float, end: float) -> Section:
        sides = {
            lane_id: lane
            for side in ("left", "center", "right")
            for lane in children(child(element, side), "lane")
            if (lane_id := integer(lane, "id")) or side == "center"
        }
        widths = {lane_id: _widths(lane, start) for lane_id, lane in sides.items() if lane_id}
        across = [self._offset, *(curve for curve, _ in widths.values())]
        marks = {lane_id: read_marks(lane, lane_id, (start, end)) for lane_id, lane in sides.items()}
        mark_starts = [mark.start for row in marks.values() for mark in row]
        s = _with_ramps(self._positions(start, end, across, mark_starts), across)
        xy, heading = self.line.at(s)
        normal = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
        section = Section(s, xy, normal, self._elevation.at(s), self.lateral)
        # First and last sample belong to this section's records, whatever the rounding of where they start.
        record_at = np.clip(s, start + _SLIP, end - _SLIP) if end - start > 2 * _SLIP else s
        offset = self._offset.at(s, record_at=record_at)
        middle = 0.5 * (start + end)
        road_type, road_speed = self._type_at(middle)
        for sign in (1, -1):
            inner = offset
            for lane_id in sorted((i for i in widths if i * sign > 0), key=abs):
                curve, is_border = widths[lane_id]
                value = curve.at(s, record_at=record_at)
                outer = value if is_border else inner + sign * np.maximum(value, 0.0)
                section.lanes[lane_id] = _lane(sides[lane_id], lane_id, inner, outer, marks[lane_id])
                inner = outer
        if 0 in sides:
            section.lanes[0] = _lane(sides[0], 0, offset, offset, marks[0])
        for lane in section.lanes.values():
            if np.isnan(lane.speed_limit):
                lane.speed_limit = road_speed
            if road_type == "motorway" and lane.kind == LaneType.DRIVING:
                lane.kind = LaneType.FREEWAY
        self._check(section)
        return section

    def _check(self, section: Section) -> None:
        """Refuses coordinates that no map has; sections too short to hold lanes may say what they like."""
        far = [section.xy, section.z, *(lane.outer for lane in section.lanes.values())]
        if not section.too_short and not all((np.abs(values) < _FAR).all() for values in far):
            raise FormatError(
                "coordinates or widths that are not finite or beyond 100,000 km",
                field=f"road {self.road_id}, section at s = {section.s[0]:g}",
                remedy="check its geometry, width and elevation records",
            )

    def _type_at(self, s: float) -> tuple[str, float]:
        before = [entry for entry in self._types if entry[0] <= s + 1e-6]
        return before[-1][1:] if before else ("", float("nan"))

    def _positions(self, start: float, end: float, across: list[Cubics], marks: list[float]) -> Array:
        """Samples of s so dense that no lane's line strays more than `CHORD_ERROR` from its curve.

        A chord over ds misses the curve by at most ds^2 / 8 of its largest second derivative, which is
        bounded by curvature (on the outermost lane, and with sideways drift) plus the cubics' own second
        derivatives. Every record, and every road mark, begins at a sample.
        """
        if end - start < MIN_SECTION:
            return np.array([start, end])
        curves = [self._elevation, *across]
        inside = np.concatenate(
            [self.line.start, self.lateral.breaks, marks, *(curve.start for curve in curves)]
        )
        inside = np.unique(inside[(inside > start + _CLOSE) & (inside < end - _CLOSE)])
        breaks = np.concatenate([[start], inside[np.diff(inside, prepend=start) > _SLIP], [end]])
        low, high = breaks[:-1], breaks[1:]
        middle = 0.5 * (low + high)
        bend = self.line.max_curvature[self.line.piece_at(middle)]
        reach, drift, second = np.zeros((3, len(low)))
        for at in (low, high):
            for curve in curves:
                second = second + np.abs(curve.at(at, order=2, record_at=middle))
            for curve in across:
                reach = reach + np.abs(curve.at(at, record_at=middle))
                drift = drift + np.abs(curve.at(at, order=1, record_at=middle))
        if not self.lateral.is_flat:
            tilt = self.lateral.tilt
            twist, turn = (tilt.at(middle, order=order, record_at=middle) for order in (1, 2))
            second = second + reach * (np.abs(turn) + twist**2) + 2 * np.abs(twist) * drift
        largest = bend * (1 + bend * reach) + 2 * bend * drift + second
        spacing = np.clip(np.sqrt(8 * CHORD_ERROR / np.maximum(largest, 1e-12)), MIN_SPACING, MAX_SPACING)
        count = np.ceil((high - low) / spacing)
        if not count.sum() < _MAX_SAMPLES:
            raise FormatError(
                f"a lane section of {end - start:g} m would need {count.sum():.3g} points",
                field=f"road {self.road_id}",
                remedy="check its length, curvature and cubic records",
            )
        parts = [np.linspace(a, b, int(n), endpoint=False) for a, b, n in zip(low, high, count, strict=True)]
        return np.concatenate([*parts, [end]])


def _with_ramps(s: Array, across: list[Cubics]) -> Array:
    """Samples between which lines pass from one side of a jump to the other within `RAMP`.

    Without, the line between the samples on either side would cut the corner over metres.
    """
    start, end = s[0], s[-1]
    jumps = np.concatenate([curve.jumps(JUMP) for curve in across])
    jumps = jumps[(jumps > start + _SLIP) & (jumps < end - _SLIP)]
    if not len(jumps) or end - start < 2 * RAMP:
        return s
    # At the ends of a section the ramp lies inside it: lanes begin and end where their records say.
    low = np.clip(jumps - 0.5 * RAMP, start, end - RAMP)
    kept = ((s[:, None] <= low) | (s[:, None] >= low + RAMP)).all(1)
    return np.unique(np.concatenate([s[kept], low, low + RAMP]))


def _lane(element: Element, lane_id: int, inner: Array, outer: Array, marks: list[Mark]) -> SectionLane:
    kind = element.get("type", "none")
    link = child(element, "link")
    speeds = children(element, "speed")
    return SectionLane(
        lane_id,
        LANE_TYPES.get(kind) if lane_id else None,
        kind == "bidirectional",
        inner,
        outer,
        marks,
        _speed(speeds[0]) if speeds else float("nan"),
        [integer(e, "id") for e in children(link, "predecessor")],
        [integer(e, "id") for e in children(link, "successor")],
    )


def _widths(element: Element, origin: float) -> tuple[Cubics, bool]:
    """The lane's width (or, where it has none, border) along s, and whether it is a border."""
    widths, borders = children(element, "width"), children(element, "border")
    is_border = bool(borders) and not widths
    return Cubics.from_elements(borders if is_border else widths, "sOffset", origin), is_border


def _speed(element: Element | None) -> float:
    """Speed limit [m/s], NaN where there is none or it is not a number ("no limit", "undefined")."""
    if element is None:
        return float("nan")
    try:
        value = float(element.get("max", "nan"))
    except ValueError:
        return float("nan")
    # 0 and negative limits stand for "not set" in exported maps.
    return value * _SPEED_UNITS.get(element.get("unit", "m/s"), 1.0) if 0 < value < 1000 else float("nan")
