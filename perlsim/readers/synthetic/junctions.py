"""Maps with one junction: signalised, unsignalised (T and four arms), roundabout."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from perlsim.geometry.polylines import arc_lengths, wrap
from perlsim.readers.synthetic.curves import connect, direction, from_curvature, join, offset, tangents
from perlsim.readers.synthetic.maps import Path, Program, RoadBuilder, TownMap
from perlsim.readers.synthetic.zones import find_zones
from perlsim.scenario import Array
from perlsim.vocabulary import MarkingType

SHOULDER = 0.75
"""m between the outermost lane and the road edge."""
LINE_SETBACK = 1.0
"""m from the stop line to the end of its lane."""


@dataclass(frozen=True)
class _Arm:
    """One arm of a junction: its axis outwards, and its lanes, innermost first."""

    angle: float
    axis: Array
    count: int
    incoming: list[int]
    outgoing: list[int]


def signalised_junction(rng: np.random.Generator) -> TownMap:
    """Four arms with traffic lights: two phases, protected left turns, or one arm after the other."""
    counts = rng.integers(1, 4, 2)
    width, limit = rng.uniform(3.1, 3.6), rng.choice([11.1, 13.9, 16.7])
    builder = RoadBuilder(limit)
    arms = _arms(builder, rng, [counts[0], counts[1]] * 2, _angles(rng, 4), width)
    scheme = rng.choice(3, p=[0.6, 0.2, 0.2])
    protected = scheme == 1 and counts.min() >= 2
    group_of = _groups(scheme, protected)
    paths = _movements(builder, arms, group_of, dedicated_left=protected, wait_inside=scheme == 0)
    program = _program(rng, scheme, protected)
    if scheme == 0:
        paths += _crossings(builder, arms, width, rng)
    _corner_edges(builder, arms, width)
    light_lane, light_group = [], []
    for k, arm in enumerate(arms):
        for lane, idx in enumerate(arm.incoming):
            light_lane.append(idx)
            light_group.append(group_of(k, "left" if protected and lane == 0 else "through"))
    return TownMap(
        "signalised_junction",
        builder.build(4.0),
        tuple(paths),
        find_zones(paths),
        program=program,
        light_lane=np.array(light_lane, np.int32),
        light_group=np.array(light_group),
    )


def unsignalised_junction(rng: np.random.Generator) -> TownMap:
    """Three or four arms: a priority road with stop signs on the side road, or an all-way stop."""
    three = rng.random() < 0.5
    all_way = not three and rng.random() < 0.4
    counts = [int(rng.integers(1, 3)), 1] * 2
    width, limit = rng.uniform(3.1, 3.6), rng.choice([8.3, 11.1, 13.9])
    builder = RoadBuilder(limit)
    used = [0, 1, 2] if three else [0, 1, 2, 3]
    if all_way:
        counts = [1] * 4
    angles = _angles(rng, 4)
    arms = _arms(builder, rng, [counts[k] for k in used], [angles[k] for k in used], width)
    paths = _movements(
        builder, arms, lambda arm, movement: -1, minor=(1, 3), stop_at=(0, 1, 2, 3) if all_way else (1, 3)
    )
    _corner_edges(builder, arms, width)
    return TownMap("unsignalised_junction", builder.build(4.0), tuple(paths), find_zones(paths))


def roundabout(rng: np.random.Generator) -> TownMap:
    """Three to five arms of one lane a direction on a one-lane ring; who is on the ring has priority."""
    count = int(rng.integers(3, 6))
    width, limit = rng.uniform(3.3, 3.7), rng.choice([8.3, 11.1, 13.9])
    radius = rng.uniform(16.0, 20.0) + 2.0 * max(count - 4, 0)
    ring_width = 4.6
    builder = RoadBuilder(limit)
    spacing = 2 * np.pi / count
    angles = rng.uniform(-np.pi, np.pi) + spacing * (np.arange(count) + rng.uniform(-0.06, 0.06, count))
    arms = _arms(builder, rng, [1] * count, angles, width, reach=radius + 15.0)
    swing = 0.36 * spacing
    # Ring pieces: from each entry to the next arm's exit, and from an exit to its own arm's entry.
    after, beside = [], []
    for k in range(count):
        following = angles[(k + 1) % count] + (2 * np.pi if k + 1 == count else 0.0)
        after.append(_arc(builder, radius, angles[k] + swing, following - swing, ring_width))
        beside.append(_arc(builder, radius, angles[k] - swing, angles[k] + swing, ring_width))
    entries, exits = [], []
    for k, arm in enumerate(arms):
        ring_in, ring_out = (radius * direction(angles[k] + s * swing) for s in (1, -1))
        lane_in, lane_out = builder.centres[arm.incoming[0]], builder.centres[arm.outgoing[0]]
        ends = angles[k] + swing + np.pi / 2, angles[k] - swing + np.pi / 2
        entries.append(
            builder.lane(connect(lane_in[-1], tangents(lane_in)[-1], ring_in, ends[0]), 4.0, junction=True)
        )
        exits.append(
            builder.lane(connect(ring_out, ends[1], lane_out[0], tangents(lane_out)[0]), 4.0, junction=True)
        )
        for pair in (
            (arm.incoming[0], entries[k]),
            (entries[k], after[k]),
            (after[k - 1], exits[k]),
            (after[k - 1], beside[k]),
            (beside[k], after[k]),
            (exits[k], arm.outgoing[0]),
        ):
            builder.link(*pair)
    paths = []
    for k in range(count):
        for step in range(1, count):
            j = (k + step) % count
            around = [after[k]]
            for between in range(1, step):
                around += [beside[(k + between) % count], after[(k + between) % count]]
            lanes = [arms[k].incoming[0], entries[k], *around, exits[j], arms[j].outgoing[0]]
            paths.append(_governed(builder, lanes, rank=0))
        right = builder.path([arms[k].incoming[0], entries[k], after[k], exits[(k + 1) % count]])
        edge = join(right.points, builder.centres[arms[(k + 1) % count].outgoing[0]])
        builder.edges.append(offset(edge, -(0.5 * ring_width + SHOULDER)))
    island = np.linspace(0.0, -2 * np.pi, 73)
    inner = radius - 0.5 * ring_width - 0.5
    builder.edges.append(inner * np.stack([np.cos(island), np.sin(island)], -1))
    return TownMap("roundabout", builder.build(4.0), tuple(paths), find_zones(paths, circular=True))


def _arc(builder: RoadBuilder, radius: float, begin: float, end: float, width: float) -> int:
    at = np.linspace(begin, end, max(int(radius * (end - begin) / 0.5), 3))
    return builder.lane(radius * np.stack([np.cos(at), np.sin(at)], -1), width, junction=True)


def _angles(rng: np.random.Generator, count: int) -> Array:
    return rng.uniform(-np.pi, np.pi) + np.pi / 2 * np.arange(count) + rng.uniform(-0.12, 0.12, count)


def _arms(builder, rng, counts, angles, width, reach: float | None = None) -> list[_Arm]:
    """Builds the arms' lanes and paint; `reach` m from the centre to where lanes begin."""
    arms = []
    for k, (count, angle) in enumerate(zip(counts, angles, strict=True)):
        across = max(counts[j] for j in range(len(counts)) if j % 2 != k % 2 or len(counts) > 4)
        start = reach or across * width + rng.uniform(9.0, 12.0)
        length, spacing = rng.uniform(140.0, 190.0), 1.0
        along = np.arange(0.0, length, spacing)
        bend = np.clip((along - 25.0) / 30.0, 0.0, 1.0) * rng.uniform(-1.0, 1.0) / 220.0
        axis = from_curvature(bend, spacing, start * direction(angle), angle)
        incoming = [builder.lane(offset(axis, (i + 0.5) * width)[::-1], width) for i in range(count)]
        outgoing = [builder.lane(offset(axis, -(i + 0.5) * width), width) for i in range(count)]
        for lanes in (incoming, outgoing):
            for left, right in pairwise(lanes):
                builder.side_by_side(left, right)
        arms.append(_Arm(float(angle), axis, int(count), incoming, outgoing))
        _paint_arm(builder, axis, count, width)
    return arms


