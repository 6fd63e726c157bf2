"""Drives a batch of scenarios: IDM along paths, lights, stop lines, gap acceptance, pedestrians.

IDM is the Intelligent Driver Model (Treiber, Hennecke, Helbing, Physical Review E 62, 2000, eq. 2–4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perlsim.readers.synthetic.curves import SPACING, smooth_step
from perlsim.readers.synthetic.lane_change import LaneChanges
from perlsim.readers.synthetic.lights import GroupLights
from perlsim.readers.synthetic.maps import FAR, TownMap
from perlsim.readers.synthetic.relations import Batch, Meetings
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType

WARM_UP = 3.0
"""s simulated before the first logged step, so that speeds and gaps have settled."""
HARDEST_BRAKE = 7.5
YELLOW_BRAKE = 3.2
"""m/s²; who can stop with less stops at yellow."""
JERK_UP, JERK_DOWN = 5.0, 25.0
"""m/s³; how fast the acceleration rises and falls."""
LINE_GAP = 2.0
"""m left free before a line at which to stop."""
REFRESH = 0.5
"""s between lane change decisions and between looks at who is near."""
SIDE_MARGIN = 0.25
"""m; how near side by side counts as in the way."""


@dataclass(frozen=True)
class Motion:
    """What came out, `[T, N]` over logged steps and all road users of the batch.

    Attributes:
        rear: m, arc length of the rear axle's foot on its path.
        speed, accel: of the rear axle, m/s and m/s².
        side, slope: lateral offset [m] at the rear axle and its derivative along the path.
        active: whether still on the map.
    """

    rear: Array
    speed: Array
    accel: Array
    side: Array
    slope: Array
    active: Array


class Traffic:
    """The state of a batch while it is driven."""

    def __init__(self, batch: Batch, dt: float):
        crowd = batch.crowd
        self.batch, self.crowd, self.dt, self.count = batch, crowd, dt, len(crowd)
        self.s, self.v, self.a = crowd.s.copy(), crowd.v.copy(), np.zeros(self.count)
        self.half = 0.5 * crowd.length
        self.walker = crowd.kind == AgentType.PEDESTRIAN
        self.parked = crowd.path < 0
        self.own_speed = self.walker | (crowd.kind == AgentType.CYCLIST)
        self.active = np.ones(self.count, bool)
        # Boxes stay on the map to their corners: paths bend, and end up to one spacing early.
        self.end = (batch.last - batch.base) * SPACING - 1.0
        per_path = [_PathRules(town) for town in batch.towns]
        self.hold, self.group, self.stop_sign, self.inside = (
            np.concatenate(
                [
                    getattr(rules, name)[crowd.path[a:b]]
                    for rules, a, b in zip(per_path, batch.first, batch.first[1:], strict=False)
                ]
            )
            for name in ("hold", "group", "stop_sign", "inside")
        )
        self.stopped = ~self.stop_sign | (self.s + self.half > self.hold)
        self.waited = np.zeros(self.count)
        self.claim = np.where(self.s + self.half > self.hold, -FAR, FAR)
        self.yielding = np.zeros(self.count, bool)
        self.go = np.zeros(self.count, bool)
        self.leader = np.zeros(self.count)
        self.triggered = crowd.trigger <= 0.0
        self.lights = GroupLights(batch, self.group)
        self.lane_changes = LaneChanges(batch) if batch.towns[0].corridors else None
        # √(a·b), as IDM's desired gap needs it.
        self.root = 2.0 * np.sqrt(crowd.accel * crowd.brake)
        self.meetings = Meetings.of(batch.meeting, batch.zone, crowd, batch.table.speed[batch.base])
        self.near_leaders, self.near_meetings = batch.same, self.meetings

    def run(self, steps: int) -> Motion:
        """Drives `WARM_UP` and then logs `steps` states `dt` apart."""
        warm = round(WARM_UP / self.dt)
        refresh = max(round(REFRESH / self.dt), 1)
        logged: list[tuple[Array, ...]] = []
        for step in range(warm + steps):
            time = (step - warm) * self.dt
            side, slope, curvature = self._lateral()
            if step % refresh == 0:
                self._refresh()
            command = self._command(time)
            if step >= warm:
                rear = self.s - self.crowd.rear
                logged.append((rear, self.v.copy(), command, side, slope, self.active.copy()))
            self._advance(command, side, slope, curvature)
        return Motion(*(np.stack(column) for column in zip(*logged, strict=True)))

    def _lateral(self) -> tuple[Array, Array, Array]:
        """Offset and slope at the rear axle, and the path's curvature there."""
        if self.lane_changes is None:
            zero = np.zeros(self.count)
            return zero, zero, zero
        crowd = self.crowd
        rear = self.s - crowd.rear
        share, rate = smooth_step((rear - crowd.swing_start) / crowd.swing_length)
        swing = crowd.d1 - crowd.d0
        return (
            crowd.d0 + swing * share,
            swing * rate / crowd.swing_length,
            self.batch.table.curvature[self._row(rear)],
        )

    def _row(self, at: Array) -> Array:
        row = self.batch.base + (at * (1.0 / SPACING)).astype(np.int64)
        return np.minimum(np.maximum(row, self.batch.base), self.batch.last)

    def _command(self, time: float) -> Array:
        """The acceleration of everybody now."""
        crowd = self.crowd
        free = self.batch.table.speed[self._row(self.s + 0.5 * self.v)]
        free = np.where(self.own_speed, np.minimum(crowd.eagerness, free), crowd.eagerness * free)
        self.leader = self._leaders()
        lines, held = self._lines(time)
        meeting = self._meetings(time, held | (self.yielding & (self.v < 0.5)))
        pressing = np.maximum(np.maximum(self.leader, lines), meeting)
        ratio = self.v / free
        easing = np.minimum(ratio * ratio * ratio * ratio, 1.0 + 2.5 / crowd.accel)
        command = crowd.accel * (1.0 - easing - pressing)
        if self.lane_changes is not None:
            courtesy = self.lane_changes.courtesy(self.s, self.v, self.active, self.root)
            command = np.minimum(command, np.maximum(crowd.accel * (1.0 - easing - courtesy), -1.8))
        scripted = (time >= crowd.brake_start) & (time < crowd.brake_end)
        command = np.where(scripted, np.minimum(command, -crowd.brake_force), command)
        command = np.maximum(command, self.a - JERK_DOWN * self.dt)
        command = np.minimum(command, np.maximum(self.a, -1.0) + JERK_UP * self.dt)
        return np.minimum(np.maximum(command, -HARDEST_BRAKE), crowd.accel)

    def _advance(self, command: Array, side: Array, slope: Array, curvature: Array) -> None:
        v = self.v
        after = np.maximum(v + command * self.dt, 0.0)
        stops = (after <= 0.0) & (command < 0.0)
        distance = np.where(stops, 0.5 * v * v / np.maximum(-command, 1e-6), 0.5 * (v + after) * self.dt)
        distance = np.where(v + after > 0.0, distance, 0.0)
        if self.lane_changes is not None:
            straight = 1.0 - curvature * side
            distance = distance / np.sqrt(straight * straight + slope * slope)
        self.s = self.s + np.where(self.parked, 0.0, distance)
        self.v = np.where(self.parked, 0.0, after)
        # Standing still, the next start begins from rest, not from the braking that led there.
        self.a = np.where(self.v > 0.0, command, np.maximum(command, -0.5))
        self.active &= self.s + self.half < self.end

    def _refresh(self) -> None:
        """Decides on lane changes, then keeps only the pairs that can matter until the next time."""
        rows = self.batch.same
        gap = self.s[rows.whom] - self.s[rows.who]
        reach = 40.0 + 6.0 * self.v
        if self.lane_changes is not None:
            self.lane_changes.look(self.s, self.active, reach)
            self.lane_changes.decide(self.s, self.v, self.active, self.leader, self.root)
        minded = (gap > 0.0) | ((gap == 0.0) & (rows.whom > rows.who))
        minded &= self.active[rows.whom] & (gap < reach[rows.who])
        if self.lane_changes is not None:
            # Between two decisions nobody takes up more of the road than now.
            low, high = self.lane_changes.span(self.s, SIDE_MARGIN)
            minded &= (low[rows.who] < high[rows.whom]) & (low[rows.whom] < high[rows.who])
        self.near_leaders = rows.take(minded)
        self.near_meetings = self.meetings.near(self.s, self.v, self.half, self.active)

    def _leaders(self) -> Array:
        """IDM's (desired gap / gap)² towards the worst leader on the same path."""
        rows = self.near_leaders
        gap = self.s[rows.whom] - self.s[rows.who] - self.half[rows.whom] - self.half[rows.who]
        pressure = np.where(self.active[rows.whom], self._pressure(rows, gap), 0.0)
        return rows.worst(pressure, self.count)

    def _pressure(self, rows, gap: Array) -> Array:
        """IDM's interaction of each row's `who` with its `whom` at `gap` m, bumper to bumper."""
        crowd, v = self.crowd, self.v
        own = v[rows.who]
        wanted = own * (crowd.headway[rows.who] + (own - v[rows.whom]) / self.root[rows.who])
        ratio = (crowd.standstill[rows.who] + np.maximum(wanted, 0.0)) / np.maximum(gap, 0.3)
        return ratio * ratio

    def _stop_pressure(self, who, gap: Array) -> Array:
        """The same towards a point to stop at, `gap` m before the front bumper."""
        v = self.v[who]
        ratio = (LINE_GAP + v * (0.3 + v / self.root[who])) / np.maximum(gap, 0.2)
        return ratio * ratio

    def _lines(self, time: float) -> tuple[Array, Array]:
        """Pressure of lights, stop signs, kerbs and lane ends, and who is held at a line."""
        front = self.s + self.half
        room = self.hold - front
        before = room >= 0.0
        must = self.lights.closed(time) | (
            self.lights.yellow(time) & (self.v * self.v < 2.0 * YELLOW_BRAKE * np.maximum(room - 0.2, 0.1))
        )
        arrived = before & (room < 3.0) & (self.v < 0.4)
        self.waited = np.where(arrived, self.waited + self.dt, 0.0)
        self.stopped |= self.waited > 0.8
        self.claim = np.where((self.claim >= FAR) & (arrived | ~before), time, self.claim)
        must = (must | ~self.stopped | (self.walker & ~self.go)) & before
        pressure = np.where(must, self._stop_pressure(slice(None), room), 0.0)
        if self.lane_changes is not None:
            pressure = np.maximum(
                pressure, self._stop_pressure(slice(None), self.lane_changes.room(self.s) - self.half)
            )
        return pressure, must

    def _meetings(self, time: float, held: Array) -> Array:
        """Pressure from those whose paths meet one's own; also decides which pedestrians set out."""
        near = self.near_meetings
        rows, zone = near.rows, near.zone
        if not len(rows.who):
            return np.zeros(self.count)
        who, whom = rows.who, rows.whom
        front, back = self.s + self.half, self.s - self.half
        own_front, own_back, own_v = front[who], back[who], self.v[who]
        its_front, its_back, its_v = front[whom], back[whom], self.v[whom]
        alive = (own_back < zone.end) & (its_back < zone.other_end) & self.active[whom]
        inside = its_front > zone.other_start
        outside = own_front < zone.start
        # Following where both run the same way.
        lead = self.s[whom] + zone.shift - self.s[who]
        following = alive & zone.shared & inside & (lead > 0.0)
        pressure = np.where(following, self._pressure(rows, lead - near.reach), 0.0)
        # Times to reach and to leave the zone.
        slowest = np.where(near.walker_whom, 0.8, 2.5)
        # A pedestrian may be at full pace with the next step.
        its_pace = np.maximum(its_v, np.where(near.walker_whom, self.crowd.eagerness[whom], 2.5))
        its_in = np.maximum(near.other_gate - its_front, 0.0) / its_pace
        its_out = np.maximum(zone.other_end - its_back, 0.0) / np.maximum(its_v, slowest)
        own_in = _time_to(zone.start - own_front, own_v, near.limit, 2.2)
        own_out = _time_to(near.clear_by - own_front, own_v, near.limit, 1.2)
        clash = (its_in < own_out + 1.0 + zone.shared) & (its_out > own_in - 1.0)
        order = np.where(
            self.claim < FAR, self.claim, time + np.maximum(self.hold - front, 0.0) / np.maximum(self.v, 2.0)
        )
        mine, theirs = order[who], order[whom]
        second = (mine > theirs) | ((mine == theirs) & (who > whom))
        gives_way = np.where(zone.priority == 0, second, zone.priority > 0)
        waiting = alive & outside & ~near.walker_who & clash & gives_way & ~held[whom]
        occupied = alive & outside & inside & ~zone.shared & ~near.walker_who & ~(near.walker_whom & ~clash)
        hold = self.hold[who]
        at_line = (own_front <= hold) & ~self.inside[who] & (hold < zone.start)
        room = np.where(at_line, hold, zone.start) - own_front
        can = own_v * own_v < 9.0 * np.maximum(room, 0.05)
        stopping = (waiting & (can | near.walker_whom)) | occupied
        pressure = np.maximum(pressure, np.where(stopping, self._stop_pressure(who, room), 0.0))
        self.yielding = rows.worst(waiting & can, self.count)
        self._walkers(time, alive, its_in, its_front, its_v, own_out, inside)
        return rows.worst(pressure, self.count)

    def _walkers(self, time, alive, its_in, its_front, its_v, own_out, inside) -> None:
        """Pedestrians set out when they are due and every car that comes can still stop, if only hard."""
        near = self.near_meetings
        rows, zone = near.rows, near.zone
        cars = alive & near.walker_who
        room = np.maximum(zone.other_start - its_front - 2.5, 0.1)
        coming = cars & ~inside & (its_in < self.crowd.trigger[rows.who]) & (its_v > 2.0)
        self.triggered |= rows.worst(coming, self.count)
        cannot = cars & (inside | ((its_v * its_v > 9.0 * room) & (its_in < own_out + 1.0)))
        blocked = rows.worst(cannot, self.count)
        due = (time >= self.crowd.release) & self.triggered & self.lights.walk(time)
        self.go = self.walker & (self.go | (due & ~blocked))


def _time_to(distance: Array, speed: Array, limit: Array, accel: float) -> Array:
    """Seconds to cover `distance` when speeding up by `accel` m/s², but not beyond `limit`."""
    distance = np.maximum(distance, 0.0)
    return np.maximum((np.sqrt(speed * speed + 2.0 * accel * distance) - speed) / accel, distance / limit)


class _PathRules:
    """Per-path rules of one map as arrays; a last entry, reached by index −1, for parked cars."""

    def __init__(self, town: TownMap):
        paths = town.paths
        self.hold = np.array([p.hold for p in paths] + [FAR])
        self.group = np.array([p.group for p in paths] + [-1])
        self.stop_sign = np.array([p.stop_sign for p in paths] + [False])
        self.inside = np.array([p.wait_inside for p in paths] + [False])
