"""The command line: ``perlsim COMMAND …``.

Each command is a dataclass of its arguments, whose ``run`` imports what it needs and returns the exit code.
This is the one module that may put parts of different packages together, inside those methods, so that
``perlsim --help`` stays fast.

Exit codes: 0 everything asked for was done, 1 some of it could not be done (each part is named), 2 wrong
usage or an error that stopped the command, 130 interrupted.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg, subcommand

from perlsim.errors import PerlsimError
from perlsim.maps_command import Maps

if TYPE_CHECKING:
    from perlsim.policies import Policy
    from perlsim.train_command import Program

DONE, PARTLY, FAILED, INTERRUPTED = 0, 1, 2, 130

_Out = Annotated[Path, arg(aliases=["-o"], metavar="STORE")]
_Paths = Positional[Annotated[tuple[str, ...], arg(metavar="PATH ...")]]


@dataclass(frozen=True)
class Import:
    """Read driving logs into a scenario store.

    Takes files, folders (searched through; an Argoverse or Bench2Drive folder is one log) and globs, on all
    cores. Logs that cannot be read are skipped and listed with the reason. Interrupted in any way, the same
    command goes
    on where it ended: logs that were imported (same path, size and time of change, or same content) are
    skipped.

    Exit codes: 0 all logs are in the store, 1 some were refused, 2 wrong usage, 130 interrupted.
    """

    paths: _Paths
    """Files, folders and globs."""
    out: _Out
    """Folder of the store; made if absent, else added to."""
    format: str | None = None
    """Format of the logs: womd, womd_example, scenarionet, gpudrive, av2_sensor, av2_motion, commonroad,
    bench2drive, carla_recorder, nuplan, py123d. Guessed for each log by default."""
    maps: Path | None = None
    """Folder with the maps that logs refer to (OpenDRIVE towns, nuPlan GeoPackages, HD maps)."""
    strict: bool = False
    """Stop at the first log that cannot be read; what was read before is kept."""
    workers: int | None = None
    """Number of reading processes; all cores by default."""
    timeout: float = 600.0
    """Seconds without a scene after which a log is given up and refused."""
    ego: str | None = None
    """Name of the road user to take as the ego in formats that have none (CommonRoad, CARLA recorder)."""
    window: float = 20.0
    """Longest scene cut from a recording that has no scenes of its own (nuPlan, CARLA), in seconds."""
    keep_duplicates: bool = False
    """Store scenes that the store already has in another form; they are left out and listed by default."""
    split_seed: int | None = None
    """Seed that deals recordings to train, val and test, fixed when a store is made; 0 by default."""
    split_fractions: tuple[float, float, float] | None = None
    """Expected shares of train, val and test, fixed when a store is made; 0.8 0.1 0.1 by default."""
    split_by: Literal["recording", "place"] | None = None
    """What a split never cuts, fixed when a store is made; recording by default."""
    json: Path | None = None
    """Also write the totals to this file, as JSON."""

    def run(self) -> int:
        """Imports and prints the totals."""
        from rich.console import Console

        from perlsim.ingest import ImportOptions, import_logs
        from perlsim.ingest.progress import ConsoleProgress, print_totals
        from perlsim.output import write_json
        from perlsim.readers import ReadOptions

        if not self.paths:
            raise PerlsimError("nothing to import", field="PATH", remedy="name files, folders or globs")
        _at_least("--workers", self.workers, 1)
        if self.maps is not None and not self.maps.is_dir():
            raise PerlsimError("no such folder", file=self.maps, field="--maps")
        if not self.window > 0:
            raise PerlsimError(f"expected a positive time in seconds, found {self.window}", field="--window")
        if not self.timeout > 0:
            raise PerlsimError(f"expected a positive time, found {self.timeout}", field="--timeout")
        options = ImportOptions(
            format=self.format,
            reading=ReadOptions(self.maps, self.window, self.ego),
            strict=self.strict,
            num_workers=self.workers,
            time_limit=self.timeout,
            keep_duplicates=self.keep_duplicates,
            rule=self._split_rule(),
        )
        console = Console()
        with ConsoleProgress(console) as progress:
            report = import_logs(list(self.paths), self.out, options, progress)
        print_totals(report, console)
        write_json(self.json, report.to_json())
        return INTERRUPTED if report.interrupted else PARTLY if report.refused else DONE

    def _split_rule(self):
        from perlsim.store import SplitRule

        given = {"seed": self.split_seed, "fractions": self.split_fractions, "by": self.split_by}
        given = {name: value for name, value in given.items() if value is not None}
        return SplitRule(**given) if given else None


@dataclass(frozen=True)
class Info:
    """Tell what a scenario store holds: counts, what is missing, splits, tags, and whether the numbers make
    sense.

    Exit codes: 0, 1 where --verify finds damage, 2 where the store cannot be read.
    """

    store: Positional[Annotated[Path, arg(metavar="STORE")]]
    """Folder of the store."""
    json: Path | None = None
    """Also write the report to this file, as JSON."""
    verify: bool = False
    """Read every byte and compare it with the digests in the manifest."""
    fidelity: bool = False
    """Also drive each log's own path and speeds through controller and vehicle model, and print how far
    from the log that ends after 2 s, in metres, by source."""

    def run(self) -> int:
        """Reports."""
        from rich.console import Console

        from perlsim.info import print_report, print_rows, report_store
        from perlsim.output import write_json
        from perlsim.store import ScenarioStore

        console = Console()
        store = ScenarioStore.open(self.store)
        problems = store.verify() if self.verify else []
        for problem in problems:
            print(f"damaged: {problem}")
        if problems:
            return PARTLY
        if self.verify:
            print(f"verified: every byte of {len(store.manifest.shards)} shards is as written")
        report = report_store(store)
        print_report(report, console)
        content = report.to_json()
        if self.fidelity:
            from perlsim.fidelity import fidelity_report

            content["fidelity"] = list(fidelity_report(store))
            print_rows("controller fidelity: position error after 2 s [m]", content["fidelity"], console)
        write_json(self.json, content)
        return DONE


@dataclass(frozen=True)
class Generate:
    """Make embedded synthetic logs: procedural roads, rule-based road users, no collisions, the same for a
    seed."""

    out: _Out
    """Folder of the store; made if absent, else added to."""
    num: Annotated[int, arg(aliases=["-n"])] = 100
    """Number of scenes."""
    seed: int = 0
    """Seed of the first scene."""
    family: tuple[str, ...] = ()
    """Names of the scenario families to use; all of them by default."""
    workers: int | None = None
    """Number of processes; all cores by default. The scenes are the same for any number."""

    def run(self) -> int:
        """Generates."""
        from rich.console import Console

        from perlsim.ingest.progress import Counter
        from perlsim.ingest.synthetic import generate_logs

        _at_least("--num", self.num, 1)
        _at_least("--workers", self.workers, 1)
        with Counter(Console(), "scenes", self.num, "generating") as counter:
            added = generate_logs(
                self.num,
                self.seed,
                self.out,
                families=self.family,
                num_workers=self.workers,
                progress=counter.show,
            )
        print(f"generated: {added} scenes, {self.num - added} of {self.num} were in the store already")
        return DONE


@dataclass(frozen=True)
class Train:
    """Train a world model and a planner from logs, and examine what they learned: one command for all stages.

    The stages (world model, imitation, reinforcement, examination) and their sizes are those of a configuration. A
    run folder that exists is gone on with: a run that was killed at any moment reaches the same weights, bit for
    bit on the same machine, as one that was not. A finished run holds its table (results.json, results.html),
    curves.png, scenes.html with the best, worst and most changed scenes, and the folder policy, which perlsim
    rollout and perlsim eval take.
    """

    config: str
    """Name of a shipped configuration (quickstart, debug, real, bench2drive), or a YAML file."""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """Folder of the run; runs/NAME by default."""
    set: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")] = ()
    """Changes of the configuration: dotted keys, such as imitation.num_updates=500, and YAML values."""
    fresh: bool = False
    """Delete the run folder's run and begin again."""
    distributed: bool = False
    """Train together with other processes, which the environment tells of (SLURM, Kubernetes, plain variables)."""

    def run(self) -> int:
        """Hands over to the training."""
        from perlsim.train_command import run

        return run(self, _load_training)


