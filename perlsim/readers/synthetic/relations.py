"""Who must mind whom: pairs of road users as flat rows, so that one numpy call serves a whole batch.

Rows are sorted by the one who minds (`who`), hence the worst over all rows of a road user is one `reduceat`.
Nothing but maxima is taken across rows: a scenario's numbers do not depend on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perlsim.readers.synthetic.crowd import Crowd, join_crowds
from perlsim.readers.synthetic.maps import FAR, PathTable, TownMap, Zone
from perlsim.scenario import Array
from perlsim.vocabulary import AgentType


@dataclass(frozen=True)
class Rows:
    """Pairs of road users: `who` minds `whom`; `receivers` have their rows from `starts` on."""

    who: Array
    whom: Array
    starts: Array
    receivers: Array

    @classmethod
    def of(cls, who: Array, whom: Array) -> Rows:
        """Rows already sorted by `who`."""
        starts = np.flatnonzero(np.diff(who, prepend=-1)) if len(who) else np.zeros(0, int)
        return cls(who, whom, starts, who[starts])

    def take(self, mask: Array) -> Rows:
        """The rows where `mask` holds."""
        return Rows.of(self.who[mask], self.whom[mask])

    def worst(self, values: Array, count: int) -> Array:
        """The largest value of each road user's rows `[count]`, 0 for those without rows."""
        result = np.zeros(count, values.dtype)
        if len(self.starts):
            result[self.receivers] = np.maximum.reduceat(values, self.starts)
        return result


@dataclass(frozen=True)
class Meetings:
    """Pairs whose paths meet, with what is fixed about each row.

    Attributes:
        rows, zone: the pairs and where their paths meet.
        reach: m, half lengths of both.
        walker_who, walker_whom: whether either is a pedestrian.
        limit: m/s, speed limit of `who`.
        other_gate: m on the other's path, where it comes in the way; clear_by: m on one's own path, where the
            front bumper is once one is through (crossing) or well in (merging).
    """

    rows: Rows
    zone: Zone
    reach: Array
    walker_who: Array
    walker_whom: Array
    limit: Array
    other_gate: Array
    clear_by: Array

    @classmethod
    def of(cls, rows: Rows, zone: Zone, crowd: Crowd, limit: Array) -> Meetings:
        """All meetings of a batch; `limit`: `[n]` m/s of each road user."""
        merging = zone.shared & (zone.start > -FAR / 2)
        gate = np.where(merging, np.maximum(zone.start - zone.shift, zone.other_start), zone.other_start)
        through = np.where(zone.shared, zone.start + 6.0, zone.end) + crowd.length[rows.who]
        walker = crowd.kind == AgentType.PEDESTRIAN
        reach = 0.5 * (crowd.length[rows.who] + crowd.length[rows.whom])
        limit = np.maximum(limit[rows.who], 1.0)
        return cls(rows, zone, reach, walker[rows.who], walker[rows.whom], limit, gate, through)

    def near(self, s: Array, v: Array, half: Array, active: Array) -> Meetings:
        """The meetings that can matter within the next second."""
        who, whom, zone = self.rows.who, self.rows.whom, self.zone
        front, back = s + half, s - half
        keep = active[who] & active[whom] & (back[who] < zone.end) & (back[whom] < zone.other_end)
        keep &= zone.start - front[who] < (20.0 + 5.0 * v)[who]
        keep &= zone.other_start - front[whom] < (25.0 + 8.0 * v)[whom]
        keep &= zone.shared | self.walker_who | (front[who] < zone.start)
        fields = (getattr(self, name)[keep] for name in _PER_MEETING)
        return Meetings(self.rows.take(keep), Zone(*(c[keep] for c in vars(zone).values())), *fields)


_PER_MEETING = ("reach", "walker_who", "walker_whom", "limit", "other_gate", "clear_by")


@dataclass(frozen=True)
class Batch:
    """Scenarios of one family, concatenated.

    Attributes:
        towns: map of each scenario.
        crowd: all road users; `first`: `[S + 1]` where each scenario's begin; `scene`: scenario of each.
        base, last: first and last row in `table` of each road user's path.
        table: all paths of all maps.
        same: pairs on the same path. meeting: pairs whose paths meet, with `zone` (one entry a row).
        clock: `[S]` s, time in the signal cycle at the first logged step.
    """

    towns: Sequence[TownMap]
    crowd: Crowd
    first: Array
    scene: Array
    base: Array
    last: Array
    table: PathTable
    same: Rows
    meeting: Rows
    zone: Zone
    clock: Array


def assemble(towns, tables, crowds, clock) -> Batch:
    """Puts scenarios side by side; `towns`, `tables` and `crowds` run in parallel, maps may repeat."""
    distinct = {id(table): table for table in tables}
    shift, total = {}, 0
    for key, table in distinct.items():
        shift[key] = total
        total += len(table.x)
    flat = [np.concatenate([getattr(t, n) for t in distinct.values()]) for n in _COLUMNS]
    sizes = np.array([len(crowd) for crowd in crowds])
    first = np.concatenate([[0], np.cumsum(sizes)])
    base, last, same, meeting, zones = [], [], [], [], []
    for town, table, crowd, begin in zip(towns, tables, crowds, first, strict=False):
        path = np.maximum(crowd.path, 0)
        base.append(shift[id(table)] + table.start[path])
        last.append(table.count[path])
        pairs, pair_zone, pair_rows = _pairs(town, crowd)
        same.append(begin + pairs)
        meeting.append(begin + pair_rows)
        zones.append(pair_zone)
    empty = np.zeros(0)
    return Batch(
        towns=towns,
        crowd=join_crowds(crowds),
        first=first,
        scene=np.repeat(np.arange(len(sizes)), sizes),
        base=np.concatenate(base),
        last=np.concatenate(base) + np.concatenate(last) - 1,
        table=PathTable(*flat, start=empty, count=empty, length=empty),
        same=Rows.of(*np.concatenate(same, axis=1)),
        meeting=Rows.of(*np.concatenate(meeting, axis=1)),
        zone=Zone(**{n: np.concatenate([getattr(z, n) for z in zones]) for n in vars(zones[0])}),
        clock=np.asarray(clock),
    )


_COLUMNS = ("x", "y", "heading", "curvature", "speed")


def _pairs(town: TownMap, crowd: Crowd) -> tuple[Array, Zone, Array]:
    """Pairs on one path `[2, n]`, and pairs `[2, m]` whose paths meet with the zone of each."""
    path, count = crowd.path, len(town.paths)
    walked = np.array([p.pedestrian for p in town.paths] + [True])[path]
    driving = (path >= 0) & ~walked
    same = (path[:, None] == path[None, :]) & driving[:, None] & ~np.eye(len(path), dtype=bool)
    zones = town.zones
    # At most two zones a pair of paths: the second follows the first in a stable sort.
    lookup = np.full((count + 1, count + 1, 2), -1)
    order = np.lexsort((zones.start, zones.other, zones.path))
    key = zones.path[order] * count + zones.other[order]
    second = np.diff(key, prepend=-1) == 0
    lookup[zones.path[order], zones.other[order], second.astype(int)] = order
    found = lookup[path[:, None], path[None, :]]
    who, whom, which = np.nonzero(found >= 0)
    rows = found[who, whom, which]
    zone = Zone(**{name: values[rows] for name, values in vars(zones).items()})
    return np.stack(np.nonzero(same)), zone, np.stack([who, whom])
