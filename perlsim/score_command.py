"""``perlsim score``: recomputes benchmarks' numbers from the result files of other evaluations."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perlsim import __version__
from perlsim.errors import FormatError, PerlsimError
from perlsim.metrics import bench2drive
from perlsim.metrics.bench2drive.drives import FILE_NAME as MOTION_FILE
from perlsim.metrics.navsim_tables import SceneTable, read_table
from perlsim.output import write_json
from perlsim.worlds import opendrive
from perlsim.worlds.route_file import RouteFileEntry, first_junction, read_routes

if TYPE_CHECKING:
    from perlsim.cli import Score as Arguments

_RESULT_MARK, _TABLE_MARK = b'"_checkpoint"', b"no_at_fault_collisions"
_HEAD = 4096  # bytes in which the kind of a file shows


@dataclass(frozen=True)
class Report:
    """All that a call found out.

    Attributes:
        gathered: the given routes; None where no result file was given.
        scores: Bench2Drive's numbers over them.
        tables: NAVSIM's tables.
        unreadable: files that could not be used, each with the reason.
        ignored: number of files in folders that are neither.
    """

    gathered: bench2drive.Gathered | None = None
    scores: bench2drive.Scores | None = None
    tables: list[SceneTable] = field(default_factory=list)
    unreadable: list[PerlsimError] = field(default_factory=list)
    ignored: int = 0

    @property
    def disagreeing(self) -> list[bench2drive.Drive]:
        """Routes whose file states another penalty than follows from its infractions."""
        return [drive for drive in self.gathered.drives if drive.disagrees] if self.gathered else []

    @property
    def complete(self) -> bool:
        """Whether every file was used and none contradicts itself."""
        return not (
            self.unreadable or self.disagreeing or any(table.disagreements() for table in self.tables)
        )


def run(args: Arguments) -> int:
    """Runs the command, prints the report and writes it as JSON.

    Returns:
        Exit code: 0, or 1 where a file could not be used or contradicts itself.

    Raises:
        PerlsimError: no file, no file that can be used, a route file or folder that cannot be read.
    """
    from rich.console import Console

    from perlsim.score_report import print_report, to_json

    for name, folder in (("--maps", args.maps), ("--metric-info", args.metric_info)):
        if folder is not None and not folder.is_dir():
            raise PerlsimError("no such folder", file=folder, field=name)
    routes = read_routes(args.routes) if args.routes else None
    report = score_files(args.files, routes, args.maps, args.metric_info)
    print_report(report, Console())
    write_json(args.json, {"perlsim": __version__, **to_json(report)})
    return 0 if report.complete else 1


def score_files(
    paths: Sequence[str],
    routes: Sequence[RouteFileEntry] | None = None,
    maps: Path | None = None,
    metric_info: Path | None = None,
) -> Report:
    """Reads files of either kind and scores them.

    A result file that is damaged counts as one route without a record.

    Args:
        paths: files, folders (searched through) and globs.
        routes: the routes that should be there; by default those that the files hold and lack.
        maps: folder with OpenDRIVE towns, which tell whether failed drives passed their junction.
        metric_info: folder with the drives' motion logs; by default beside each result file.
    """
    found, ignored = _find(paths)
    results, tables, unreadable = [], [], []
    usable = False
    for path in found:
        try:
            if _is_table(path):
                tables.append(read_table(path))
            else:
                results.append(bench2drive.read_results(path))
                usable = True
        except FormatError as error:
            unreadable.append(error)
            if _holds_a_route(path):
                results.append(bench2drive.ResultFile(str(path), (), 1))
    if not usable and not tables:
        raise unreadable[0]
    if not usable:
        return Report(tables=tables, unreadable=unreadable, ignored=ignored)
    gathered = bench2drive.gather(results, routes)
    drives = [_with_comfort(drive, metric_info, unreadable) for drive in gathered.drives]
    drives = _with_junctions(drives, routes or (), maps, unreadable)
    gathered = replace(gathered, drives=drives)
    return Report(gathered, bench2drive.score(drives), tables, unreadable, ignored)


def _find(paths: Sequence[str]) -> tuple[list[Path], int]:
    """Files to read, each once, and the number of others in folders."""
    if not paths:
        raise PerlsimError("nothing to score", field="FILE", remedy="name files, folders or globs")
    found: dict[Path, Path] = {}
    ignored = 0
    for text in paths:
        matches = [text] if os.path.lexists(text) else sorted(glob.glob(text, recursive=True))
        if not matches:
            raise PerlsimError("no such file or folder", file=text)
        for path in map(Path, matches):
            if not path.is_dir():
                found.setdefault(path.resolve(), path)
                continue
            for inner in sorted(path.rglob("*")):
                if not inner.is_file() or any(part.startswith(".") for part in inner.relative_to(path).parts):
                    continue
                if _is_claimed(inner):
                    found.setdefault(inner.resolve(), inner)
                else:
                    ignored += 1
    if not found:
        raise PerlsimError(
            f"found no result file or table under {', '.join(paths)}",
            remedy="expected Leaderboard result JSON or NAVSIM sub-score CSV",
        )
    return list(found.values()), ignored


def _is_claimed(path: Path) -> bool:
    """Whether a file in a folder is of one of the two kinds."""
    if path.suffix.lower() == ".csv":
        return _TABLE_MARK in _read(path, _HEAD)
    return path.suffix.lower() == ".json" and path.name != MOTION_FILE and _holds_a_route(path)


def _is_table(path: Path) -> bool:
    head = _read(path, _HEAD).lstrip()
    return path.suffix.lower() == ".csv" if not head else head[:1] not in (b"{", b"[") and b"," in head


def _holds_a_route(path: Path) -> bool:
    """Whether a file, even a damaged one, is a result file; CARLA's Leaderboard empties its file at the start."""
    data = _read(path)
    return _RESULT_MARK in data or (not data.strip() and path.suffix.lower() == ".json")


