"""``perlsim drive``: drives routes in closed loop and records the drives as logs in a scenario store."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from perlsim.errors import PerlsimError

if TYPE_CHECKING:
    from rich.console import Console

    from perlsim.cli import Drive as Arguments
    from perlsim.policies import Policy
    from perlsim.scenario import Scenario
    from perlsim.store import StoreWriter
    from perlsim.worlds.routes.load import Found
    from perlsim.worlds.suite.cases import Worlds
    from perlsim.worlds.suite.drive import Drives
    from perlsim.worlds.suite.scene import Case

_PIPE_WIDTH = 120
# Routes at once on a device: what is recorded of each takes 4 MiB with 64 road users, and some copies of it.
_BATCH = 64


@dataclass
class Totals:
    """What was driven and recorded.

    Attributes:
        routes: driven now; known: those that the store had already.
        scenes: recorded; unclean: left out, since something in them counts against the ego.
        seconds: of the recorded scenes, s; metres: that the ego drives in them, m.
        ends: drives by how they ended.
        not_staged: routes by what of their scenarios could not be staged.
        wall: s that all of it took.
    """

    routes: int = 0
    known: int = 0
    scenes: int = 0
    unclean: int = 0
    seconds: float = 0.0
    metres: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)
    not_staged: Counter[str] = field(default_factory=Counter)
    wall: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "ends": dict(self.ends), "not_staged": dict(self.not_staged)}


def run(args: Arguments, load_policy: Callable[[Path], Any] | None = None) -> int:
    """Runs the command.

    Args:
        args: of ``perlsim drive``.
        load_policy: reads learned policies from their folders.

    Returns:
        Exit code 0.

    Raises:
        PerlsimError: an unknown policy, type or town, no routes or maps, files that cannot be read, a store
            that cannot be written to.
    """
    from rich.console import Console

    from perlsim import backend

    backend.setup()
    import jax

    from perlsim.ingest.progress import Counter as Bar
    from perlsim.output import plain, write_json
    from perlsim.policies import policy_of
    from perlsim.store import ScenarioStore, StoreWriter
    from perlsim.worlds.suite.cases import Worlds

    if (args.routes is None) == (args.generate is None):
        raise PerlsimError("expected either routes or how many to generate", field="--routes, --generate")
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    begun = time.monotonic()
    worlds = Worlds(args.maps, args.lights)
    driver = _Driver(args, worlds, policy_of(args.policy, load_policy))
    with TemporaryDirectory() as spare:
        routes = _routes(args, worlds, Path(spare), console)
        store = ScenarioStore.open_or_create(args.out)
        totals = Totals()
        with StoreWriter(store) as writer:
            recorder = _Recorder(writer, args, totals)
            new = [route for route in routes if not recorder.knows(route)]
            totals.known = len(routes) - len(new)
            size = min(len(new), _BATCH * len(jax.devices()))
            with Bar(console, "routes", len(new), "driving") as bar:
                for begin in range(0, len(new), size or 1):
                    batch = new[begin : begin + size]
                    cases, drives = driver(batch, size)
                    for idx, (route, case) in enumerate(zip(batch, cases, strict=True)):
                        recorder.take(route, case, drives, idx)
                    writer.commit()
                    bar.show(totals.routes, f"{totals.scenes} scenes")
    totals.wall = time.monotonic() - begun
    _print(totals, console)
    write_json(args.json, totals.to_json())
    plain(console, f"the store holds {len(store)} scenes: {args.out}")
    return 0


def _routes(args: Arguments, worlds: Worlds, spare: Path, console: Console) -> list[Found]:
    """The routes of the file, or generated ones: those are written and read, so that they are what a file holds."""
    from perlsim.worlds.routes import load

    path = args.routes
    if path is None:
        path = args.save_routes or spare / "routes.xml"
        _generate(args, worlds, path, console)
    elif args.save_routes is not None:
        raise PerlsimError("only generated routes are saved", field="--save-routes", remedy="add --generate")
    routes = load.found(path)
    # Mixed, so that batches are alike: of all towns and types, hence of about the same sizes.
    return sorted(routes, key=digest_of)


def _generate(args: Arguments, worlds: Worlds, path: Path, console: Console) -> None:
    from perlsim.output import plain
    from perlsim.worlds.routes import leaderboard2, load
    from perlsim.worlds.routes.catalogue import BENCH2DRIVE_TYPES
    from perlsim.worlds.routes.generate import generate
    from perlsim.worlds.towns import list_towns

    names = args.towns or tuple(path.name.split(".")[0] for path in list_towns(args.maps))
    if not names:
        raise PerlsimError("no towns", file=args.maps, field="--maps")
    places = {name: worlds.places(name) for name in names}
    exams = [found.definition for file in args.avoid for found in load.found(file)]
    routes = []
    for kind in args.types or BENCH2DRIVE_TYPES:
        try:
            routes += generate(places, [kind], args.generate or 0, args.seed, exams)
        except PerlsimError as error:
            # Not every type fits into every town: of all types those are taken that do.
            if args.types:
                raise
            plain(console, f"left out: {error.message}")
    if not routes:
        raise PerlsimError("no type of scenario fits into these towns", field="--towns")
    leaderboard2.write(routes, path)
    plain(console, f"generated: {len(routes)} routes, {args.generate} of each type")


def digest_of(route: Found) -> str:
    """sha256 of all that a route's files say of it."""
    from perlsim.worlds.routes import leaderboard2

    definition = route.definition
    scenarios = definition.scenarios or tuple(trigger.scenario for trigger in route.triggers)
    return hashlib.sha256(leaderboard2.to_xml([replace(definition, scenarios=scenarios)])).hexdigest()


