"""What a generated map holds, and the builder that families fill it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from perlsim.geometry.polylines import arc_lengths
from perlsim.readers.synthetic.curves import SPACING, join, resample, tangents
from perlsim.scenario import Array, Lanes, Markings, Ragged, Road, StopSigns
from perlsim.vocabulary import LaneType, MarkingType

FAR = 1e6
"""m; stands for "everywhere before" or "never"."""
LATERAL_LIMIT = 2.0
"""m/s²; curves are driven at the speed that needs no more lateral acceleration."""
SLOW_DOWN = 1.3
"""m/s²; deceleration before curves."""


@dataclass(frozen=True)
class Path:
    """A line that road users follow, and what governs them on it.

    Attributes:
        points: `[n, 2]` m.
        limit: m/s.
        lanes: lane indices along it, in order; empty for pedestrians and on corridors.
        hold: m, arc length of the stop or yield line (for pedestrians: where they look before they step out);
            `FAR` if there is none.
        entry: m, arc length where the lane before the junction ends (0 where there is none).
        exit: m, arc length where the lane after the junction begins.
        group: light group, −1 none.
        rank: paths of lower rank have priority.
        stop_sign: whether everyone must stop at `hold`.
        wait_inside: whether to wait for oncoming traffic inside the junction rather than at `hold`.
        pedestrian: whether pedestrians walk on it.
        turn: rad, how much it turns in the junction (positive: left).
    """

    points: Array
    limit: float
    lanes: tuple[int, ...] = ()
    hold: float = FAR
    entry: float = 0.0
    exit: float = 0.0
    group: int = -1
    rank: int = 0
    stop_sign: bool = False
    wait_inside: bool = False
    pedestrian: bool = False
    turn: float = 0.0


@dataclass(frozen=True)
class Zone:
    """Where two paths are closer than the road users on them are wide; arc lengths in m, ``[Z]``.

    Attributes:
        path, other: path indices.
        start, end: the stretch of `path`; other_start, other_end: that of `other`.
        shift: arc length on `path` minus that on `other` at the same place.
        shared: whether both run the same way there (follow) rather than cross.
        priority: 1 the user of `path` yields, −1 it does not, 0 first come, first served.
    """

    path: Array
    other: Array
    start: Array
    end: Array
    other_start: Array
    other_end: Array
    shift: Array
    shared: Array
    priority: Array


@dataclass(frozen=True)
class Program:
    """A fixed-time signal programme.

    Attributes:
        start, green: `[G]` s, when each group's green begins in the cycle and how long it lasts.
        cycle: s.
    """

    start: Array
    green: Array
    cycle: float

    YELLOW = 3.0


@dataclass(frozen=True)
class Corridor:
    """Lanes side by side along one path: lane ``k`` (0 leftmost) has its centre at −(k + ½)·width.

    Attributes:
        path: index of the reference path.
        count: number of lanes.
        width: m.
        sections: m, arc lengths at which the sections of its lanes begin.
        lanes: `[sections, count]` lane indices, −1 where a lane is absent.
        ending: index of a lane that ends, −1 none.
        begin, end: m, from where that lane may be left, and where it ends.
        depth, approach: m, lateral distance from which, and length over which, a ramp swings into that lane
            before `begin`; 0 where the lane is there from the start.
    """

    path: int
    count: int
    width: float
    sections: Array
    lanes: Array
    ending: int = -1
    begin: float = 0.0
    end: float = FAR
    depth: float = 0.0
    approach: float = 0.0

    def lane_offset(self, lane):
        """Lateral position of a lane's centre, m to the left of the reference."""
        return -(np.asarray(lane) + 0.5) * self.width


@dataclass(frozen=True)
class TownMap:
    """One generated map.

    Attributes:
        family: its family.
        road: the map proper, float64, in its own frame.
        paths: what road users follow.
        zones: where paths meet.
        corridors: multi-lane stretches, by reference path.
        program: signal programme or None.
        light_lane, light_group: `[L]` controlled lanes and their light groups.
        parked: `[K, 3]` x, y, heading of parking bays along the kerb.
    """

    family: str
    road: Road
    paths: tuple[Path, ...]
    zones: Zone
    corridors: dict[int, Corridor] = field(default_factory=dict)
    program: Program | None = None
    light_lane: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    light_group: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    parked: Array = field(default_factory=lambda: np.zeros((0, 3)))


@dataclass(frozen=True)
class PathTable:
    """Paths resampled every `SPACING` m, concatenated: path ``p`` begins at ``start[p]``.

    Attributes:
        x, y, heading, curvature, speed: flat, m, rad (unwrapped), 1/m, and the highest comfortable speed m/s.
        start, count: `[P]` first point and number of points.
        length: `[P]` m.
    """

    x: Array
    y: Array
    heading: Array
    curvature: Array
    speed: Array
    start: Array
    count: Array
    length: Array


