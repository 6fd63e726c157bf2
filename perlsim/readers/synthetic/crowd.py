"""Who is on the road: road users of a scenario with their characters and places at the start."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from perlsim.readers.synthetic.curves import SPACING
from perlsim.readers.synthetic.maps import FAR, PathTable, TownMap
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType

REAR_OVERHANG = 0.2
"""Share of a vehicle's length behind its rear axle, and ahead of its front axle."""

# Kind, share, length and width bounds [m], height [m]: passenger cars, vans, trucks, buses, two-wheelers.
_KINDS = (
    (AgentType.VEHICLE, 0.70, (3.8, 5.0), (1.75, 1.95), 1.55),
    (AgentType.VEHICLE, 0.12, (5.0, 5.6), (1.95, 2.05), 2.1),
    (AgentType.TRUCK, 0.06, (7.0, 11.0), (2.3, 2.5), 3.4),
    (AgentType.BUS, 0.03, (11.0, 12.0), (2.5, 2.55), 3.2),
    (AgentType.CYCLIST, 0.06, (1.7, 1.9), (0.6, 0.75), 1.7),
    (AgentType.MOTORCYCLIST, 0.03, (2.1, 2.3), (0.75, 0.85), 1.6),
)
_KIND = np.array([int(kind[0]) for kind in _KINDS])
_SHARE = np.array([kind[1] for kind in _KINDS])
_SMALLEST = np.array([[kind[2][0], kind[3][0]] for kind in _KINDS])
_LARGEST = np.array([[kind[2][1], kind[3][1]] for kind in _KINDS])
_HEIGHT = np.array([kind[4] for kind in _KINDS])


@dataclass
class Crowd:
    """Road users, one row each; every field is `[n]`, in m, s, rad.

    Attributes:
        path: path index (of the map; −1 parked).
        s: arc length of the rear axle's foot plus `rear`: the box centre along the path.
        v: m/s.
        lane: corridor lane, 0 leftmost.
        d0, d1, swing_start, swing_length: lateral offset before and after a swing, and where it lies.
        length, width, height, kind: the box. `rear`: from the rear axle to the box centre.
        eagerness: share of the allowed speed wanted, for pedestrians and cyclists the speed itself in m/s.
        accel, brake, headway, standstill: IDM parameters.
        release: s, when a pedestrian sets out. `trigger`: s, how near a car must be for that (0: no matter).
        brake_start, brake_end, brake_force: a scripted hard brake (m/s²).
        x, y, heading: pose of parked cars.
    """

    path: Array
    s: Array
    v: Array
    lane: Array
    d0: Array
    d1: Array
    swing_start: Array
    swing_length: Array
    length: Array
    width: Array
    height: Array
    kind: Array
    rear: Array
    eagerness: Array
    accel: Array
    brake: Array
    headway: Array
    standstill: Array
    release: Array
    trigger: Array
    brake_start: Array
    brake_end: Array
    brake_force: Array
    x: Array
    y: Array
    heading: Array

    def __len__(self) -> int:
        return len(self.path)

    def take(self, rows: Array) -> Crowd:
        """The road users at `rows`."""
        return Crowd(*(getattr(self, name)[rows] for name in _COLUMNS))


_COLUMNS = tuple(f.name for f in fields(Crowd))


def join_crowds(crowds) -> Crowd:
    """All road users of several crowds in order."""
    return Crowd(*(np.concatenate([getattr(c, name) for c in crowds]) for name in _COLUMNS))


