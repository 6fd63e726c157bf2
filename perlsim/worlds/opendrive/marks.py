"""Road marks of an OpenDRIVE lane: their paint, and who may cross them."""

from __future__ import annotations

from dataclasses import dataclass

from perlsim.readers.lane_rows import may_cross
from perlsim.vocabulary import MarkingType
from perlsim.worlds.opendrive.xml import Element, children, number

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
# Lane ids grow from right to left, so that a change to the left of +s increases them (1.4, roadMark).
_CHANGES = {"none": (False, False), "increase": (True, False), "decrease": (False, True)}


@dataclass(frozen=True)
class Mark:
    """A road mark on a lane's outer boundary, between two s of the section.

    Attributes:
        start, end: m.
        kind: paint along +s; None for curbs and edges.
        change_left, change_right: whether the mark lets traffic change lanes to the left of +s, to its right.
    """

    start: float
    end: float
    kind: MarkingType | None
    change_left: bool
    change_right: bool


def read_marks(element: Element, lane_id: int, span: tuple[float, float]) -> list[Mark]:
    """The marks of one ``lane`` element in order, cut to its section's ``span`` of s.

    A change of lanes is allowed where both the paint and the attribute ``laneChange`` allow it. Some exporters
    write "both" on every mark, others paint a broken line and write "none"; where there is no paint or no
    attribute the other decides.
    """
    records = sorted(children(element, "roadMark"), key=lambda e: number(e, "sOffset", 0.0))
    starts = [min(span[0] + number(e, "sOffset", 0.0), span[1]) for e in records]
    ends = [*starts[1:], span[1]][: len(starts)]
    marks = []
    for record, start, end in zip(records, starts, ends, strict=True):
        kind = _mark_kind(record.get("type", "none"), lane_id)
        left, right = _CHANGES.get(record.get("laneChange", "both"), (True, True))
        paint = (
            (False, False)
            if kind is None
            else (may_cross(kind, to_the_left=True), may_cross(kind, to_the_left=False))
        )
        marks.append(Mark(start, end, kind, left and paint[0], right and paint[1]))
    return marks


def mirrored(kind: MarkingType) -> MarkingType:
    """The same paint seen by traffic that runs the other way."""
    return _MIRRORED.get(kind, kind)


def _mark_kind(name: str, lane_id: int) -> MarkingType | None:
    """Kind along +s; None for curbs and edges, which no tyre paints over.

    A double mark is named from the inside outwards, on the centre lane from left to right (1.4, roadMark).
    """
    kind = _MARKS.get(name)
    return kind if kind is None or lane_id <= 0 else mirrored(kind)