def _paint_arm(builder: RoadBuilder, axis: Array, count: int, width: float) -> None:
    """Centre line double solid; lane lines broken, solid close to the junction on the way in."""
    near = axis[:30]
    builder.lines.append((axis[1:], MarkingType.DOUBLE_SOLID))
    for i in range(1, count):
        builder.lines.append((offset(near, i * width), MarkingType.SOLID))
        builder.lines.append((offset(axis[29:], i * width), MarkingType.BROKEN))
        builder.lines.append((offset(axis, -i * width), MarkingType.BROKEN))
    for side in (1, -1):
        builder.lines.append((offset(axis, side * count * width), MarkingType.SOLID))


def _movements(
    builder: RoadBuilder,
    arms: list[_Arm],
    group_of,
    *,
    minor: tuple[int, ...] = (),
    stop_at: tuple[int, ...] = (),
    dedicated_left: bool = False,
    wait_inside: bool = False,
) -> list[Path]:
    """Connectors and paths for every movement that the lanes allow."""
    paths = []
    equal = len(stop_at) == 4
    for k, arm in enumerate(arms):
        for j, target in enumerate(arms):
            if j == k:
                continue
            turn = float(wrap(np.asarray(target.angle - arm.angle - np.pi)))
            movement = "through" if abs(turn) < 0.6 else "left" if turn > 0 else "right"
            for lane, out in _lane_pairs(movement, arm.count, target.count, dedicated_left):
                first, last = arm.incoming[lane], target.outgoing[out]
                curve = connect(
                    builder.centres[first][-1],
                    tangents(builder.centres[first])[-1],
                    builder.centres[last][0],
                    tangents(builder.centres[last])[0],
                )
                middle = builder.lane(curve, builder.widths[first], junction=True)
                builder.link(first, middle)
                builder.link(middle, last)
                rank = 0 if equal else 2 * (k in minor) + (movement == "left")
                paths.append(
                    _governed(
                        builder,
                        [first, middle, last],
                        group=group_of(k, movement),
                        rank=rank,
                        stop_sign=k in stop_at,
                        wait_inside=wait_inside,
                        turn=turn,
                    )
                )
        if k in stop_at:
            for lane in arm.incoming:
                centre = builder.centres[lane]
                position = centre[-1] - LINE_SETBACK * direction(tangents(centre)[-1])
                builder.stops.append((position, float(tangents(centre)[-1]), lane))
    return paths