def _read(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _with_comfort(
    drive: bench2drive.Drive, folder: Path | None, unreadable: list[PerlsimError]
) -> bench2drive.Drive:
    from perlsim.metrics.comfort import comfort

    # The name comes from a file: it must not lead elsewhere.
    if drive.record is None or not (name := Path(drive.record.save_name).name):
        return drive
    path = (folder or Path(drive.record.file).parent) / name / MOTION_FILE
    if not path.is_file():
        return drive
    try:
        motion = bench2drive.read_motion(path)
    except FormatError as error:
        unreadable.append(error)
        return drive
    return replace(drive, comfort=comfort(motion), comfort_compat=comfort(motion, compat=True))


def _with_junctions(
    drives: list[bench2drive.Drive],
    routes: Sequence[RouteFileEntry],
    maps: Path | None,
    unreadable: list[PerlsimError],
) -> list[bench2drive.Drive]:
    """Finds out which failed drives passed the first junction of their route, town by town."""
    entries = {entry.route: entry for entry in routes}
    open_ones = [
        idx for idx, drive in enumerate(drives) if drive.attempt.may_be_rescued and drive.route in entries
    ]
    drives = list(drives)
    if maps is None:
        return drives
    for town in sorted({drives[idx].town for idx in open_ones}):
        path = opendrive.find_town(maps, town)
        try:
            road = opendrive.read(path, with_edges=False).road if path else None
        except FormatError as error:
            unreadable.append(error)
            continue
        for idx in open_ones if road else ():
            drive = drives[idx]
            if drive.town == town and road and drive.record:
                entry = entries[drive.route]
                junction = first_junction(entry.points, road)
                length = entry.length if math.isnan(drive.record.length) else drive.record.length
                passed = bench2drive.passed_junction(drive.record.completion, junction, length)
                drives[idx] = replace(drive, passed=passed)
    return drives
