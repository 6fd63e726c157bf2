"""Leaderboard result files, and what Bench2Drive makes of one route's record.

Format: the JSON that CARLA's Leaderboard 2 writes as it goes, in Bench2Drive's form: under ``_checkpoint`` the
``progress`` (routes done and routes in all) and the ``records``, one for each route that ended. A run that
crashed at its start leaves a file without records.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from perlsim.errors import FormatError

# Factor of each occurrence, by the record's key (Bench2Drive).
PENALTIES: Mapping[str, float] = {
    "collisions_pedestrian": 0.5,
    "collisions_vehicle": 0.6,
    "collisions_layout": 0.65,
    "red_light": 0.7,
    "stop_infraction": 0.8,
    "scenario_timeouts": 0.7,
    "yield_emergency_vehicle_infractions": 0.7,
}
OUTSIDE_LANES, MIN_SPEED = "outside_route_lanes", "min_speed_infractions"
# Speed ratios above this are left out of the efficiency, % (Bench2Drive).
MAX_SPEED_RATIO = 1000.0
SUCCESSES = ("Completed", "Perfect")

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_OUTSIDE_TEXT = re.compile(rf"{_NUMBER}\s*%\s+of the completed route")
_SPEED_TEXT = re.compile(rf"{_NUMBER}\s*%")
_ROUTE_ID = re.compile(r"(?:RouteScenario_)?(?P<route>.+?)(?:_rep(?P<repetition>\d+))?")


@dataclass(frozen=True)
class RouteRecord:
    """What a result file says about one route.

    Attributes:
        route: the route's id in the route file, "2084".
        repetition: which of its repetitions, from 0.
        scenario: type of its scenario, "ParkingExit"; empty where the record has none.
        town: name of its town; empty where the record has none.
        status: "Completed", "Perfect", "Failed - …" or "Started".
        completion: how much of the route was driven, %.
        infractions: texts of all infractions by the record's keys.
        length: of the route as planned lane by lane, m; NaN where the record has none.
        stated_penalty: the product of penalties that the file states; NaN where it states none.
        save_name: name of the folder in which the drive's own log lies; empty where the record has none.
        file: the file it comes from.
    """

    route: str
    repetition: int
    scenario: str
    town: str
    status: str
    completion: float
    infractions: Mapping[str, tuple[str, ...]]
    length: float
    stated_penalty: float
    save_name: str
    file: str

    @cached_property
    def penalty(self) -> float:
        """Product of the penalties of all infractions, in [0, 1]."""
        product = 1.0
        for kind, factor in PENALTIES.items():
            product *= factor ** len(self.infractions.get(kind, ()))
        for text in self.infractions.get(OUTSIDE_LANES, ()):
            product *= 1 - self._percentage(_OUTSIDE_TEXT, OUTSIDE_LANES, text, most=100.0) / 100
        return product

    @property
    def score(self) -> float:
        """Bench2Drive's score of the route, 0 to 100: completion times penalties."""
        return self.completion * self.penalty

    @property
    def success(self) -> bool:
        """Whether the route was completed without any infraction other than that of the minimum speed."""
        clean = not any(texts for kind, texts in self.infractions.items() if kind != MIN_SPEED)
        return self.status in SUCCESSES and clean

    @cached_property
    def efficiency(self) -> float:
        """Mean speed over that of the traffic around, %, mean of the checkpoints; NaN where there are none.

        Ratios above `MAX_SPEED_RATIO` (traffic that hardly moves) are left out.
        """
        ratios = [
            self._percentage(_SPEED_TEXT, MIN_SPEED, text) for text in self.infractions.get(MIN_SPEED, ())
        ]
        kept = [ratio for ratio in ratios if ratio <= MAX_SPEED_RATIO]
        return math.fsum(kept) / len(kept) if kept else math.nan

    def _percentage(self, pattern: re.Pattern[str], kind: str, text: str, most: float = math.inf) -> float:
        found = pattern.search(text)
        value = float(found[1]) if found else math.nan
        # Percentages are rounded: a hair above the most that can be is that most.
        if not 0 <= value <= most * 1.0001:
            raise FormatError(
                f"expected a percentage in the text, found {text!r}",
                file=self.file,
                field=f"route {self.route}: infractions.{kind}",
            )
        return min(value, most)