class _Driver:
    """Drives batches of routes."""

    def __init__(self, args: Arguments, worlds: Worlds, policy: Policy):
        from perlsim.policies.noisy import disturbed
        from perlsim.worlds.suite.padding import Sizes

        self._args, self._worlds, self._policy, self._sizes = args, worlds, policy, Sizes()
        if args.policy_noise is not None:
            self._policy = disturbed(policy, *args.policy_noise, args.replan_every)

    def __call__(self, routes: Sequence[Found], size: int) -> tuple[list[Case], Drives]:
        """Drives routes at once, and some of them again so that there are ``size``: batches share a program."""
        from perlsim.policies import observed_pieces
        from perlsim.worlds.actors.scripted import stack_scripts
        from perlsim.worlds.suite.drive import Examination
        from perlsim.worlds.suite.padding import padded
        from perlsim.worlds.suite.scene import OBSERVED_PIECES, bank_of

        numbers = [int(digest_of(route)[:7], 16) for route in routes]
        cases = self._cases(routes, numbers)
        chosen = [idx % len(cases) for idx in range(size)]
        filled = [cases[idx] for idx in chosen]
        pieces = observed_pieces(self._policy) or OBSERVED_PIECES
        host = bank_of(filled, observed=not self._policy.privileged, pieces=pieces)
        agents = stack_scripts(
            [case.script for case in filled], [case.scenario for case in filled], host.info.num_agents
        )
        host, agents = padded(host, agents, self._sizes)
        examination = Examination(self._policy, agents, self._args.replan_every, record=True)
        return cases, examination(filled, host, self._args.seed, [numbers[idx] for idx in chosen])

    def _cases(self, routes: Sequence[Found], numbers: Sequence[int]) -> list[Case]:
        from perlsim.worlds.routes import load
        from perlsim.worlds.suite.cases import cases_of
        from perlsim.worlds.suite.starts import Bounds, moved_start

        args, worlds = self._args, self._worlds
        led = [load.lead(route, worlds.graph(route.definition.town)) for route in routes]
        cases = cases_of(led, worlds, forced_green=args.forced_green, seed=args.seed)
        if args.perturb_start is None:
            return cases
        aside, along, turned, speed = args.perturb_start
        bounds = Bounds(aside, along, math.radians(turned), speed)
        return [
            moved_start(case, bounds, (args.seed, number))
            for case, number in zip(cases, numbers, strict=True)
        ]