def _lane_pairs(movement: str, count: int, out_count: int, dedicated_left: bool) -> list[tuple[int, int]]:
    """Pairs (incoming lane, outgoing lane), 0 innermost, that a movement uses."""
    if movement == "left":
        return [(0, 0)]
    if movement == "right":
        return [(count - 1, out_count - 1)]
    first = 1 if dedicated_left else 0
    return [(lane, min(lane, out_count - 1)) for lane in range(first, count)]


def _governed(builder: RoadBuilder, lanes: list[int], **governing) -> Path:
    entry = float(arc_lengths(builder.centres[lanes[0]])[-1])
    last = float(arc_lengths(builder.centres[lanes[-1]])[-1])
    path = builder.path(lanes)
    leave = float(arc_lengths(path.points)[-1]) - last
    return builder.path(lanes, hold=entry - LINE_SETBACK, entry=entry, exit=leave, **governing)


def _corner_edges(builder: RoadBuilder, arms: list[_Arm], width: float) -> None:
    """One edge from each arm's right border to the next arm's (counter-clockwise), drivable on its left."""
    aside = -(0.5 * width + SHOULDER)
    for k, arm in enumerate(arms):
        target = arms[(k + 1) % len(arms)]
        first, last = builder.centres[arm.incoming[-1]], builder.centres[target.outgoing[-1]]
        curve = connect(first[-1], tangents(first)[-1], last[0], tangents(last)[0])
        builder.edges.append(offset(join(first, curve, last), aside))


def _groups(scheme: int, protected: bool):
    """The function (arm, movement) -> light group of a signalling scheme."""
    if protected:
        return lambda arm, movement: arm % 2 * 2 + (movement == "left")
    if scheme == 2:
        return lambda arm, movement: arm
    return lambda arm, movement: arm % 2


def _program(rng: np.random.Generator, scheme: int, protected: bool) -> Program:
    clear = Program.YELLOW + rng.uniform(1.5, 2.5)
    if protected:
        green = rng.uniform(8.0, 16.0, 4) * np.array([1.0, 0.6, 1.0, 0.6])
    else:
        green = rng.uniform(8.0, 18.0, 4 if scheme == 2 else 2)
    ends = np.cumsum(green + clear)
    return Program(ends - green - clear, green, float(ends[-1]))


def _crossings(builder: RoadBuilder, arms: list[_Arm], width: float, rng: np.random.Generator) -> list[Path]:
    """A crosswalk between the stop line and the middle of each arm, with a path each way."""
    paths = []
    for k, arm in enumerate(arms):
        if rng.random() < 0.25:
            continue
        out, left = direction(arm.angle), direction(arm.angle + np.pi / 2)
        kerb, inner = arm.count * width + SHOULDER, arm.axis[0] - 4.2 * out
        outer = arm.axis[0] - 0.8 * out
        builder.crosswalks.append(
            np.array([inner - kerb * left, outer - kerb * left, outer + kerb * left, inner + kerb * left])
        )
        for side in (1, -1):
            middle = arm.axis[0] - (2.5 - 0.7 * side) * out
            span = np.linspace(-kerb - 3.0, kerb + 6.0, 80)[:, None]
            points = middle + side * span * left
            paths.append(Path(points, 3.0, hold=2.2, group=k % 2, pedestrian=True))
    return paths
