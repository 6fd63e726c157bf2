"""Borders of every lane with their paint, in driving direction."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perlsim.scenario import Array
from perlsim.vocabulary import MarkingType
from perlsim.worlds.opendrive.marks import Mark, mirrored
from perlsim.worlds.opendrive.sections import Section, SectionLane

CURB = -1  # in place of a `MarkingType`: a curb or the edge of the road, which no tyre crosses


@dataclass(frozen=True)
class LaneSides:
    """Left and right border of every lane, parallel to the points of `perlsim.scenario.Lanes.centre`.

    Attributes:
        left, right: ``[N, 3]`` m.
        left_mark, right_mark: int8 ``[N]``, `MarkingType` in driving direction or `CURB`, of the border from
            this point of the lane to its next; the last point of a lane repeats the one before.
        left_change, right_change: bool ``[N]``, whether the marks there allow a change of lanes across the
            border. Whether there is a lane to change into is told by `Lanes.left` and `Lanes.right`.
    """

    left: Array = field(default_factory=lambda: np.zeros((0, 3)))
    right: Array = field(default_factory=lambda: np.zeros((0, 3)))
    left_mark: Array = field(default_factory=lambda: np.zeros(0, np.int8))
    right_mark: Array = field(default_factory=lambda: np.zeros(0, np.int8))
    left_change: Array = field(default_factory=lambda: np.zeros(0, bool))
    right_change: Array = field(default_factory=lambda: np.zeros(0, bool))

    def of_points(self, kept: Array) -> LaneSides:
        """Those of some points, bool ``[N]``."""
        return LaneSides(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: list[LaneSides]) -> LaneSides:
        """The sides of lanes one after another."""
        none = cls()
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(p, name) for p in (none, *parts)]) for name in names))


def sides_of(section: Section, lane: SectionLane, forward: bool) -> LaneSides:
    """The sides of one lane of a section, driven along +s or against it."""
    inwards = section.lanes.get(lane.lane_id - (1 if lane.lane_id > 0 else -1))
    inner = (lane.inner, inwards.marks if inwards is not None else [])
    outer = (lane.outer, lane.marks)
    # On the left of the centre lane the outer border is the left one of who drives along +s.
    left, right = (outer, inner) if (lane.lane_id > 0) == forward else (inner, outer)
    step = 1 if forward else -1
    paint = [_paint(section.s, marks, forward) for _, marks in (left, right)]
    return LaneSides(
        section.points(left[0])[::step],
        section.points(right[0])[::step],
        paint[0][0],
        paint[1][0],
        paint[0][1 if forward else 2],
        paint[1][2 if forward else 1],
    )


def _paint(s: Array, marks: list[Mark], forward: bool) -> tuple[Array, Array, Array]:
    """Kind of the marks, and whether they let change to the left of +s and to its right; each ``[n]``.

    Without any mark a border is unpainted and open.
    """
    if not marks:
        return np.zeros(len(s), np.int8), np.ones(len(s), bool), np.ones(len(s), bool)
    middle = 0.5 * (s[1:] + s[:-1])
    owner = np.searchsorted([mark.start for mark in marks], middle, side="right") - 1
    if not forward:
        owner = owner[::-1]
    owner = np.append(owner, owner[-1])
    kinds = [mark.kind if forward or mark.kind is None else mirrored(mark.kind) for mark in marks]
    # Before the first mark nothing is painted.
    table = np.array(
        [CURB if kind is None else int(kind) for kind in kinds] + [int(MarkingType.NONE)], np.int8
    )
    left = np.array([mark.change_left for mark in marks] + [True])
    right = np.array([mark.change_right for mark in marks] + [True])
    return table[owner], left[owner], right[owner]