def populate(town: TownMap, table: PathTable, slots: Slots, rng: np.random.Generator) -> Crowd:
    """Draws the road users of one scenario: between 4 and 48, dense or sparse."""
    wanted = int(np.clip(rng.gamma(3.0, 8.0), 16 if len(town.parked) else 5, 46))
    spacing = float(rng.uniform(0.7, 2.0) * np.clip(40.0 / wanted, 0.6, 3.0))
    moving = _moving(town, table, slots, rng, spacing)
    if town.corridors:
        _script_brakes(moving, rng)
    walkers = _pedestrians(town, rng)
    if len(walkers):
        walkers = walkers.take(np.arange(min(len(walkers), max(wanted // 3, 1))))
    parked = _parked(town, rng, wanted // 2, walkers)
    room = max(wanted - len(walkers) - len(parked), 5)
    keep = np.sort(rng.permutation(len(moving))[:room])
    return join_crowds([moving.take(keep), walkers, parked])


def _vehicles(rng: np.random.Generator, count: int, allowed: tuple[bool, ...]) -> Crowd:
    """Vehicles with sizes and characters, not yet placed."""
    share = np.cumsum(_SHARE * np.array(allowed))
    choice = np.searchsorted(share, rng.random(count) * share[-1], "right")
    size = rng.uniform(_SMALLEST[choice], _LARGEST[choice])
    kind = _KIND[choice]
    slow = (kind == AgentType.TRUCK) | (kind == AgentType.BUS)
    cyclist = kind == AgentType.CYCLIST
    eagerness = np.where(
        rng.random(count) < 0.12, rng.uniform(0.45, 0.7, count), rng.uniform(0.8, 1.05, count)
    )
    zero = np.zeros(count)
    return Crowd(
        path=np.zeros(count, int),
        s=zero,
        v=zero,
        lane=np.zeros(count, int),
        d0=zero,
        d1=zero,
        swing_start=zero - FAR,
        swing_length=zero + 1.0,
        length=size[:, 0],
        width=size[:, 1],
        height=_HEIGHT[choice],
        kind=kind,
        rear=(0.5 - REAR_OVERHANG) * size[:, 0],
        eagerness=np.where(cyclist, rng.uniform(3.5, 6.0, count), eagerness),
        accel=np.where(slow, 0.8, rng.uniform(1.2, 2.2, count)),
        brake=rng.uniform(1.6, 2.4, count),
        headway=rng.uniform(0.9, 1.7, count),
        standstill=rng.uniform(1.8, 3.0, count),
        release=zero,
        trigger=zero,
        brake_start=zero + FAR,
        brake_end=zero + FAR,
        brake_force=zero,
        x=zero,
        y=zero,
        heading=zero,
    )


@dataclass(frozen=True)
class Slots:
    """Lanes on which vehicles may start, one row each; made once per map.

    Attributes:
        begin, end: m, the stretch to fill, from the start of the path (or from its end where `from_end`).
        pace: m/s, typical speed, which sets the gaps; thin: factor on the gaps.
        from_end: whether places count backwards from the ends of paths, whose lengths differ.
        choices: `[L, C]` paths that run there, repeated to fill the row; straight: for long vehicles, −1
            where they cannot go.
        lane: corridor lane, and d0, d1, swing_start, swing_length: where it lies across the road.
    """

    begin: Array
    end: Array
    pace: Array
    thin: Array
    from_end: Array
    choices: Array
    straight: Array
    lane: Array
    d0: Array
    d1: Array
    swing_start: Array
    swing_length: Array


def find_slots(town: TownMap, table: PathTable) -> Slots:
    """The lanes on which vehicles of this map may start."""
    rows = _corridor_slots(town, table) if town.corridors else _arm_slots(town, table)
    return Slots(*(np.array(column) for column in zip(*rows, strict=True)))


_CHOICES = 12


def _corridor_slots(town: TownMap, table: PathTable) -> list[tuple]:
    rows = []
    limit, street = town.paths[0].limit, town.family == "parked_street"
    for path, corridor in town.corridors.items():
        reach = table.length[path] - (40.0 if street else 17.0 * limit - 120.0)
        for lane in range(corridor.count):
            ending = lane == corridor.ending
            end = min(reach, corridor.end - 110.0) if ending else reach
            d1 = float(corridor.lane_offset(lane))
            depth = corridor.depth if ending else 0.0
            swing = (corridor.begin - corridor.approach, corridor.approach) if depth else (-FAR, 1.0)
            same = np.full(_CHOICES, path)
            rows.append((8.0, end, 0.8 * limit, 1.0, False, same, same, lane, d1 - depth, d1, *swing))
    return rows


def _arm_slots(town: TownMap, table: PathTable) -> list[tuple]:
    by_lane: dict[tuple[bool, int], list[int]] = {}
    for k, path in enumerate(town.paths):
        if not path.pedestrian:
            by_lane.setdefault((True, path.lanes[0]), []).append(k)
            by_lane.setdefault((False, path.lanes[-1]), []).append(k)
    rows = []
    for (incoming, _), choices in by_lane.items():
        first = town.paths[choices[0]]
        straight = [k for k in choices if abs(town.paths[k].turn) < 0.5] or [-1]
        tail = min(table.length[k] - town.paths[k].exit for k in choices)
        begin, end = (8.0, first.hold - 4.0) if incoming else (16.0 - tail, -45.0)
        options = (np.resize(choices, _CHOICES), np.resize(straight, _CHOICES))
        pace, thin = 0.7 * first.limit, 1.0 if incoming else 2.0
        rows.append((begin, end, pace, thin, not incoming, *options, 0, 0.0, 0.0, -FAR, 1.0))
    return rows


def _moving(town: TownMap, table: PathTable, slots: Slots, rng, spacing: float) -> Crowd:
    """Queues of vehicles on all slots, at speeds that suit them."""
    lanes, each = len(slots.begin), 24 if town.corridors else 14
    street, roundabout = town.family == "parked_street", town.family == "roundabout"
    big = not street and not roundabout
    cyclists = street or not town.corridors
    crowd = _vehicles(rng, lanes * each, (True, True, not roundabout, big, cyclists, True))
    length = crowd.length.reshape(lanes, each)
    gaps = rng.uniform(5.0, 9.0, length.shape)
    gaps += (spacing * slots.pace * slots.thin)[:, None] * rng.exponential(0.9, length.shape)
    gaps[:, 0] = rng.uniform(0.0, 25.0, lanes)
    # On some lanes that lead up to a junction the first few stand in a queue.
    waiting = np.where(slots.from_end | (rng.random(lanes) < 0.6), 0, rng.integers(1, 7, lanes))
    standing = (np.arange(each) < waiting[:, None]) & (not town.corridors)
    gaps = np.where(standing, rng.uniform(1.5, 3.0, length.shape), gaps)
    gaps[:, 0] = np.where(standing[:, 0], -2.5, gaps[:, 0])
    front = slots.end[:, None] - np.cumsum(gaps + length, 1) + length
    centre = (front - 0.5 * length).ravel()
    slot = np.repeat(np.arange(lanes), each)
    pick = rng.integers(0, _CHOICES, len(slot))
    long = (crowd.kind == AgentType.TRUCK) | (crowd.kind == AgentType.BUS)
    path = np.where(long & (not roundabout), slots.straight[slot, pick], slots.choices[slot, pick])
    keep = np.flatnonzero((centre - 0.5 * crowd.length > slots.begin[slot]) & (path >= 0))
    crowd, slot, path, centre = crowd.take(keep), slot[keep], path[keep], centre[keep]
    standing = standing.ravel()[keep]
    crowd.path, crowd.lane = path, slots.lane[slot]
    crowd.s = centre + np.where(slots.from_end[slot], table.length[path], 0.0)
    crowd.d0, crowd.d1 = slots.d0[slot], slots.d1[slot]
    crowd.swing_start, crowd.swing_length = slots.swing_start[slot], slots.swing_length[slot]
    crowd.v = np.where(standing, 0.0, _start_speeds(crowd, table, slot, town))
    return crowd


def _script_brakes(crowd: Crowd, rng) -> None:
    """Some drivers brake hard for no visible reason: what their followers must cope with."""
    count = len(crowd)
    chosen = (rng.random(count) < 0.1) & (crowd.kind == AgentType.VEHICLE)
    crowd.brake_start = np.where(chosen, rng.uniform(1.0, 12.0, count), FAR)
    crowd.brake_end = crowd.brake_start + rng.uniform(1.0, 3.5, count)
    crowd.brake_force = rng.uniform(3.0, 6.5, count)


def _start_speeds(crowd: Crowd, table: PathTable, slot: Array, town: TownMap) -> Array:
    """What each would drive freely, less where a leader or a stop line is near."""
    at = table.start[crowd.path] + np.clip(crowd.s / SPACING, 0, table.count[crowd.path] - 1).astype(int)
    free = table.speed[at] * np.minimum(crowd.eagerness, 1.0)
    speed = 0.85 * np.where(crowd.kind == AgentType.CYCLIST, crowd.eagerness, free)
    # Vehicles of a slot come front first: the one before in the same slot is the leader.
    gap = np.full(len(speed), FAR)
    gap[1:] = np.where(slot[1:] == slot[:-1], crowd.s[:-1] - crowd.s[1:], FAR)
    gap[1:] -= 0.5 * (crowd.length[1:] + crowd.length[:-1]) + 2.0
    hold = np.array([path.hold for path in town.paths])[crowd.path]
    room = hold - crowd.s - 0.5 * crowd.length - 2.0
    room = np.where(room > -2.0, np.maximum(room, 0.1), FAR)
    return np.minimum(np.minimum(speed, np.maximum(gap, 0.0) / 1.2), np.sqrt(4.0 * room))


def _pedestrians(town: TownMap, rng) -> Crowd:
    paths = np.array([k for k, path in enumerate(town.paths) if path.pedestrian], int)
    paths = rng.permutation(paths)
    # On one crosswalk people of both directions walk on their own side, one at a time.
    count = len(paths)
    walkers = _vehicles(rng, count, (True,) * len(_KINDS))
    walkers.path = paths
    walkers.s = rng.uniform(0.6, 1.2, count)
    walkers.length = walkers.width = rng.uniform(0.5, 0.7, count)
    walkers.height = rng.uniform(1.5, 1.9, count)
    walkers.kind = np.full(count, int(AgentType.PEDESTRIAN))
    walkers.rear = np.zeros(count)
    walkers.eagerness = rng.uniform(1.0, 2.2, count)
    walkers.accel = np.full(count, 1.5)
    walkers.release = rng.uniform(-2.0, 10.0, count)
    eager = (rng.random(count) < 0.6) & (town.family == "parked_street")
    walkers.trigger = np.where(eager, rng.uniform(2.5, 4.5, count), 0.0)
    return walkers


def _parked(town: TownMap, rng, most: int, walkers: Crowd) -> Crowd:
    """Parked cars, most of them near where pedestrians are about to step out, so that they hide them."""
    bays = town.parked
    count = min(most, len(bays))
    cars = _vehicles(rng, count, (True, True, False, False, False, False))
    cars.path = np.full(count, -1)
    if not count:
        return cars
    corners = np.array([town.paths[path].points[0] for path in walkers.path]).reshape(-1, 1, 2)
    distance = np.hypot(*(bays[None, :, :2] - corners).T).min(1) if len(corners) else np.zeros(len(bays))
    taken = np.sort(np.argsort(distance + rng.uniform(0.0, 60.0, len(bays)), kind="stable")[:count])
    cars.x, cars.y, cars.heading = bays[taken].T
    return cars