@dataclass(frozen=True)
class Rollout:
    """Simulate many episodes at once, and report speed and outcomes. Without a store, on embedded synthetic
    logs."""

    store: Path | None = None
    """Folder of the scenario store; embedded synthetic logs by default."""
    vmap: int = 4096
    """Number of episodes simulated at once."""
    agents: str = "log"
    """How the other road users move: log, constant_velocity, idm, world_model=RUN."""
    policy: str = "log_replay"
    """What drives the ego: log_replay, constant_velocity, idm_route, pdm_closed, expert, or the folder of a training
    run or of a policy that it made."""
    horizon: int = 80
    """Number of simulation steps of 0.1 s."""
    max_agents: int | None = None
    """Keep the road users nearest to the ego, at most this many; all by default."""
    seed: int = 0
    """Seed of the episodes and of all noise."""
    split: str | None = None
    """Use the scenes of one split: train, val or test; all by default."""
    reward: str | None = None
    """Name of the reward preset."""
    devices: int | None = None
    """Number of devices to use; all by default."""
    json: Path | None = None
    """Also write the result to this file, as JSON."""

    def run(self) -> int:
        """Hands over to the rollout."""
        from perlsim.rollout_command import run

        _at_least("--vmap", self.vmap, 1)
        _at_least("--horizon", self.horizon, 1)
        _at_least("--max-agents", self.max_agents, 1)
        _at_least("--devices", self.devices, 1)
        return run(self, _load_policy, _load_agents)


