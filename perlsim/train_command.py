"""``perlsim train``: runs the stages of a configuration in a run folder, from where they were left."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from perlsim.errors import PerlsimError
from perlsim.runs import RUN, UNFINISHED, RunFolder, read_json

if TYPE_CHECKING:
    from rich.console import Console

    from perlsim.cli import Train as Arguments
    from perlsim.training.config import Strict

KIND = "train"
CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
# Piece of a run that is there as soon as a stage may have begun, so that other settings cannot take it over.
_BEGUN = ".begun"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# Columns of tables that are not printed on a terminal.
_PIPE_WIDTH = 120


class Job(Protocol):
    """What the command runs: stages and their examination."""

    def train(self) -> None:
        """Runs the stages, each from where it was left."""
        ...

    def examine(self, folder: RunFolder, console: Console) -> dict[str, Any] | None:
        """Examines what was trained; None where nothing was asked for."""
        ...

    def finished(self, folder: Path, results: dict[str, Any]) -> None:
        """Writes what can only be made of a finished run."""
        ...

    def show(self, results: dict[str, Any], console: Console) -> None:
        """Prints the results."""
        ...


class Program(NamedTuple):
    """What can be trained.

    Attributes:
        settings: model of its configurations.
        configs: folder of those that are shipped.
        job: of a configuration, a run folder and a console (None is silent); called once JAX is set up.
    """

    settings: type[Strict]
    configs: Path
    job: Callable[[Any, Path, Console | None], Job]


def run(args: Arguments, load: Callable[[], Program]) -> int:
    """Runs the command.

    Args:
        args: of it.
        load: imports what can be trained.

    Returns:
        Exit code 0.

    Raises:
        PerlsimError: mistakes in the configuration, a folder that holds something else, damaged checkpoints, a number
            that is not finite.
    """
    from rich.console import Console

    from perlsim import backend

    backend.setup()
    if args.distributed:
        from perlsim.training import distributed

        distributed.start()
    import jax

    from perlsim.output import plain
    from perlsim.training.config import load_config
    from perlsim.training.distributed import wait_for_all

    program = load()
    config = load_config(program.settings, args.config, args.set, program.configs)
    out = args.out or Path("runs") / Path(args.config).stem
    first = jax.process_index() == 0
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    begin = time.monotonic()
    with _folder(args, config, out, first) as folder:
        # The folder is as it should be before another process looks into it.
        wait_for_all("run folder")
        job = program.job(config, out, console if first else None)
        if folder is not None and folder.is_finished:
            plain(console, f"{out}: finished before; --fresh begins again")
            if (out / "results.json").is_file():
                job.show(read_json(out / "results.json"), console)
            return 0
        job.train()
        if folder is None:
            return 0
        if args.distributed:
            plain(console, f"{out}: trained; the same command without --distributed examines it")
            return 0
        results = job.examine(folder, console)
        facts = {
            "policies": (results or {}).get("policies", []),
            "seconds": round(time.monotonic() - begin, 1),
        }
        folder.finish(["perlsim", *sys.argv[1:]], facts)
    if results is not None:
        job.finished(out, results)
        job.show(results, console)
    plain(console, f"{out}: finished")
    return 0


@contextlib.contextmanager
def _folder(args: Arguments, config: Strict, out: Path, first: bool) -> Iterator[RunFolder | None]:
    """The run folder, held by the first of several processes; None in the others."""
    if not first:
        yield None
        return
    if args.fresh:
        _clear(out)
    try:
        with RunFolder(out, KIND, flat(config.model_dump(mode="json"))) as folder:
            if not folder.is_finished:
                folder.write_part(_BEGUN, {})
                _record(args, config, folder)
            yield folder
    except PerlsimError as error:
        if error.file == str(out) and error.field == "-o" and not args.fresh:
            error.remedy = f"{error.remedy}; --fresh begins again in this one"
        raise


def _record(args: Arguments, config: Strict, folder: RunFolder) -> None:
    """Writes down the resolved configuration, and what runs it; says so where that changed since the run began."""
    import yaml

    from perlsim.output import plain

    text = f"# perlsim train --config {args.config}, resolved\n"
    text += yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    folder.write(CONFIG, text)
    now, path = environment(), folder.path / ENVIRONMENT
    if path.is_file():
        before = read_json(path)
        changed = [name for name in now if before.get(name) != now[name]]
        if changed:
            from rich.console import Console

            shown = ", ".join(f"{name}: {before.get(name)} then, {now[name]} now" for name in changed)
            plain(Console(), f"goes on under other conditions, bits may differ ({shown})")
    folder.write(ENVIRONMENT, now)


def environment() -> dict[str, Any]:
    """What the bits of a training depend on besides its configuration."""
    import jax

    devices = jax.devices()
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "device": devices[0].device_kind,
        "num_devices": len(devices),
        "num_processes": jax.process_count(),
    }


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration with dotted keys, so that a comparison names what differs."""
    result: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result


def _clear(out: Path) -> None:
    """Deletes a run of this command; anything else is left alone.

    Raises:
        PerlsimError: where the folder holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    found = next((out / name for name in (RUN, UNFINISHED) if (out / name).is_file()), None)
    if found is None or read_json(found).get("kind") != KIND:
        raise PerlsimError(
            "this is no training run, and is not deleted",
            file=out,
            field="--fresh",
            remedy="choose another folder",
        )
    shutil.rmtree(out)


def _commit() -> str | None:
    """Commit of the source, where it is a git checkout; with a mark where files differ from it."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=_quiet()
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _quiet() -> dict[str, str]:
    """Git must not write to a checkout that somebody else may be using."""
    return {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
