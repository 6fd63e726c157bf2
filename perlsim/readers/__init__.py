"""Readers: one module per log format, one entry here each.

A reader module has two functions:

- ``sniff(path: Path) -> bool``: whether the file or folder looks like this format, from its name and first
  bytes, quickly, without raising.
- ``read(path: Path, options: ReadOptions) -> Iterator[Scenario]``: yields *finalized* scenarios (each raw one
  passed through `perlsim.readers.finalize.finalize`). Raises `FormatError` naming file, field and remedy.

The registry holds module names, so that listing the formats imports none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from perlsim.errors import FormatError
from perlsim.scenario import Scenario


@dataclass(frozen=True)
class ReadOptions:
    """What a reader may need beside the file.

    Attributes:
        maps: folder with maps that the logs refer to (OpenDRIVE towns, nuPlan GeoPackages, HD maps).
        window: s, longest scenario cut from a recording that has no scenarios of its own (nuPlan, CARLA).
        ego: name of the road user to take as the ego in formats that have none (CommonRoad, CARLA recorder).
    """

    maps: Path | None = None
    window: float = 20.0
    ego: str | None = None


@dataclass(frozen=True)
class Format:
    """A registry entry.

    Attributes:
        name: as given to ``perlsim import --format``.
        module: module with ``sniff`` and ``read``.
        title: full name, for help and docs.
        suffixes: endings of file names that may be of this format; "" means a folder, and an ending in "-"
            may stand anywhere (shards are named ``x.tfrecord-00000-of-01000``).
        tested_on: "real files" or "files written to the public schema".
    """

    name: str
    module: str
    title: str
    suffixes: tuple[str, ...]
    tested_on: str = "real files"

    def sniff(self, path: Path) -> bool:
        """Whether ``path`` looks like this format."""
        fits = path.is_dir() if "" in self.suffixes else False
        endings = [s for s in self.suffixes if s]
        named = any(path.name.endswith(s) or (s.endswith("-") and s in path.name) for s in endings)
        fits = fits or (named and path.is_file())
        return fits and import_module(self.module).sniff(path)

    def read(self, path: Path, options: ReadOptions | None = None) -> Iterator[Scenario]:
        """Yields the scenarios of ``path``."""
        return import_module(self.module).read(path, options or ReadOptions())


_SCHEMA = "files written to the public schema"
FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format(
            "womd", "perlsim.readers.womd", "Waymo Open Motion, Scenario protos", (".tfrecord", "tfrecord-")
        ),
        Format(
            "womd_example",
            "perlsim.readers.womd_example",
            "Waymo Open Motion, tf.Example",
            (".tfrecord", "tfrecord-"),
        ),
        Format("scenarionet", "perlsim.readers.scenarionet", "ScenarioNet", (".pkl",)),
        Format("gpudrive", "perlsim.readers.gpudrive", "GPUDrive JSON", (".json",)),
        Format("av2_sensor", "perlsim.readers.av2_sensor", "Argoverse 2 sensor", ("",)),
        Format(
            "av2_motion", "perlsim.readers.av2_motion", "Argoverse 2 motion forecasting", ("", ".parquet")
        ),
        Format("commonroad", "perlsim.readers.commonroad", "CommonRoad 2020a", (".xml",)),
        Format("bench2drive", "perlsim.readers.bench2drive", "Bench2Drive clip", ("",), _SCHEMA),
        Format("carla_recorder", "perlsim.readers.carla_recorder", "CARLA recorder", (".log",)),
        Format("nuplan", "perlsim.readers.nuplan", "nuPlan", (".db",), _SCHEMA),
        Format("py123d", "perlsim.readers.py123d", "py123d Arrow logs", ("", ".arrow")),
    )
}


def guess_format(path: Path) -> Format:
    """The format of a file or folder, from its name and first bytes.

    Raises:
        FormatError: where no reader, or more than one, recognises it.
    """
    fitting = [entry for entry in FORMATS.values() if entry.sniff(path)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(FORMATS)
    found = "no reader recognises it" if not fitting else "it fits " + " and ".join(f.name for f in fitting)
    raise FormatError(found, file=path, remedy=f"name the format with --format; known formats: {known}")
