"""Towns: an OpenDRIVE map with its light programmes, read once and then loaded from a cache on disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from perlsim.errors import FormatError, PerlsimError
from perlsim.scenario import Array, Lights
from perlsim.worlds import opendrive
from perlsim.worlds.array_file import read_arrays, write_arrays
from perlsim.worlds.given_lights import given_plan
from perlsim.worlds.light_plans import LightPlan, default_plan
from perlsim.worlds.opendrive import Controllers, OpenDriveMap, Signals
from perlsim.worlds.opendrive.crop import Region, points_in, reindexed, rows_in, select
from perlsim.worlds.routes.stations import read_stations

# Raise when what is read of a map, or how it is stored, changes.
SCHEMA = 3


@dataclass(frozen=True)
class Town:
    """A town.

    Attributes:
        map: its lanes, borders, signals and the rest.
        lights: programmes of its lights.
        stations: ``[P]`` m of the road's reference line beside each lane (`read_stations`).
    """

    map: OpenDriveMap
    lights: LightPlan = field(default_factory=LightPlan)
    stations: Array = field(default_factory=lambda: np.zeros(0))

    def lights_at(self, times: Array) -> Lights:
        """The lights of a scenario: one row for each governed lane, with its states at ``times`` [s]."""
        signals, rows = self.map.signals, self.lights.rows
        return Lights(
            signals.stop[rows], signals.heading[rows], signals.lane_idx[rows], self.lights.at(times)
        )

    def crop(self, region: Region) -> tuple[Town, Array]:
        """What of the town lies in a region, one box or several (`opendrive.boxes_along`).

        Lanes that reach into it stay whole; programmes of lights are those of the whole town.

        Returns:
            The smaller town, and int32 ``[P]``: the new index of each old lane, −1 where it is gone.
        """
        road, new_idx = self.map.around(region)
        old, kept = self.map, new_idx >= 0
        signals, new_signal, new_row = _cropped_signals(old.signals, new_idx, region)
        names = np.flatnonzero(kept)
        all_controllers = np.ones(len(old.controllers.ids), bool)
        small = replace(
            old,
            road=road,
            signals=signals,
            surfaces=select(old.surfaces, rows_in(old.surfaces, region)),
            sides=old.sides.of_points(np.repeat(kept, np.diff(old.road.lanes.centre.offsets))),
            junctions=tuple(old.junctions[idx] for idx in names),
            controllers=_without_empty(
                replace(
                    old.controllers,
                    signals=reindexed(old.controllers.signals, all_controllers, new_signal),
                )
            ),
            stop_lines=select(old.stop_lines, rows_in(old.stop_lines, region)),
        )
        lit = new_row[self.lights.rows] >= 0
        lights = LightPlan(
            new_row[self.lights.rows[lit]],
            select(self.lights.states, lit),
            select(self.lights.durations, lit),
            self.lights.offset[lit],
            self.lights.given[lit],
        )
        return Town(small, lights, self.stations[kept] if len(self.stations) else self.stations), new_idx


def _cropped_signals(signals: Signals, new_lane: Array, region: Region) -> tuple[Signals, Array, Array]:
    """The signals that govern kept lanes or stand in the region; new indices of signals, of governed lanes."""
    kept_row = new_lane[signals.lane_idx] >= 0
    kept = points_in(signals.position, region)
    kept[signals.lane_signal_idx[kept_row]] = True
    new_signal = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    new_row = np.where(kept_row, np.cumsum(kept_row) - 1, -1).astype(np.int32)
    cropped = Signals(
        tuple(signals.ids[idx] for idx in np.flatnonzero(kept)),
        signals.kind[kept],
        signals.position[kept],
        new_signal[signals.lane_signal_idx[kept_row]],
        new_lane[signals.lane_idx[kept_row]],
        signals.stop[kept_row],
        signals.heading[kept_row],
    )
    return cropped, new_signal, new_row


def _without_empty(controllers: Controllers) -> Controllers:
    kept = np.diff(controllers.signals.offsets) > 0
    rows = np.flatnonzero(kept)
    return Controllers(
        tuple(controllers.ids[idx] for idx in rows),
        tuple(controllers.junctions[idx] for idx in rows),
        select(controllers.signals, kept),
    )


def default_cache() -> Path:
    """Folder of the cache: ``perlsim/towns`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return _user_cache() / "towns"


def default_maps() -> Path:
    """Folder of fetched maps: ``perlsim/maps`` beside the cache of towns."""
    return _user_cache() / "maps"


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "perlsim"


def cache_file(path: Path, cache: Path | None = None) -> tuple[Path, str]:
    """Where a town is cached, and the sha256 of its OpenDRIVE file.

    Raises:
        FormatError: where the file cannot be read.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", file=path) from error
    folder = default_cache() if cache is None else Path(cache)
    return folder / f"{_name(path)}-{digest[:16]}-{SCHEMA}.npz", digest


def load_town(
    path: Path, *, lights: Path | None = None, cache: Path | None = None, must_store: bool = False
) -> Town:
    """A town from its OpenDRIVE file, from the cache where it has been read before.

    A cached town is known by the content of its file and the version of the reader; damaged or foreign cache
    files are replaced. Where the cache cannot be written, the town is read each time.

    Args:
        path: an ``.xodr`` or ``.xodr.gz`` file.
        lights: folder with files of light programmes (see `given_lights`); CARLA's default without.
        cache: folder of the cache; `default_cache` by default.
        must_store: whether it is an error that the cache cannot be written.

    Raises:
        FormatError: names the file and the record at fault.
        PerlsimError: where the cache cannot be written, with ``must_store``.
    """
    path = Path(path)
    stored, digest = cache_file(path, cache)
    label = f"perlsim town {SCHEMA} {digest}"
    town = read_arrays(stored, Town, label)
    if town is None:
        whole = opendrive.read(path)
        town = Town(whole, default_plan(whole), read_stations(path, whole.road.lanes))
        try:
            write_arrays(stored, town, label)
        except OSError as error:
            # A cache is a convenience: a full or read-only disk only costs time.
            if must_store:
                raise PerlsimError(f"the cache cannot be written: {error.strerror}", file=stored) from error
    given = None if lights is None else given_plan(town.map, lights)
    return town if given is None else replace(town, lights=given)


def town_at(place: Path, name: str) -> Path:
    """The OpenDRIVE file of a town in a folder: one of maps, or of a CARLA installation.

    Raises:
        PerlsimError: says where it was looked for.
    """
    # CARLA's towns with "_Opt" hold the same roads in layers.
    found = opendrive.find_town(place, name) or opendrive.find_town(place, name.removesuffix("_Opt"))
    if found is None:
        found = next(
            (path for path in list_towns(place) if _name(path) in (name, name.removesuffix("_Opt"))), None
        )
    if found is None:
        raise PerlsimError(
            f"no OpenDRIVE file of {name}", file=place, remedy="fetch CARLA's towns with: perlsim maps get"
        )
    return found


def list_towns(place: Path) -> list[Path]:
    """OpenDRIVE files of a file, a folder of maps or a CARLA installation, one for each town, by name."""
    place = Path(place)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise PerlsimError("no such file or folder", file=place)
    # A packaged CARLA holds its maps here; searching all of its 20 GB takes long.
    inside = [place / "CarlaUE4/Content/Carla/Maps", place / "Unreal/CarlaUE4/Content/Carla/Maps"]
    roots = [root for root in inside if root.is_dir()] or [place]
    found: dict[str, Path] = {}
    for root in roots:
        for ending in ("*.xodr", "*.xodr.gz"):
            for path in sorted(root.rglob(ending)):
                found.setdefault(_name(path), path)
    return [found[name] for name in sorted(found)]


def _name(path: Path) -> str:
    return path.name.split(".")[0]