@dataclass(frozen=True)
class ResultFile:
    """A result file.

    Attributes:
        file: its path.
        records: the routes that ended.
        num_routes: how many routes it should hold, at least one.
    """

    file: str
    records: tuple[RouteRecord, ...]
    num_routes: int

    @property
    def num_missing(self) -> int:
        """How many routes it should hold and does not."""
        return max(self.num_routes - len(self.records), 0)


def read_results(path: Path) -> ResultFile:
    """Reads a result file.

    Raises:
        FormatError: not JSON, empty or cut off, without records of the form above, numbers that are not
            finite or out of range.
    """
    content = load_json(path)
    checkpoint = content.get("_checkpoint") if isinstance(content, dict) else None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("records"), list):
        raise FormatError(
            "not a Leaderboard result file: expected a list of records",
            file=path,
            field="_checkpoint.records",
        )
    records = tuple(
        _record(entry, f"_checkpoint.records[{idx}]", path) for idx, entry in enumerate(checkpoint["records"])
    )
    progress = checkpoint.get("progress")
    stated = progress[1] if isinstance(progress, list) and len(progress) == 2 else None
    total = stated if isinstance(stated, int) and not isinstance(stated, bool) else 0
    return ResultFile(str(path), records, max(total, len(records), 1))


def load_json(path: Path) -> Any:
    """The content of a JSON file, in which every number is finite.

    Raises:
        FormatError: says whether the file is empty, cut off or broken, and where.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", file=path) from error
    if not data.strip():
        raise FormatError(
            "the file is empty", file=path, remedy="the run that writes it has not begun, or crashed"
        )

    def refuse(name: str) -> NoReturn:
        raise FormatError(f"expected finite numbers, found {name}", file=path)

    try:
        return json.loads(data, parse_constant=refuse)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
        what = "ends in the middle: it was cut off" if cut else "is not JSON"
        raise FormatError(f"{what} (line {error.lineno}: {error.msg})", file=path) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"is not JSON: {error}", file=path) from error


def split_route_id(text: str) -> tuple[str, int]:
    """Id and repetition of a route from a record's ``route_id``: ("2084", 0) of "RouteScenario_2084_rep0"."""
    found = _ROUTE_ID.fullmatch(text)
    return (found["route"], int(found["repetition"] or 0)) if found else (text, 0)


def _record(entry: Any, where: str, path: Path) -> RouteRecord:
    def fail(field: str, expected: str, found: object) -> NoReturn:
        raise FormatError(f"expected {expected}, found {found!r}", file=path, field=f"{where}.{field}")

    def text(name: str) -> str:
        value = entry.get(name)
        return value if isinstance(value, str) else ""

    if not isinstance(entry, dict):
        raise FormatError(f"expected a record, found {entry!r}", file=path, field=where)
    if not text("route_id"):
        fail("route_id", "the route's id", entry.get("route_id"))
    scores, infractions = entry.get("scores"), entry.get("infractions")
    if not isinstance(scores, dict):
        fail("scores", "the scores", scores)
    completion, stated = scores.get("score_route"), scores.get("score_penalty", math.nan)
    if not isinstance(completion, int | float) or not 0 <= completion <= 100:
        fail("scores.score_route", "a completion from 0 to 100 %", completion)
    if not isinstance(stated, int | float):
        fail("scores.score_penalty", "a number", stated)
    if not isinstance(infractions, dict):
        fail("infractions", "lists of infractions", infractions)
    for kind, texts in infractions.items():
        if not isinstance(texts, list) or not all(isinstance(line, str) for line in texts):
            fail(f"infractions.{kind}", "a list of texts", texts)
    length = meta.get("route_length") if isinstance(meta := entry.get("meta"), dict) else None
    route, repetition = split_route_id(text("route_id"))
    record = RouteRecord(
        route=route,
        repetition=repetition,
        scenario=re.sub(r"(_\d+)+$", "", text("scenario_name")),
        town=text("town_name"),
        status=text("status"),
        completion=float(completion),
        infractions={kind: tuple(texts) for kind, texts in infractions.items()},
        length=float(length) if isinstance(length, int | float) and length > 0 else math.nan,
        stated_penalty=float(stated),
        save_name=text("save_name"),
        file=str(path),
    )
    # Both read percentages from texts: a text without one is this file's fault, so it shows here.
    _ = record.penalty, record.efficiency
    return record
