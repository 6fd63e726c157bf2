"""Roads of an OpenDRIVE map sampled into lanes: centres, widths and boundaries along each lane section.

Frame: the file's own (right-handed, x east, y north, z up). Superelevation and lateral shape are ignored;
CARLA's own map of its towns agrees to a centimetre without them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perlsim.errors import FormatError
from perlsim.vocabulary import LaneType, MarkingType
from perlsim.worlds.opendrive.reference_line import ReferenceLine
from perlsim.worlds.opendrive.xml import Cubics, Element, child, children, integer, number

Array = np.ndarray

CHORD_ERROR = 0.01  # m, largest distance between a sampled line and the curve it stands for
MAX_SPACING = 5.0  # m between samples
MIN_SPACING = 0.05  # m: what asks for more is a broken record, not a bend of radius under half a metre
MIN_SECTION = 0.01  # m, shorter lane sections hold no lanes; their links are passed through
MIN_WIDTH = 0.05  # m, a lane that is nowhere wider is not there
MIN_LANE_WIDTH = 0.5  # m, one that is nowhere wider belongs to the drivable area, but nobody drives in it
_FAR = 1e8  # m
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

# Road mark types along +s, seen from the centre lane; `_mark_kind` mirrors them where a mark lies left of it.
_MARKS = {
    "none": MarkingType.NONE,
    "solid": MarkingType.SOLID,
    "broken": MarkingType.BROKEN,
    "botts dots": MarkingType.BROKEN,
    "solid solid": MarkingType.DOUBLE_SOLID,
    "broken broken": MarkingType.DOUBLE_BROKEN,
    "solid broken": MarkingType.SOLID_BROKEN,
    "broken solid": MarkingType.BROKEN_SOLID,
    "custom": MarkingType.UNKNOWN,
}
_MIRRORED = {
    MarkingType.SOLID_BROKEN: MarkingType.BROKEN_SOLID,
    MarkingType.BROKEN_SOLID: MarkingType.SOLID_BROKEN,
}

# m/s of one unit of speed; without a unit the value is in m/s (1.4, table of speed).
_SPEED_UNITS = {"km/h": 1 / 3.6, "mph": 0.44704, "m/s": 1.0}


@dataclass(frozen=True)
class Mark:
    """A road mark on a lane's outer boundary, between two s of the section."""

    start: float
    end: float
    kind: MarkingType | None


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
    def is_wide(self) -> bool:
        """Whether it is wide enough anywhere to drive in."""
        return bool(np.abs(self.outer - self.inner).max() >= MIN_LANE_WIDTH)


@dataclass
class Section:
    """One lane section, sampled.

    Attributes:
        s: ``[n]`` m, ascending.
        xy, normal: ``[n, 2]``, reference line and its left normal.
        z: ``[n]`` m.
        lanes: by lane id, the centre lane (0, no width) included.
    """

    s: Array
    xy: Array
    normal: Array
    z: Array
    lanes: dict[int, SectionLane] = field(default_factory=dict)

    def points(self, t: Array) -> Array:
        """Points ``[n, 3]`` at lateral positions ``t [n]``."""
        return np.concatenate([self.xy + self.normal * t[:, None], self.z[:, None]], axis=1)

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
        z = self._elevation.at(s)
        return np.concatenate([xy + normal * t[:, None], z[:, None]], axis=1), heading

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
        curves = [self._offset, self._elevation, *(curve for curve, _ in widths.values())]
        s = self._positions(start, end, curves, [curve for curve, _ in widths.values()])
        xy, heading = self.line.at(s)
        section = Section(s, xy, np.stack([-np.sin(heading), np.cos(heading)], axis=1), self._elevation.at(s))
        # The last sample belongs to this section's records, not to those that start there.
        record_at = np.minimum(s, max(start, end - 1e-6))
        offset = self._offset.at(s, record_at=record_at)
        middle = 0.5 * (start + end)
        road_type, road_speed = self._type_at(middle)
        for sign in (1, -1):
            inner = offset
            for lane_id in sorted((i for i in widths if i * sign > 0), key=abs):
                curve, is_border = widths[lane_id]
                value = curve.at(s, record_at=record_at)
                outer = value if is_border else inner + sign * np.maximum(value, 0.0)
                section.lanes[lane_id] = _lane(sides[lane_id], lane_id, inner, outer, (start, end))
                inner = outer
        if 0 in sides:
            section.lanes[0] = _lane(sides[0], 0, offset, offset, (start, end))
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

    def _positions(self, start: float, end: float, curves: list[Cubics], widths: list[Cubics]) -> Array:
        """Samples of s so dense that no lane's line strays more than `CHORD_ERROR` from its curve.

        A chord over ds misses the curve by at most ds^2 / 8 of its largest second derivative, which is
        bounded by curvature (on the outermost lane, and with sideways drift) plus the cubics' own second
        derivatives.
        """
        inside = np.concatenate([self.line.start, *(curve.start for curve in curves)])
        if end - start < MIN_SECTION:
            return np.array([start, end])
        breaks = np.unique(
            np.concatenate([[start], inside[(inside > start + 1e-3) & (inside < end - 1e-3)], [end]])
        )
        low, high = breaks[:-1], breaks[1:]
        middle = 0.5 * (low + high)
        bend = self.line.max_curvature[self.line.piece_at(middle)]
        reach, drift, second = np.zeros((3, len(low)))
        for curve in curves:
            lateral = curve is not self._elevation
            for at in (low, high):
                second = second + np.abs(curve.at(at, order=2, record_at=middle))
                if lateral:
                    reach = reach + np.abs(curve.at(at, record_at=middle))
                    drift = drift + np.abs(curve.at(at, order=1, record_at=middle))
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


def _lane(
    element: Element, lane_id: int, inner: Array, outer: Array, span: tuple[float, float]
) -> SectionLane:
    kind = element.get("type", "none")
    link = child(element, "link")
    speeds = children(element, "speed")
    return SectionLane(
        lane_id,
        LANE_TYPES.get(kind) if lane_id else None,
        kind == "bidirectional",
        inner,
        outer,
        _marks(element, lane_id, span),
        _speed(speeds[0]) if speeds else float("nan"),
        [integer(e, "id") for e in children(link, "predecessor")],
        [integer(e, "id") for e in children(link, "successor")],
    )


def _widths(element: Element, origin: float) -> tuple[Cubics, bool]:
    """The lane's width (or, where it has none, border) along s, and whether it is a border."""
    widths, borders = children(element, "width"), children(element, "border")
    is_border = bool(borders) and not widths
    return Cubics.from_elements(borders if is_border else widths, "sOffset", origin), is_border


def _marks(element: Element, lane_id: int, span: tuple[float, float]) -> list[Mark]:
    records = sorted(children(element, "roadMark"), key=lambda e: number(e, "sOffset", 0.0))
    starts = [min(span[0] + number(e, "sOffset", 0.0), span[1]) for e in records]
    ends = [*starts[1:], span[1]][: len(starts)]
    kinds = [_mark_kind(e.get("type", "none"), lane_id) for e in records]
    return [Mark(*mark) for mark in zip(starts, ends, kinds, strict=True)]


def _mark_kind(name: str, lane_id: int) -> MarkingType | None:
    """Kind along +s; None for curbs and edges, which no tyre paints over.

    A double mark is named from the inside outwards, on the centre lane from left to right (1.4, roadMark).
    """
    kind = _MARKS.get(name)
    return kind if kind is None or lane_id <= 0 else _MIRRORED.get(kind, kind)


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