class _Recorder:
    """Puts drives into a store."""

    def __init__(self, writer: StoreWriter, args: Arguments, totals: Totals):
        self._writer, self._args, self._totals = writer, args, totals
        self._options = _options(args)
        self._done = {(file.sha256, file.options) for file in writer.store.files}
        # A killed writer may leave scenes of a drive that is not noted as done: it is driven again, the same way.
        self._stored = {summary.key for summary in writer.store.summaries}

    def knows(self, route: Found) -> bool:
        """Whether the store has the drive of a route, driven in the same way."""
        return (digest_of(route), self._options) in self._done

    def take(self, route: Found, case: Case, drives: Drives, idx: int) -> None:
        """Records one of the drives."""
        from perlsim.store.encoding import encode
        from perlsim.store.manifest import ImportedFile
        from perlsim.worlds.suite.criteria import Status
        from perlsim.worlds.suite.recording import drive_of, num_steps, parts_of, scenes_of

        args, totals, digest = self._args, self._totals, digest_of(route)
        name = case.route.definition.route
        totals.routes += 1
        totals.ends[Status(int(drives.judged.status[idx])).name.lower()] += 1
        totals.not_staged.update(case.notes)
        scenes: list[Scenario] = []
        if num_steps(drives, idx):
            way = hashlib.sha256(f"{digest} {self._options}".encode()).hexdigest()
            drive = drive_of(
                case,
                drives,
                idx,
                drive_id=f"{name}-{way[:10]}",
                recording_id=f"{name}-{digest[:10]}",
                notes=(f"policy: {args.policy}", *(f"not staged: {note}" for note in case.notes)),
            )
            scenes = scenes_of(drive, args.window, only_clean=args.keep == "clean")
            totals.unclean += len(parts_of(drive, args.window)) - len(scenes)
        for scene in scenes:
            if (scene.source, scene.dataset, scene.scenario_id) not in self._stored:
                # Drives on alike roads resemble each other; they are no other forms of the same scene.
                self._writer.add_encoded(encode(scene, comparable=False))
            totals.scenes += 1
            totals.seconds += scene.duration
            totals.metres += _driven(scene)
        self._writer.add_file(
            ImportedFile(name, 0, 0, digest, self._options, "route", scenarios=len(scenes), duplicates=0)
        )


def _options(args: Arguments) -> str:
    """All that shapes the drive of a route and its scenes, as text."""
    names = (
        "policy",
        "seed",
        "replan_every",
        "forced_green",
        "perturb_start",
        "policy_noise",
        "window",
        "keep",
    )
    lights = "" if args.lights is None else str(args.lights.absolute())
    return " ".join([*(f"{name}={getattr(args, name)}" for name in names), f"lights={lights}"])


def _driven(scene: Scenario) -> float:
    """How far the ego drives [m]."""
    import numpy as np

    path = scene.tracks.position[scene.ego.idx, :, :2].astype(np.float64)
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _print(totals: Totals, console: Console) -> None:
    from perlsim.output import plain

    ends = ", ".join(f"{count} {end}" for end, count in totals.ends.most_common())
    plain(console, f"driven: {totals.routes} routes" + (f" ({ends})" if ends else ""))
    if totals.known:
        plain(console, f"already recorded: {totals.known} routes")
    for note, count in totals.not_staged.most_common():
        plain(console, f"  {count} without their scenario: {note}")
    if totals.unclean:
        plain(console, f"left out: {totals.unclean} scenes with infractions of the ego, or soon before them")
    hours, rate = totals.seconds / 3600, totals.scenes / max(totals.wall, 1e-6)
    plain(
        console,
        f"recorded: {totals.scenes} scenes, {hours:.2f} h, {totals.metres / 1000:.1f} km, "
        f"in {totals.wall:.0f} s ({rate:.1f} scenes/s)",
    )
