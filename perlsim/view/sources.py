"""What a page shows: stores of logs and runs, as sides that play the same scenes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from perlsim.errors import FormatError, PerlsimError, unknown_name
from perlsim.runs import RUN, UNFINISHED, file_name_of, read_run
from perlsim.scenario import Scenario
from perlsim.store import ScenarioStore

Key = tuple[str, str, str]  # source, data set and name of a scene


@dataclass(frozen=True)
class Side:
    """One way in which scenes went: as logged, or as simulated with one policy.

    Attributes:
        label: the policy, "log" for logs; with the folder's name where labels would be the same.
        kind: "log" or "rollout".
        folder: the store or run it is from.
        store: the scenes.
        lines: what the run recorded beside each scene, by scene id; empty for logs.
    """

    label: str
    kind: str
    folder: Path
    store: ScenarioStore
    lines: Mapping[str, Mapping[str, Any]]

    @cached_property
    def numbers(self) -> dict[Key, int]:
        """Number in the store of each scene."""
        return {summary.key: number for number, summary in enumerate(self.store.summaries)}

    def scenario(self, key: Key) -> Scenario | None:
        """The scene as it went on this side, None where it has none of that name."""
        number = self.numbers.get(key)
        return None if number is None else self.store[number]

    def extra(self, key: Key) -> Mapping[str, Any]:
        """Metrics, events, plans and logged ego of a scene; empty for logs."""
        return self.lines.get(key[2], {})


def open_sides(paths: Sequence[Path], policies: Sequence[str] = ()) -> list[Side]:
    """The sides of stores and runs, in order.

    Args:
        paths: folders of stores and runs.
        policies: those of the runs to take, in this order; all by default.

    Raises:
        PerlsimError: a folder that is neither, an unfinished run, a policy that no run has.
    """
    sides = [side for path in paths for side in _sides_of(path)]
    if policies:
        known = list(dict.fromkeys(side.label for side in sides if side.kind == "rollout"))
        if unknown := [name for name in policies if name not in known]:
            raise unknown_name("policy", unknown[0], known, "--policy")
        logs = [side for side in sides if side.kind == "log"]
        sides = logs + [side for name in policies for side in sides if side.label == name]
    return _told_apart(sides)


def choose(sides: Sequence[Side], wanted: Sequence[str], limit: int) -> tuple[list[Key], list[str]]:
    """The scenes to show, and a sentence about each thing left out.

    Args:
        sides: of the page.
        wanted: names of scenes; all by default.
        limit: largest number of scenes; of more, evenly spaced ones are taken.

    Raises:
        PerlsimError: a name that no side has, or no scenes at all.
    """
    keys = list(dict.fromkeys(key for side in sides for key in side.numbers))
    notices = []
    if wanted:
        names = {key[2] for key in keys}
        for name in wanted:
            if name not in names:
                raise unknown_name("scene", name, names, "--scene")
        keys = [key for key in keys if key[2] in set(wanted)]
    if not keys:
        raise PerlsimError("there are no scenes", file=sides[0].folder)
    if len(keys) > limit:
        notices.append(
            f"{limit} of {len(keys)} scenes are shown, evenly spread; --scenes {len(keys)} shows all of them, "
            "--scene ID a chosen one"
        )
        keys = [keys[i] for i in np.linspace(0, len(keys) - 1, limit).astype(int)]
    for side in sides:
        if absent := sum(key not in side.numbers for key in keys):
            notices.append(f"{side.label} has no rollout of {absent} of these {len(keys)} scenes")
    return keys, notices


def _sides_of(path: Path) -> list[Side]:
    if (path / "manifest.json").is_file():
        return [Side("log", "log", path, ScenarioStore.open(path), {})]
    if not any((path / name).exists() for name in (RUN, UNFINISHED)):
        raise PerlsimError(
            "neither a scenario store nor a run",
            file=path,
            remedy="name a folder written by perlsim import, generate or eval",
        )
    sides = []
    for name in read_run(path).get("policies") or []:
        place = path / "rollouts" / file_name_of(name)
        if place.is_dir():
            store = ScenarioStore.open(place)
            sides.append(
                Side(name, "rollout", path, store, read_lines(place.with_name(f"{place.name}.jsonl")))
            )
    if not sides:
        raise PerlsimError("the run kept no rollouts", file=path, remedy="see --rollouts of perlsim eval")
    return sides


def read_lines(path: Path) -> dict[str, Mapping[str, Any]]:
    """What a run recorded beside each scene, by scene id; empty where there is no such file.

    Raises:
        FormatError: for a line that is not that of a scene.
    """
    if not path.is_file():
        return {}
    lines = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            content = json.loads(line)
            lines[content["scene_id"]] = content
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"line {number} is not that of a scene: {error!r}", file=path) from error
    return lines


def _told_apart(sides: list[Side]) -> list[Side]:
    """The sides, each with a label of its own: where two would be the same, folders' names are added."""
    for rename in (
        lambda side, _: f"{side.label} · {side.folder.name}",
        lambda side, n: f"{side.label} ({n})",
    ):
        labels = [side.label for side in sides]
        sides = [
            Side(rename(side, n), side.kind, side.folder, side.store, side.lines)
            if labels.count(side.label) > 1
            else side
            for n, side in enumerate(sides, 1)
        ]
    return sides