@dataclass(frozen=True)
class Score:
    """Recompute a benchmark's numbers from result files: Leaderboard JSON gives Bench2Drive's, tables of
    sub-scores (CSV) NAVSIM's PDMS or EPDMS.

    Takes files, folders (searched through) and globs. Routes without a record score 0 and are named; a route
    that comes twice counts once.

    Exit codes: 0 everything was scored, 1 a file could not be used or contradicts itself (each is named), 2
    nothing could be scored.
    """

    files: Positional[Annotated[tuple[str, ...], arg(metavar="FILE ...")]]
    """Files, folders and globs."""
    json: Path | None = None
    """Also write the numbers, and those of every route and scene, to this file, as JSON."""
    routes: Path | None = None
    """Route file (XML) of the routes that should be there; by default those that the files hold and lack."""
    maps: Path | None = None
    """Folder with CARLA's towns (OpenDRIVE): tells whether failed drives passed their junction, which counts
    for the ability Traffic Signs. Needs --routes."""
    metric_info: Path | None = None
    """Folder with the motion logs of the drives (NAME/metric_info.json), for comfort; by default beside each
    result file."""

    def run(self) -> int:
        """Hands over to the scoring."""
        from perlsim.score_command import run

        return run(self)


@dataclass(frozen=True)
class Eval:
    """Score policies on scenes of logs: NAVSIM's PDMS and EPDMS with their sub-scores of one plan of 4 s, and
    collisions, road, lights, progress and margins of closed loops. Without a store, on embedded synthetic logs.

    Scenes are windows of logs in which the ego is there 1.5 s before the start (NAVSIM's history) and over the
    horizon. Intervals are 95 % bootstraps that draw whole recordings. With -o, a run that was interrupted goes
    on with the policies that are left when the same command is given again.
    """

    policy: str = "log_replay"
    """Names of policies, separated by commas: log_replay, constant_velocity, idm_route, pdm_closed, expert, or the
    folder of a training run or of a policy that it made."""
    store: Path | None = None
    """Folder of the scenario store; embedded synthetic logs by default."""
    agents: str = "log"
    """How the other road users move, also under NAVSIM's protocol: log, constant_velocity, idm, world_model=RUN."""
    scenes: int | None = None
    """Most scenes, spread over as many logs as there are; all windows of a store, or 48 embedded logs, by
    default."""
    seed: int = 0
    """Seed of the choice of scenes, of embedded logs and of all noise."""
    split: str | None = None
    """Use the scenes of one split: train, val or test; all by default."""
    horizon: int = 40
    """Steps of 0.1 s in closed loop; NAVSIM's protocol has 40."""
    replan_every: int = 5
    """Steps of 0.1 s between plans in closed loop."""
    stride: float = 0.5
    """Seconds between the starts of windows of one log, rounded to 0.1 s."""
    max_agents: int | None = None
    """Keep the road users nearest to the ego, at most this many; all by default."""
    include_standing: bool = False
    """Keep scenes in which the logged ego gets less than 0.5 m far; left out by default, since every policy
    that waits solves them."""
    stage2: Path | None = None
    """File of second-stage starts made by perlsim perturb: its scenes are scored, in two stages too."""
    realism: bool = False
    """Also measure how realistic the other road users are, by 32 rollouts of 8 s of each log."""
    rollouts: int = 100
    """Scenes of each policy whose rollouts are kept in the run folder, evenly spread."""
    suite: str | None = None
    """Examine on routes instead of logs: bench2drive-vector or dos-vector. Routes run until they end, 200 s at most."""
    routes: tuple[Path, ...] = ()
    """Files of the suite's routes (Bench2Drive or Leaderboard XML, beside which a JSON of the same name may hold the
    scenarios). Routes of several files that share ids are named FILE.ID."""
    types: tuple[str, ...] = ()
    """Only routes with a scenario of these types; all by default."""
    limit: int | None = None
    """Most routes of a suite, the first; all by default."""
    batch: int = 256
    """Routes of a suite that are in memory at once, with about 10 MB each."""
    maps: Path | None = None
    """Folder with the OpenDRIVE towns of the routes, or a CARLA installation."""
    lights: Path | None = None
    """Folder with light programmes of the towns; CARLA's default programmes by default."""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """Folder of the run: results as JSON and HTML, rollouts to view, and of a suite result files in the Leaderboard's
    form and pages of the drives that failed; made if absent."""
    json: Path | None = None
    """Also write the results to this file, as JSON."""

    def run(self) -> int:
        """Hands over to the evaluation or examination."""
        from perlsim.eval_command import names_of, run
        from perlsim.suite_command import run as run_suite

        _at_least("--scenes", self.scenes, 1)
        _at_least("--horizon", self.horizon, 1)
        _at_least("--replan-every", self.replan_every, 1)
        _at_least("--max-agents", self.max_agents, 1)
        _at_least("--rollouts", self.rollouts, 0)
        _at_least("--limit", self.limit, 1)
        _at_least("--batch", self.batch, 1)
        if not self.stride > 0:
            raise PerlsimError(f"expected a positive time in seconds, found {self.stride}", field="--stride")
        if self.suite is not None:
            return run_suite(self, names_of(self.policy), _load_policy)
        return run(self, _load_policy, _load_agents)


