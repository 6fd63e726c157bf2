"""Bench2Drive's numbers over the given routes, from their records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perlsim.metrics.bench2drive.abilities import Ability, Attempt, abilities
from perlsim.metrics.bench2drive.records import ResultFile, RouteRecord, split_route_id
from perlsim.worlds.route_file import RouteFileEntry

# Most by which a recomputed penalty differs from the file's own: percentages in its texts are rounded.
PENALTY_TOLERANCE = 1e-4
STARTED = "Started"


@dataclass(frozen=True)
class Drive:
    """One given route and what was driven on it.

    Attributes:
        route: its id; where a file lacks routes without naming them, the file's name.
        repetition: which of its repetitions.
        scenario: type of its scenario; empty where unknown.
        town: name of its town; empty where unknown.
        record: what was driven; None where there is no record.
        comfort: share of comfortable chunks, in [0, 1]; NaN where no motion was logged.
        comfort_compat: the same as Bench2Drive's own evaluation counts it.
        passed: whether a failed drive went through its junction; None unknown.
    """

    route: str
    repetition: int = 0
    scenario: str = ""
    town: str = ""
    record: RouteRecord | None = None
    comfort: float = math.nan
    comfort_compat: float = math.nan
    passed: bool | None = None

    @property
    def score(self) -> float:
        """Score of the route, 0 to 100; 0 without a record."""
        return self.record.score if self.record else 0.0

    @property
    def attempt(self) -> Attempt:
        """The route as the abilities see it."""
        return Attempt(self.scenario, self.record, self.passed)

    @property
    def disagrees(self) -> bool:
        """Whether the file states another product of penalties than its infractions give."""
        if self.record is None or self.record.status == STARTED or math.isnan(self.record.stated_penalty):
            return False
        return abs(self.record.stated_penalty - self.record.penalty) > PENALTY_TOLERANCE


@dataclass(frozen=True)
class Duplicate:
    """A second record of a route, which does not count.

    Attributes:
        route, repetition: which route.
        counted, left_out: the files.
        same_score: whether both give the same score.
    """

    route: str
    repetition: int
    counted: str
    left_out: str
    same_score: bool


@dataclass(frozen=True)
class Gathered:
    """The given routes, each once.

    Attributes:
        drives: the routes, by id.
        without_record: files that hold fewer routes than they should, with the number they lack.
        duplicates: records that were left out because the route has one already.
        unexpected: records of routes that the route file does not name; they do not count.
    """

    drives: list[Drive]
    without_record: list[tuple[str, int]] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    unexpected: list[RouteRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Scores:
    """Bench2Drive's numbers, all in %; NaN where nothing is known.

    Attributes:
        driving_score: mean score of the given routes; those without a record count 0.
        success_rate: share of the given routes that were a success.
        efficiency: mean over the routes that have checkpoints of speed against the traffic's.
        comfort: mean over the routes whose motion was logged.
        comfort_compat: the same as Bench2Drive's own evaluation counts it.
        abilities: success rates by ability, over the given routes.
        abilities_compat: the same over the routes with a record, as Bench2Drive's own evaluation has it.
    """

    driving_score: float
    success_rate: float
    efficiency: float
    comfort: float
    comfort_compat: float
    abilities: dict[str, Ability]
    abilities_compat: dict[str, Ability]


def gather(files: Iterable[ResultFile], routes: Sequence[RouteFileEntry] | None = None) -> Gathered:
    """Puts the records of all files together, each route and repetition once.

    Args:
        files: result files. Of two records of a route the first counts, one that ended before one that did not.
        routes: the routes that should be there; where None, those that the files hold and lack.
    """
    files = list(files)
    kept: dict[tuple[str, int], RouteRecord] = {}
    duplicates = []
    for record in (record for file in files for record in file.records):
        key = record.route, record.repetition
        counted = kept.get(key)
        if counted is None:
            kept[key] = record
            continue
        left_out = record
        if counted.status == STARTED != record.status:
            kept[key], counted, left_out = record, record, counted
        same = abs(counted.score - left_out.score) <= 100 * PENALTY_TOLERANCE
        duplicates.append(Duplicate(*key, counted.file, left_out.file, same))
    without_record = [(file.file, file.num_missing) for file in files if file.num_missing]
    drives = [Drive(*key, record.scenario, record.town, record) for key, record in kept.items()]
    unexpected = []
    if routes is None:
        driven = {drive.route for drive in drives}
        for file, missing in without_record:
            name = split_route_id(Path(file).stem)[0]
            # A run that crashed may have been repeated into another file.
            if not (missing == 1 and name in driven):
                drives += [Drive(name, number) for number in range(missing)]
    else:
        entries = {route.route: route for route in routes}
        unexpected = [drive.record for drive in drives if drive.route not in entries and drive.record]
        drives = [_as_in(drive, entries[drive.route]) for drive in drives if drive.route in entries]
        driven = {drive.route for drive in drives}
        drives += [Drive(r.route, 0, r.scenario, r.town) for r in routes if r.route not in driven]
    drives.sort(key=lambda drive: (not drive.route.isdecimal(), drive.route.zfill(12), drive.repetition))
    return Gathered(drives, without_record, duplicates, unexpected)


def score(drives: Sequence[Drive]) -> Scores:
    """The numbers over the given routes, at least one."""
    driven = [drive.record for drive in drives if drive.record]
    return Scores(
        driving_score=_mean([drive.score for drive in drives]),
        success_rate=100 * _mean([float(drive.attempt.success) for drive in drives]),
        efficiency=_mean([record.efficiency for record in driven]),
        comfort=100 * _mean([drive.comfort for drive in drives]),
        comfort_compat=100 * _mean([drive.comfort_compat for drive in drives]),
        abilities=abilities(drive.attempt for drive in drives),
        abilities_compat=abilities(drive.attempt for drive in drives if drive.record),
    )


def _as_in(drive: Drive, entry: RouteFileEntry) -> Drive:
    return Drive(
        drive.route,
        drive.repetition,
        entry.scenario or drive.scenario,
        entry.town or drive.town,
        drive.record,
    )


def _mean(values: Sequence[float]) -> float:
    """Mean of the numbers that are known; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
