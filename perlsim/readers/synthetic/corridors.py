"""Maps without a junction: multi-lane roads, merges, a street with parked cars."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from perlsim.geometry.polylines import arc_lengths
from perlsim.readers.synthetic.curves import direction, from_curvature, offset, smooth_step, tangents
from perlsim.readers.synthetic.maps import Corridor, Path, RoadBuilder, TownMap
from perlsim.readers.synthetic.zones import crossing_zones, join_zones
from perlsim.scenario import Array
from perlsim.vocabulary import LaneType, MarkingType

SHOULDER = 0.75
"""m between the outermost lane and the road edge."""
PARKING = 2.5
"""m, width of the strip of parked cars."""
PAVEMENT = 2.0
"""m from the kerb to where pedestrians start."""


def multi_lane(rng: np.random.Generator) -> TownMap:
    """A straight or curved road with one to four lanes a direction, one- or two-way."""
    limit = rng.choice([13.9, 16.7, 22.2, 27.8, 33.3])
    fast, two_way = limit > 20.0, limit < 25.0 and rng.random() < 0.6
    width = rng.uniform(3.2, 3.75)
    counts = [int(rng.integers(2, 5)), int(rng.integers(1, 4))]
    builder = RoadBuilder(limit, LaneType.FREEWAY if fast and not two_way else LaneType.DRIVING)
    reference = _reference(rng, 320.0 + 17.0 * limit, limit)
    paths, corridors = [], {}
    for side, count in enumerate(counts[: 2 if two_way else 1]):
        line = reference if side == 0 else reference[::-1]
        centres = [offset(line, -(k + 0.5) * width) for k in range(count)]
        sections, lanes = _lay_lanes(builder, line, centres, width)
        for k in range(1, count):
            builder.lines.append((offset(line, -k * width), MarkingType.BROKEN))
        builder.lines.append((offset(line, -count * width), MarkingType.SOLID))
        builder.edges.append(offset(line, -count * width - SHOULDER))
        paths.append(Path(line, limit))
        corridors[side] = Corridor(side, count, width, sections, lanes)
    builder.lines.append((reference, MarkingType.DOUBLE_SOLID if two_way else MarkingType.SOLID))
    if not two_way:
        builder.edges.append(offset(reference, SHOULDER)[::-1])
    return TownMap("multi_lane", builder.build(5.0), tuple(paths), join_zones([]), corridors)


def merge(rng: np.random.Generator) -> TownMap:
    """A one-way road of two or three lanes where an on-ramp joins, or one more lane ends."""
    limit = rng.choice([16.7, 22.2, 27.8])
    width, count = rng.uniform(3.4, 3.75), int(rng.integers(2, 4))
    ramp = rng.random() < 0.6
    builder = RoadBuilder(limit, LaneType.FREEWAY if limit > 20.0 else LaneType.DRIVING)
    line = _reference(rng, 420.0 + 17.0 * limit, limit, bend=0.5)
    along = arc_lengths(line)
    begin = rng.uniform(170.0, 230.0) if ramp else 0.0
    end = (begin if ramp else 150.0) + rng.uniform(140.0, 220.0)
    depth, approach = (rng.uniform(9.0, 14.0), 150.0) if ramp else (0.0, 0.0)
    swing = smooth_step((along - begin + approach) / max(approach, 1.0))[0]
    aside = -(count + 0.5) * width - depth * (1.0 - swing)
    before, beside = along <= begin, (along >= begin) & (along <= end)
    centres = [offset(line, -(k + 0.5) * width) for k in range(count)] + [offset(line, aside)]
    sections, lanes = _lay_lanes(builder, line, centres, width, begin, end)
    corridor = Corridor(0, count + 1, width, sections, lanes, count, begin, end, depth, approach)
    for k in range(1, count):
        builder.lines.append((offset(line, -k * width), MarkingType.BROKEN))
    border = offset(line, -count * width)
    builder.lines += [(border[beside], MarkingType.BROKEN), (border[along >= end], MarkingType.SOLID)]
    builder.lines.append((line, MarkingType.SOLID))
    if ramp:
        builder.lines.append((border[before], MarkingType.SOLID))
        _gore(builder, line, aside, count * width, width)
    taper = np.clip((along - end - 5.0) / 45.0, 0.0, 1.0) * width
    outer = np.where(along < begin, aside - 0.5 * width, -(count + 1) * width + taper) - SHOULDER
    builder.edges += [offset(line, outer), offset(line, SHOULDER)[::-1]]
    return TownMap("merge", builder.build(5.0), (Path(line, limit),), join_zones([]), {0: corridor})


def _lay_lanes(
    builder: RoadBuilder,
    line: Array,
    centres: list[Array],
    width: float,
    begin: float = 0.0,
    end: float | None = None,
) -> tuple[Array, Array]:
    """Cuts lanes into sections that follow each other.

    Args:
        builder: takes the lanes.
        line: reference `[n, 2]` m, points parallel to those of each centre line.
        centres: centre lines from left to right.
        width: m.
        begin, end: m along the reference; where `end` is given, the last lane runs beside the others between
            these two, leads there before `begin`, and is absent after `end`.

    Returns:
        Arc lengths at which sections begin, and lane indices `[sections, lanes]`, −1 where a lane is absent.
    """
    along = arc_lengths(line)
    starts = [0.0, begin, end] if end is not None else [0.0, along[-1] / 3, 2 * along[-1] / 3]
    starts = sorted(set(starts))
    cuts = [int(np.searchsorted(along, start)) for start in starts] + [len(line) - 1]
    lanes = np.full((len(starts), len(centres)), -1)
    for section, (first, last) in enumerate(pairwise(cuts)):
        for k, centre in enumerate(centres):
            if end is None or k < len(centres) - 1 or starts[section] < end:
                lanes[section, k] = builder.lane(centre[first : last + 1], width)
                if section and lanes[section - 1, k] >= 0:
                    builder.link(lanes[section - 1, k], lanes[section, k])
        for k, (left, right) in enumerate(pairwise(lanes[section])):
            apart = k == len(centres) - 2 and end is not None and starts[section] < begin
            if right >= 0 and not apart:
                builder.side_by_side(left, right)
    return np.array(starts), lanes


def parked_street(rng: np.random.Generator) -> TownMap:
    """A two-way street with parked cars on both sides and places where pedestrians cross between them."""
    limit, width = rng.choice([8.3, 11.1, 13.9]), rng.uniform(3.2, 3.5)
    builder = RoadBuilder(limit)
    reference = _reference(rng, 330.0 + 8.0 * limit, limit, bend=0.6)
    count, half = len(reference), width + PARKING + PAVEMENT
    crossings = np.sort(rng.choice(np.arange(70, count - 60, 22), int(rng.integers(5, 9)), replace=False))
    zebra = int(crossings[rng.integers(len(crossings))]) if rng.random() < 0.5 else -1
    paths: list[Path] = []
    corridors: dict[int, Corridor] = {}
    for side in (1, -1):
        line = reference[::side]
        centre = offset(line, -0.5 * width)
        sections, lanes = _lay_lanes(builder, centre, [centre], width)
        corridors[len(paths)] = Corridor(len(paths), 1, 0.0, sections, lanes)
        paths.append(Path(centre, limit))
        builder.lines.append((offset(line, -width), MarkingType.NONE))
        builder.edges.append(offset(line, -width - PARKING))
    builder.lines.append((reference, MarkingType.BROKEN if limit < 13 else MarkingType.SOLID))
    along = [arc_lengths(path.points) for path in paths]
    heading, zones = tangents(reference), []
    for at in crossings:
        ahead, left = direction(float(heading[at])), direction(float(heading[at]) + np.pi / 2)
        for side in (1, -1):
            span = np.linspace(-half, half + 4.0, 60)[:, None]
            walker = len(paths)
            # Those who come towards each other keep apart.
            points = reference[at] + side * (0.5 * ahead + span * left)
            paths.append(Path(points, 3.0, hold=half - width - 0.3, pedestrian=True))
            # Lane 0 lies right of the reference (negative side), lane 1 left of it.
            for lane, row in ((0, at), (1, count - 1 - at)):
                walked = half + (lane - 0.5) * side * width
                zones.append(crossing_zones(lane, float(along[lane][row]), walker, walked))
    if zebra >= 0:
        ahead, left = direction(float(heading[zebra])), direction(float(heading[zebra]) + np.pi / 2)
        reach = width + PARKING
        corners = [(-2, -1), (2, -1), (2, 1), (-2, 1)]
        builder.crosswalks.append(
            np.array([reference[zebra] + a * ahead + b * reach * left for a, b in corners])
        )
    return TownMap(
        "parked_street",
        builder.build(5.0),
        tuple(paths),
        join_zones(zones),
        corridors,
        parked=_bays(rng, reference, crossings, zebra, width),
    )


def _bays(rng, reference: Array, crossings: Array, zebra: int, width: float) -> Array:
    """Poses of parking bays on both sides, clear of where pedestrians cross."""
    heading, bays = tangents(reference), []
    for side in (1, -1):
        line = offset(reference, -side * (width + 0.25 + 1.05))
        at = np.arange(int(rng.integers(12, 18)), len(reference) - 14, 6.4)
        for k in at.astype(int):
            gap = np.abs(crossings - k) - np.where(crossings == zebra, 3.5, 0.0)
            if gap.min() > 4.2 and rng.random() < 0.85:
                bays.append([*line[k], heading[k] + (0.0 if side == 1 else np.pi)])
    return np.array(bays).reshape(-1, 3)


def _reference(rng: np.random.Generator, length: float, limit: float, bend: float = 1.0) -> Array:
    """A line with points 1 m apart: straight, or bent with curvature that suits the speed limit."""
    along = np.arange(0.0, length, 1.0)
    curvature = np.zeros_like(along)
    strongest = bend * min(1.6 / limit**2, 1.0 / 70.0)
    if rng.random() < 0.75:
        for _ in range(int(rng.integers(1, 4))):
            centre, spread = rng.uniform(0.0, length), rng.uniform(50.0, 120.0)
            inside = np.abs(along - centre) < spread
            bump = 0.5 + 0.5 * np.cos(np.pi * (along - centre) / spread)
            peak = rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 1.0) * strongest
            curvature += np.where(inside, bump, 0.0) * peak
    curvature = np.clip(curvature, -strongest, strongest)
    return from_curvature(curvature, 1.0, np.zeros(2), rng.uniform(-np.pi, np.pi))


def _gore(builder: RoadBuilder, line: Array, aside: Array, border: float, width: float) -> None:
    """The edge round the area between road and ramp: out along the road, back along the ramp."""
    road, ramp = -border - SHOULDER, aside + 0.5 * width + SHOULDER
    nose = int(np.flatnonzero(road - ramp > 0.2)[-1])
    builder.edges.append(
        np.concatenate([offset(line, road)[:nose], offset(line, ramp)[:nose][::-1]]),
    )