@dataclass(frozen=True)
class Drive:
    """Drive routes in closed loop, among scripted road users, and record the drives as logs in a scenario store.

    Routes come from a file (Bench2Drive or Leaderboard XML) or are generated, the same number of each type of
    scenario. Drives are driven as examinations are (see perlsim eval --suite), on the same worlds. Interrupted in
    any way, the same command goes on where it ended: routes whose drives the store has are skipped.
    """

    out: _Out
    """Folder of the store; made if absent, else added to."""
    maps: Path
    """Folder with the OpenDRIVE towns of the routes, or a CARLA installation."""
    policy: str = "expert"
    """Name of the policy that drives."""
    routes: Path | None = None
    """File of routes."""
    generate: int | None = None
    """Generate this many routes of each type instead."""
    types: tuple[str, ...] = ()
    """Types of scenario of generated routes; Bench2Drive's 44 by default, those that fit into the towns."""
    towns: tuple[str, ...] = ()
    """Towns of generated routes; all of the folder by default."""
    avoid: tuple[Path, ...] = ()
    """Files of routes of examinations: no generated route comes within 100 m of a trigger of the same type."""
    save_routes: Path | None = None
    """Also write the generated routes to this file, which perlsim eval --suite reads."""
    lights: Path | None = None
    """Folder with light programmes of the towns; CARLA's default programmes by default."""
    forced_green: bool = False
    """All lights are green all the time, as in DOS."""
    window: float = 20.0
    """Longest scene cut from a drive, in seconds; 0 keeps drives whole."""
    keep: Literal["clean", "all"] = "clean"
    """Which scenes to keep: all, or those without an infraction of the ego in them or within 3 s after them."""
    perturb_start: tuple[float, float, float, float] | None = None
    """Start elsewhere than at the route's start: at most this far aside and ahead, in metres, turned, in degrees, and
    at most this fast, in m/s. Drawn uniformly; 0.5 5 10 8 is a good choice."""
    policy_noise: tuple[float, float] | None = None
    """Disturb plans for stretches of about 2.5 s: shifted aside by at most so many metres, speeds changed by at most
    this share. Logs then show how the policy recovers; 0.5 0.2 is a good choice."""
    replan_every: int = 5
    """Steps of 0.1 s between plans."""
    seed: int = 0
    """Seed of generated routes, of what routes leave open, and of all noise."""
    json: Path | None = None
    """Also write the totals to this file, as JSON."""

    def run(self) -> int:
        """Hands over to the drives."""
        from perlsim.drive_command import run

        _at_least("--generate", self.generate, 1)
        _at_least("--replan-every", self.replan_every, 1)
        if not self.window >= 0:
            raise PerlsimError(f"expected a time in seconds, found {self.window}", field="--window")
        for option, values in (
            ("--perturb-start", self.perturb_start),
            ("--policy-noise", self.policy_noise),
        ):
            if min(values or (0.0,)) < 0:
                raise PerlsimError("expected numbers from 0 on", field=option)
        return run(self, _load_policy)


