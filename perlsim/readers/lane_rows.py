"""Lanes given by left and right borders, as in Argoverse 2, CommonRoad and py123d, made into a lane graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from perlsim.geometry.polylines import arc_lengths, interpolate
from perlsim.scenario import Array, Lanes, Markings, Ragged
from perlsim.vocabulary import LaneType, MarkingType

_SAME_POINT = 0.01  # m, points of the two borders that lie closer along the lane become one centre point

# Whether a line may be crossed from its left to its right, and from its right to its left.
_CROSSABLE = {
    MarkingType.SOLID: (False, False),
    MarkingType.DOUBLE_SOLID: (False, False),
    MarkingType.SOLID_BROKEN: (False, True),
    MarkingType.BROKEN_SOLID: (True, False),
}
_MIRRORED = {
    MarkingType.SOLID_BROKEN: MarkingType.BROKEN_SOLID,
    MarkingType.BROKEN_SOLID: MarkingType.SOLID_BROKEN,
}


@dataclass
class LaneRow:
    """One lane, by the ids of its format.

    Attributes:
        id: unique name.
        left, right: borders ``[n, 3]`` m in driving direction.
        left_ids, right_ids: neighbours in the same direction that may be changed into.
    """

    id: str
    left: Array
    right: Array
    kind: LaneType = LaneType.UNKNOWN
    speed_limit: float = float("nan")
    in_junction: bool = False
    successors: Sequence[str] = ()
    left_ids: Sequence[str] = ()
    right_ids: Sequence[str] = ()


def centre_line(left: Array, right: Array) -> tuple[Array, Array]:
    """The line midway between two borders, and the distance between them.

    Points of both borders are kept, at equal shares of their lengths.

    Returns:
        Centre ``[n, 3]`` m and width ``[n]`` m.
    """
    lengths = [max(arc_lengths(border)[-1], 1e-9) for border in (left, right)]
    shares = np.union1d(arc_lengths(left) / lengths[0], arc_lengths(right) / lengths[1])
    kept = np.append(True, np.diff(shares) > _SAME_POINT / max(lengths))
    kept[-1] = True
    shares = shares[kept]
    sides = [interpolate(border, shares * n) for border, n in zip((left, right), lengths, strict=True)]
    return 0.5 * (sides[0] + sides[1]), np.linalg.norm((sides[0] - sides[1])[:, :2], axis=1)


def same_direction(a: Array, b: Array) -> bool:
    """Whether two lanes side by side, given by any line along each, run the same way."""
    along = np.linalg.norm(a[0] - b[0]) + np.linalg.norm(a[-1] - b[-1])
    against = np.linalg.norm(a[0] - b[-1]) + np.linalg.norm(a[-1] - b[0])
    return bool(along < against)


def may_cross(kind: MarkingType, *, to_the_left: bool) -> bool:
    """Whether traffic may change lanes over a line of this kind."""
    return _CROSSABLE.get(kind, (True, True))[1 if to_the_left else 0]


def lane_graph(rows: Sequence[LaneRow]) -> Lanes:
    """Packs lanes; references to lanes that are not among them, or to themselves, are dropped."""
    index = {row.id: i for i, row in enumerate(rows)}

    def links(names: Iterable[Iterable[str]]) -> Ragged:
        packed = [
            sorted({index[name] for name in group if name in index} - {i}) for i, group in enumerate(names)
        ]
        return Ragged.from_rows(packed, dtype=np.int32)

    lines = [centre_line(row.left, row.right) for row in rows]
    return Lanes(
        centre=Ragged.from_rows([centre for centre, _ in lines], width=3),
        width=np.concatenate([np.zeros(0), *(width for _, width in lines)]),
        kind=np.array([row.kind for row in rows], np.int8),
        speed_limit=np.array([row.speed_limit for row in rows], np.float64),
        in_junction=np.array([row.in_junction for row in rows], bool),
        successors=links(row.successors for row in rows),
        left=links(row.left_ids for row in rows),
        right=links(row.right_ids for row in rows),
        ids=tuple(row.id for row in rows),
    )


@dataclass
class MarkingCollector:
    """Gathers lane borders; one that two lanes share is kept once, with the paint that either lane gives."""

    _lines: list[Array] = field(default_factory=list)
    _kinds: list[MarkingType] = field(default_factory=list)
    _seen: dict[Hashable, int] = field(default_factory=dict)

    def add(self, line: Array, kind: MarkingType, *names: Hashable) -> None:
        """Adds a border; borders are the same where their points are, or a name that they were given.

        Args:
            line: ``[n, 3]`` m; a single point is no line.
            kind: paint as seen in the line's direction.
            names: of the border, by which its other lane may give it, too.
        """
        if len(line) < 2:
            return
        keys = (*_keys(line), *names)
        known = self._find(keys)
        if known is None:
            known = len(self._lines)
            self._lines.append(line)
            self._kinds.append(kind)
        elif self._kinds[known] <= MarkingType.UNKNOWN:
            mirrored = _MIRRORED.get(kind, kind)
            same = same_direction(self._lines[known], line)
            self._kinds[known] = max(self._kinds[known], kind if same else mirrored)
        for key in (keys[0], *names):
            self._seen.setdefault(key, known)

    def _find(self, keys: Iterable[Hashable]) -> int | None:
        return next((self._seen[key] for key in keys if key in self._seen), None)

    def kind_of(self, line: Array) -> MarkingType:
        """Paint of a border, seen in the line's direction; unknown where no border has the same points."""
        known = self._find(_keys(line))
        if known is None:
            return MarkingType.UNKNOWN
        kind = self._kinds[known]
        return kind if same_direction(self._lines[known], line) else _MIRRORED.get(kind, kind)

    def markings(self) -> Markings:
        """What was gathered."""
        return Markings(
            Ragged.from_rows(self._lines, width=3), np.array([int(k) for k in self._kinds], np.int8)
        )


def _keys(line: Array) -> tuple[bytes, bytes]:
    """Names of a line by its points (to 1 cm) in either order."""
    rounded = np.round(line[:, :2], 2) + 0.0  # + 0.0 turns -0.0 into 0.0
    return rounded.tobytes(), rounded[::-1].tobytes()
