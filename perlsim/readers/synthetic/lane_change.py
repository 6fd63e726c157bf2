"""Lane changes on corridors, after MOBIL.

MOBIL is the rule of Kesting, Treiber and Helbing (Transportation Research Record 1999, 2007): change where it
gains acceleration and asks no hard braking of who is then behind. The same class holds ending lanes.
"""

from __future__ import annotations

import numpy as np

from perlsim.readers.synthetic.curves import smooth_step
from perlsim.readers.synthetic.maps import FAR
from perlsim.readers.synthetic.relations import Batch
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType

GAIN = 0.3
"""m/s² of acceleration to be gained by a change that nothing forces."""
SAFE_BRAKE = 2.0
"""m/s²; the most that a change may ask of who is then behind."""


class LaneChanges:
    """Where everybody is across the road, and who changes lanes; works on the batch's crowd in place."""

    def __init__(self, batch: Batch):
        crowd = batch.crowd
        self.all_rows = self.rows = batch.same
        self.crowd, self.count = crowd, len(crowd)
        self.lanes, self.ending = np.ones(self.count, int), np.full(self.count, -2)
        self.pitch, self.begin, self.end = (
            np.zeros(self.count),
            np.zeros(self.count),
            np.full(self.count, FAR),
        )
        for town, first, last in zip(batch.towns, batch.first, batch.first[1:], strict=False):
            for path, corridor in town.corridors.items():
                rows = first + np.flatnonzero(crowd.path[first:last] == path)
                self.lanes[rows], self.pitch[rows] = corridor.count, corridor.width
                if corridor.ending >= 0:
                    self.ending[rows], self.begin[rows], self.end[rows] = (
                        corridor.ending,
                        corridor.begin,
                        corridor.end,
                    )
        self.able = (self.lanes > 1) & (crowd.path >= 0) & (crowd.kind != AgentType.CYCLIST)
        self.merging = bool((self.ending >= 0).any())
        self.reach = np.zeros(0)
        self.look(crowd.s, np.ones(self.count, bool), np.full(self.count, FAR))

    def look(self, s: Array, active: Array, reach: Array) -> None:
        """Keeps in mind only who is within `reach` m `[n]`, of either of the two."""
        rows, crowd = self.all_rows, self.crowd
        near = np.abs(s[rows.whom] - s[rows.who]) < np.maximum(reach[rows.who], reach[rows.whom])
        near &= (
            active[rows.who] & active[rows.whom] & (np.abs(crowd.lane[rows.who] - crowd.lane[rows.whom]) < 3)
        )
        self.rows = rows.take(near)
        self.reach = 0.5 * (crowd.length[self.rows.who] + crowd.length[self.rows.whom])

    def span(self, s: Array, margin: float) -> tuple[Array, Array]:
        """Lowest and highest lateral offset m that each takes up now or is about to."""
        crowd = self.crowd
        share = smooth_step((s - crowd.swing_start) / crowd.swing_length)[0]
        now = crowd.d0 + (crowd.d1 - crowd.d0) * share
        # The rear of a vehicle leaves a lane later than its middle.
        tail = smooth_step((s - 0.5 * crowd.length - crowd.swing_start) / crowd.swing_length)[0]
        tail = crowd.d0 + (crowd.d1 - crowd.d0) * tail
        half = 0.5 * (crowd.width + margin)
        low = np.minimum(np.minimum(now, tail), crowd.d1) - half
        return low, np.maximum(np.maximum(now, tail), crowd.d1) + half

    def room(self, s: Array) -> Array:
        """m from each one's middle to the end of its lane."""
        return np.where(self.crowd.lane == self.ending, self.end - s, FAR)

    def courtesy(self, s: Array, v: Array, active: Array, root: Array) -> Array:
        """IDM pressure, to be minded gently, between an ending lane and the one beside it."""
        if not self.merging:
            return np.zeros(self.count)
        rows, crowd = self.rows, self.crowd
        lane, other = crowd.lane[rows.who], crowd.lane[rows.whom]
        ending = self.ending[rows.who]
        beside = (np.abs(lane - other) == 1) & ((lane == ending) | (other == ending))
        gap = s[rows.whom] - s[rows.who]
        minded = beside & (gap > 0.0) & active[rows.whom]
        minded &= np.minimum(s[rows.who], s[rows.whom]) > self.begin[rows.who] - 40.0
        minded &= s[rows.whom] < self.end[rows.who] + 20.0
        # Who is nearly level is let in rather than followed at full distance.
        gap = np.maximum(gap - self.reach, 4.0)
        return rows.worst(
            np.where(minded, self._pressure(rows.who, rows.whom, v, gap, root), 0.0), self.count
        )

    def _pressure(self, who, whom, v: Array, gap: Array, root: Array) -> Array:
        own = v[who]
        wanted = own * (self.crowd.headway[who] + (own - v[whom]) / root[who])
        ratio = (self.crowd.standstill[who] + np.maximum(wanted, 0.0)) / np.maximum(gap, 0.3)
        return ratio * ratio

    def decide(self, s: Array, v: Array, active: Array, leader: Array, root: Array) -> None:
        """Lets those who gain by it, or whose lane ends, begin a change where it is safe."""
        crowd, rows = self.crowd, self.rows
        settled = s - crowd.rear - 3.0 > crowd.swing_start + crowd.swing_length
        forced = (crowd.lane == self.ending) & (s > self.begin)
        free = (crowd.lane != self.ending) & (v > 5.0)
        able = self.able & active & settled & (free | (forced & (v > 1.5)))
        if not able.any():
            return
        low, high = self.span(s, 0.25)
        best, side = np.zeros(self.count), np.zeros(self.count, int)
        for step in (-1, 1):
            lane = crowd.lane + step
            possible = able & (lane >= 0) & (lane < self.lanes) & (lane != self.ending)
            gain = self._gain(-(lane + 0.5) * self.pitch, s, v, active, leader, root, low, high)
            gain = np.where(forced, gain + 100.0, gain)
            better = possible & (gain > GAIN) & (gain > best)
            best, side = np.where(better, gain, best), np.where(better, step, side)
        target = -(crowd.lane + side + 0.5) * self.pitch
        rivals = (side[rows.whom] != 0) & (np.abs(target[rows.who] - target[rows.whom]) < 0.5)
        rivals &= (np.abs(s[rows.who] - s[rows.whom]) < 45.0) & (rows.whom < rows.who)
        begins = (side != 0) & ~rows.worst(rivals, self.count)
        length = np.maximum(4.0 * v, 24.0)
        crowd.d0 = np.where(begins, crowd.d1, crowd.d0)
        crowd.d1 = np.where(begins, target, crowd.d1)
        crowd.swing_start = np.where(begins, s, crowd.swing_start)
        crowd.swing_length = np.where(begins, length, crowd.swing_length)
        crowd.lane = np.where(begins, crowd.lane + side, crowd.lane)

    def _gain(self, target: Array, s, v, active, leader, root, low, high) -> Array:
        """Acceleration gained at lateral offset `target`, −inf where it is not safe, `[n]`."""
        rows, crowd = self.rows, self.crowd
        who, whom = rows.who, rows.whom
        half = 0.5 * crowd.width + 0.3
        there = active[whom] & (low[whom] < (target + half)[who]) & (high[whom] > (target - half)[who])
        ahead = s[whom] > s[who]
        gap = np.abs(s[whom] - s[who]) - self.reach
        front = self._pressure(who, whom, v, gap, root)
        behind = self._pressure(whom, who, v, gap, root)
        asked = np.where(ahead, crowd.accel[who] * front, crowd.accel[whom] * behind)
        tight = gap < 2.0 + 0.25 * np.where(ahead, v[who], v[whom])
        unsafe = there & (tight | (asked > SAFE_BRAKE + crowd.accel[who]))
        after = rows.worst(np.where(there & ahead, front, 0.0), self.count)
        gain = crowd.accel * (np.minimum(leader, 4.0) - after)
        return np.where(rows.worst(unsafe, self.count), -np.inf, gain)