def tabulate(paths: Sequence[Path]) -> PathTable:
    """Resamples paths and computes the speeds that their curves allow."""
    columns: list[tuple[Array, ...]] = []
    for path in paths:
        points = resample(path.points, SPACING)
        heading = tangents(points)
        curvature = np.gradient(heading, SPACING)
        curvature = np.convolve(np.pad(curvature, 2, "edge"), np.full(5, 0.2), "valid")
        allowed = np.minimum(path.limit**2, LATERAL_LIMIT / np.maximum(np.abs(curvature), 1e-6))
        # Fastest v² at each point from which every later point's v² is reached by braking gently.
        ramp = 2.0 * SLOW_DOWN * SPACING * np.arange(len(points))
        allowed = np.minimum.accumulate((allowed + ramp)[::-1])[::-1] - ramp
        columns.append((points[:, 0], points[:, 1], heading, curvature, np.sqrt(allowed)))
    count = np.array([len(c[0]) for c in columns])
    flat = [np.concatenate([c[k] for c in columns]) for k in range(5)]
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    return PathTable(*flat, start=start, count=count, length=(count - 1) * SPACING)


class RoadBuilder:
    """Collects lanes, lines and edges in the plane and packs them as a `Road`."""

    def __init__(self, limit: float, kind: LaneType = LaneType.DRIVING):
        self.limit, self.kind = limit, kind
        self.centres: list[Array] = []
        self.widths: list[float] = []
        self.junction: list[bool] = []
        self.successors: list[list[int]] = []
        self.left: list[list[int]] = []
        self.right: list[list[int]] = []
        self.lines: list[tuple[Array, MarkingType]] = []
        self.edges: list[Array] = []
        self.crosswalks: list[Array] = []
        self.stops: list[tuple[Array, float, int]] = []

    def lane(self, points: Array, width: float, *, junction: bool = False) -> int:
        """Adds a lane with centre line `[n, 2]`; returns its index."""
        self.centres.append(points)
        self.widths.append(width)
        self.junction.append(junction)
        for graph in (self.successors, self.left, self.right):
            graph.append([])
        return len(self.centres) - 1

    def link(self, lane: int, following: int) -> None:
        """Makes `following` a successor of `lane`."""
        if following not in self.successors[lane]:
            self.successors[lane].append(following)

    def side_by_side(self, left: int, right: int) -> None:
        """Makes two lanes neighbours that may be changed into."""
        self.right[left].append(right)
        self.left[right].append(left)

    def path(self, lanes: Sequence[int], **governing) -> Path:
        """The path along consecutive lanes."""
        points = join(*(self.centres[lane] for lane in lanes))
        return Path(points, self.limit, tuple(lanes), **governing)

    def build(self, spacing: float) -> Road:
        """The road, straight stretches with a point about every `spacing` m, curved ones finer."""
        centres = [_thin(points, spacing) for points in self.centres]
        width = np.repeat(np.array(self.widths), [len(points) for points in centres])
        count = len(centres)
        lanes = Lanes(
            centre=Ragged.from_rows([_lift(points) for points in centres], width=3),
            width=width,
            kind=np.full(count, self.kind, np.int8),
            speed_limit=np.full(count, self.limit),
            in_junction=np.array(self.junction, bool),
            successors=Ragged.from_rows(self.successors, dtype=np.int32),
            left=Ragged.from_rows(self.left, dtype=np.int32),
            right=Ragged.from_rows(self.right, dtype=np.int32),
            ids=tuple(f"lane_{k}" for k in range(count)),
        )
        return Road(
            lanes=lanes,
            markings=Markings(
                Ragged.from_rows([_lift(_thin(points, spacing)) for points, _ in self.lines], width=3),
                np.array([kind for _, kind in self.lines], np.int8),
            ),
            edges=Ragged.from_rows([_lift(_thin(points, spacing)) for points in self.edges], width=3),
            crosswalks=Ragged.from_rows([_lift(points) for points in self.crosswalks], width=3),
            stop_signs=StopSigns(
                _lift(np.array([stop[0] for stop in self.stops]).reshape(-1, 2)),
                np.array([stop[1] for stop in self.stops], np.float64),
                np.array([stop[2] for stop in self.stops], np.int32),
            ),
        )


def _lift(points: Array) -> Array:
    return np.concatenate([points, np.zeros((len(points), 1))], -1)


def _thin(points: Array, spacing: float) -> Array:
    """Keeps points at most `spacing` m or 0.1 rad apart, and both ends."""
    heading = tangents(points)
    turned = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(heading)))])
    progress = np.floor(arc_lengths(points) / spacing + turned / 0.1)
    keep = np.concatenate([[True], np.diff(progress) >= 1])
    keep[-1] = True
    if len(points) > 2 and keep[-2]:
        keep[-2] = False
    return points[keep]
