"""NAVSIM's tables of sub-scores (CSV, a row a scene): PDMS and EPDMS recomputed, row by row.

Three forms, told apart by their columns:

- ``pdms``: NAVSIM v1, with ``comfort``;
- ``epdms``: NAVSIM v2, with ``lane_keeping``, ``history_comfort`` and, where two consecutive frames were
  scored, ``two_frame_extended_comfort``;
- ``epdms_two_stage``: the same with the ending ``_stage_one`` or ``_stage_two`` on every column, of which a
  row fills one set. Such a table holds neither the weights nor the grouping of its second stage, so its
  combined score cannot be recomputed: what the file states is passed on as stated.

Rows of averages, and rows of scenes whose ``valid`` is false, are no scenes.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from perlsim.errors import FormatError
from perlsim.scenario import Array

Form = Literal["pdms", "epdms", "epdms_two_stage"]

# Factors and weights of the sub-scores (NAVSIM v1 and v2).
MULTIPLIED: Mapping[str, tuple[str, ...]] = {
    "pdms": ("no_at_fault_collisions", "drivable_area_compliance"),
    "epdms": (
        "no_at_fault_collisions",
        "drivable_area_compliance",
        "driving_direction_compliance",
        "traffic_light_compliance",
    ),
}
EXTENDED_COMFORT = "two_frame_extended_comfort"
WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "pdms": {"ego_progress": 5.0, "time_to_collision_within_bound": 5.0, "comfort": 2.0},
    "epdms": {
        "ego_progress": 5.0,
        "time_to_collision_within_bound": 5.0,
        "lane_keeping": 2.0,
        "history_comfort": 2.0,
        EXTENDED_COMFORT: 2.0,
    },
}
STAGES = ("_stage_one", "_stage_two")
# Most by which a score differs from the one that the row states.
TOLERANCE = 1e-6
# Most by which a sub-score leaves [0, 1].
ROUNDING = 1e-9

_SUMMARY = re.compile(
    r"(average|aggregate|extended_pdm_score|pseudo_closed_loop)(_.*)?|mean|summary|overall|.*_row"
)
_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")


@dataclass(frozen=True)
class Disagreement:
    """A number in a table that its other numbers contradict.

    Attributes:
        line: line of the file, from 1.
        token: name of the row.
        column: name of the column.
        stated: what the file says.
        expected: what follows from its sub-scores.
    """

    line: int
    token: str
    column: str
    stated: float
    expected: float


@dataclass(frozen=True)
class SceneTable:
    """The scenes of one table.

    Attributes:
        file: its path.
        form: which score it holds.
        tokens: names of the scenes, ``n`` of them.
        lines: int ``[n]``, the file's line of each.
        stage: int ``[n]``, 1 or 2.
        sub_scores: ``[n]`` each, in [0, 1], by name; NaN only in extended comfort, where it was not scored.
        stated: ``[n]``, the score in the file; NaN where it states none.
        summaries: rows of averages: line and, by column, number; by token.
        failed: names of scenes without scores (``valid`` is false).
        duplicates: line and name of scenes that came before; they do not count.
    """

    file: str
    form: Form
    tokens: tuple[str, ...]
    lines: Array
    stage: Array
    sub_scores: Mapping[str, Array]
    stated: Array
    summaries: Mapping[str, tuple[int, Mapping[str, float]]]
    failed: tuple[str, ...] = ()
    duplicates: tuple[tuple[int, str], ...] = ()

    def scores(self) -> Array:
        """Score of each scene, ``[n]``, in [0, 1]."""
        return weighted_score(self.sub_scores, "pdms" if self.form == "pdms" else "epdms")

    def average(self, stage: int | None = None) -> float:
        """Mean score of the scenes, of one stage or of all; NaN where there is none."""
        scores = self.scores()[slice(None) if stage is None else self.stage == stage]
        return float(scores.mean()) if len(scores) else math.nan

    def disagreements(self, tolerance: float = TOLERANCE) -> list[Disagreement]:
        """Stated scores, and averages of a whole table, that do not follow from the sub-scores."""
        scores = self.scores()
        # A table need not state scores; one that does states them all.
        stated = not np.isnan(self.stated).all()
        wrong = np.flatnonzero(stated & ~(np.abs(scores - self.stated) <= tolerance))
        found = [
            Disagreement(int(self.lines[i]), self.tokens[i], "score", float(self.stated[i]), float(scores[i]))
            for i in wrong
        ]
        if self.form == "epdms_two_stage":
            return found
        columns = {**self.sub_scores, "score": scores}
        for token, (line, numbers) in self.summaries.items():
            if not token.startswith(("average", "aggregate")) or token == "average_expert_frames":
                continue
            for column, stated in numbers.items():
                values = columns.get(column, np.zeros(0))
                known = values[~np.isnan(values)]
                if len(known) and not abs(known.mean() - stated) <= tolerance:
                    found.append(Disagreement(line, token, column, stated, float(known.mean())))
        return found


def weighted_score(sub_scores: Mapping[str, Array], form: Literal["pdms", "epdms"]) -> Array:
    """PDMS or EPDMS of scenes: product of the factors times weighted mean of the others.

    Args:
        sub_scores: ``[n]`` each, by name. Extended comfort may be absent or NaN: its weight is then left out.
        form: which of the two.

    Returns:
        ``[n]``.
    """
    product = np.prod([sub_scores[name] for name in MULTIPLIED[form]], axis=0)
    total, weights = np.zeros_like(product), np.zeros_like(product)
    for name, weight in WEIGHTS[form].items():
        if name == EXTENDED_COMFORT:
            value = sub_scores.get(name, np.full_like(product, np.nan))
            scored = ~np.isnan(value)
        else:
            value, scored = sub_scores[name], np.ones(len(product), bool)
        total += np.where(scored, weight * value, 0.0)
        weights += weight * scored
    return product * total / weights


def read_table(path: Path) -> SceneTable:
    """Reads a table.

    Raises:
        FormatError: empty, not a table of sub-scores, no scenes, or a cell that is no number in [0, 1]; names
            line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", file=path) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"is no table: {error}", file=path) from error
    if not columns:
        raise FormatError("the file is empty", file=path)
    form = _form(columns, path)
    return _Reading(path, form, columns).table(rows)