@dataclass(frozen=True)
class Perturb:
    """Make starts for the second stage of NAVSIM v2's score: poses and speeds around the logged ego's, 4 s after
    the start of each scene, on the drivable area where it is known and apart from other road users.

    Exit codes: 0, 1 where some scene got fewer starts than asked for.
    """

    store: Positional[Annotated[Path | None, arg(metavar="STORE")]] = None
    """Folder of the scenario store; embedded synthetic logs by default."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="STARTS.json")] = Path("starts.json")
    """File to write."""
    per_scene: int = 8
    """Starts of each scene."""
    scenes: int | None = None
    """Most scenes, spread over as many logs as there are; all windows of a store by default."""
    seed: int = 0
    """Seed of the choice of scenes, of embedded logs and of the starts."""
    split: str | None = None
    """Use the scenes of one split: train, val or test; all by default."""
    max_agents: int | None = None
    """Keep the road users nearest to the ego, at most this many; all by default."""
    include_standing: bool = False
    """Keep scenes in which the logged ego gets less than 0.5 m far."""

    def run(self) -> int:
        """Makes the file."""
        from perlsim.perturb import run

        _at_least("--scenes", self.scenes, 1)
        _at_least("--per-scene", self.per_scene, 1)
        _at_least("--max-agents", self.max_agents, 1)
        return run(self)


@dataclass(frozen=True)
class View:
    """Make a self-contained HTML page that plays the scenes of stores and runs; or a picture, a film, a Rerun
    recording.

    A store plays its logs, a run what its policies drove. Two folders, or two policies of a run, open next to
    each other. Pictures, films and recordings show the first of the scenes (see --scene) and need the extra
    "view" or "rerun".
    """

    paths: Positional[Annotated[tuple[Path, ...], arg(metavar="PATH ...")]]
    """Folders of stores and runs."""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="PAGE")] = None
    """The page to write."""
    policy: str | None = None
    """Policies of the runs to show, with commas between; all by default."""
    scene: tuple[str, ...] = ()
    """Names of the scenes to show."""
    scenes: int = 100
    """Largest number of scenes; of more, evenly spaced ones are taken."""
    title: str | None = None
    """Title of the page; names of the folders by default."""
    png: Path | None = None
    """Write a picture of one scene to this file."""
    time: float | None = None
    """Time of the picture, in seconds from the start of the scene; its middle by default."""
    gif: Path | None = None
    """Write one scene as an animation to this file."""
    mp4: Path | None = None
    """Write one scene as a film to this file."""
    fps: float = 10.0
    """Pictures a second in animations and films, which run in real time."""
    rerun: Path | None = None
    """Write one scene as a recording for the Rerun viewer (.rrd) to this file."""

    def run(self) -> int:
        """Hands over to the viewer."""
        from perlsim.view.command import run

        _at_least("--scenes", self.scenes, 1)
        return run(self)


Command = (
    Annotated[Import, subcommand("import")]
    | Annotated[Generate, subcommand("generate")]
    | Annotated[Info, subcommand("info")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Rollout, subcommand("rollout")]
    | Annotated[View, subcommand("view")]
    | Annotated[Eval, subcommand("eval")]
    | Annotated[Drive, subcommand("drive")]
    | Annotated[Perturb, subcommand("perturb")]
    | Annotated[Score, subcommand("score")]
    | Annotated[Maps, subcommand("maps")]
)


def main(args: list[str] | None = None) -> None:
    """Entry point of the ``perlsim`` command; ends the process with the command's exit code."""
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="perlsim",
        description="Vector-space simulation of driving logs: closed-loop training of planners.",
        args=args,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        code = command.run()
        sys.stdout.flush()
    except PerlsimError as error:
        print(f"perlsim: {error}", file=sys.stderr)
        code = FAILED
    except BrokenPipeError:
        # The reader of our output went away (``perlsim info … | head``): nothing is left to say.
        sys.stderr.close()
        code = DONE
    except OSError as error:
        # A full disk, or a folder that may not be written to; broken pipes are told apart above.
        what = error.strerror or str(error)
        print(f"perlsim: {error.filename}: {what}" if error.filename else f"perlsim: {what}", file=sys.stderr)
        code = FAILED
    except KeyboardInterrupt:
        print("perlsim: interrupted", file=sys.stderr)
        code = INTERRUPTED
    raise SystemExit(code)


def _load_training() -> Program:
    """What ``perlsim train`` trains."""
    from perlsim.train_command import Program
    from planner.examination import TrainingJob
    from planner.settings import CONFIGS, Settings

    return Program(Settings, CONFIGS, TrainingJob)


def _load_policy(path: Path) -> Policy:
    """The learned policy of a run or of its own folder."""
    from perlsim.training.export import model_folder
    from planner.policy import load_policy

    return load_policy(model_folder(path, "policy"))


def _load_agents(path: Path) -> Any:
    """The learned agent model of a run or of its own folder."""
    from perlsim.training.export import model_folder
    from world_model.agents import load_agents

    return load_agents(model_folder(path, "world_model/model"))


def _at_least(option: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise PerlsimError(f"expected a number from {least} on, found {value}", field=option)


if __name__ == "__main__":
    main()