def _form(columns: tuple[str, ...], path: Path) -> Form:
    form: Form

    def lacking(form: Form, ending: str = "") -> list[str]:
        needed = ("token", *(f"{name}{ending}" for name in _names(form) if name != EXTENDED_COMFORT))
        return [name for name in needed if name not in columns]

    if any(name.endswith(STAGES[0]) for name in columns):
        form = "epdms_two_stage"
        missing = lacking("epdms", STAGES[0]) + lacking("epdms", STAGES[1])
    elif "comfort" in columns and "history_comfort" not in columns:
        form = "pdms"
        missing = lacking("pdms")
    else:
        form = "epdms"
        missing = lacking("epdms")
    if missing:
        raise FormatError(
            f"lacks the columns {', '.join(dict.fromkeys(missing))}",
            file=path,
            remedy="expected the table that NAVSIM writes, with a row a scene",
        )
    return form


def _names(form: Form) -> tuple[str, ...]:
    key = "pdms" if form == "pdms" else "epdms"
    return (*MULTIPLIED[key], *WEIGHTS[key])


class _Reading:
    """Turns the rows of one file into a `SceneTable`."""

    def __init__(self, path: Path, form: Form, columns: tuple[str, ...]):
        self._path: Path = path
        self._form: Form = form
        self._columns = columns

    def table(self, rows: list[tuple[int, dict[str, str]]]) -> SceneTable:
        scenes: dict[str, tuple[int, int, dict[str, float], float]] = {}
        summaries, failed, duplicates = {}, [], []
        for line, row in rows:
            if None in row or None in row.values():
                raise FormatError(
                    f"expected {len(self._columns)} cells", file=self._path, field=f"line {line}"
                )
            token = row["token"].strip()
            if _SUMMARY.fullmatch(token):
                summaries[token] = line, self._summary(row)
            elif not self._valid(line, row):
                failed.append(token)
            elif token in scenes:
                duplicates.append((line, token))
            else:
                scenes[token] = self._scene(line, row)
        if not scenes:
            raise FormatError("holds no scene with scores", file=self._path)
        lines, stage, sub_scores, stated = zip(*scenes.values(), strict=True)
        return SceneTable(
            str(self._path),
            self._form,
            tuple(scenes),
            np.array(lines),
            np.array(stage),
            {name: np.array([scene[name] for scene in sub_scores]) for name in _names(self._form)},
            np.array(stated),
            summaries,
            tuple(failed),
            tuple(duplicates),
        )

    def _scene(self, line: int, row: dict[str, str]) -> tuple[int, int, dict[str, float], float]:
        """Line, stage, sub-scores and stated score of a scene."""
        stage, ending = 1, ""
        if self._form == "epdms_two_stage":
            stage = 1 if row[f"no_at_fault_collisions{STAGES[0]}"].strip() else 2
            ending = STAGES[stage - 1]
        values = {}
        for name in _names(self._form):
            column = f"{name}{ending}"
            value = self._number(line, row, column)
            optional = name == EXTENDED_COMFORT and math.isnan(value)
            if not optional and not -ROUNDING <= value <= 1 + ROUNDING:
                self._refuse(line, column, "a sub-score in [0, 1]", row[column])
            values[name] = value
        return line, stage, values, self._number(line, row, "score")

    def _summary(self, row: dict[str, str]) -> dict[str, float]:
        numbers = {}
        for name, text in row.items():
            try:
                numbers[name] = float(text)
            except ValueError:
                continue
        return numbers

    def _valid(self, line: int, row: dict[str, str]) -> bool:
        text = row.get("valid", "True").strip().lower()
        if text not in (*_TRUE, *_FALSE):
            self._refuse(line, "valid", "True or False", text)
        return text in _TRUE

    def _number(self, line: int, row: dict[str, str], column: str) -> float:
        """The number in a cell; NaN where the cell is empty or the column absent."""
        text = row.get(column, "").strip()
        try:
            return float(text) if text else math.nan
        except ValueError:
            self._refuse(line, column, "a number", text)

    def _refuse(self, line: int, column: str, expected: str, found: str) -> NoReturn:
        raise FormatError(
            f"expected {expected}, found {found or 'nothing'!r}",
            file=self._path,
            field=f"line {line}, column {column}",
        )
