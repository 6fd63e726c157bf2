"""py123d 0.7 logs: the common form that nuPlan, NAVSIM, nuScenes, Waymo, PandaSet and others are converted
to.

A log is a folder of Arrow files, one for each kind of data; a msgpack map in each schema's metadata says what
the numbers mean:

- ``sync.arrow``: data set, place, log name and version of the format.
- ``ego_state_se3.arrow``: poses of the inertial unit; the metadata has the vehicle's size, wheelbase, and
  where the unit sees the box centre and the rear axle.
- ``box_detections_se3.arrow``: boxes for each time stamp: pose, size, label, track, velocity.
- ``traffic_light_detections.arrow``: status for lanes; traffic is taken to stop at the start of the lane
  (data sets with lights attach them to the lanes inside a junction).
- ``map.arrow``, or for maps of a whole city ``maps/<data set>/<data set>_<place>.arrow`` beside the folder
  ``logs`` (or under `ReadOptions.maps`): see `perlsim.readers.py123d_map`.

Long logs are cut into windows of at most `ReadOptions.window` seconds. All of it was read off files that
py123d 0.7.0 wrote; other versions are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions
from perlsim.readers.arrow_tables import read_table
from perlsim.readers.finalize import finalize
from perlsim.readers.py123d_log import BOXES_FILE, EGO_FILE, Py123dLog
from perlsim.readers.py123d_map import Py123dMap, metadata
from perlsim.readers.windows import windows
from perlsim.scenario import Road, Scenario, Tracks

_VERSIONS = "0.7."
_SYNC, _MAP = "sync.arrow", "map.arrow"
_MARGIN = 150.0  # m of a city's map that is kept around the ego's path

# Data set and licence by how py123d's names begin.
_DATASETS = {
    "av2": ("argoverse2", "CC BY-NC-SA 4.0"),
    "nuplan": ("nuplan", "CC BY-NC-SA 4.0"),
    "nuscenes": ("nuscenes", "CC BY-NC-SA 4.0"),
    "pandaset": ("pandaset", "CC BY 4.0"),
    "wod": ("waymo", "Waymo non-commercial"),
}


def sniff(path: Path) -> bool:
    """Whether a folder is a py123d log; of its files only ``sync.arrow`` stands for the log."""
    folder = path if path.is_dir() else path.parent
    if path.is_file() and path.name != _SYNC:
        return False
    return (folder / _SYNC).is_file() and ((folder / EGO_FILE).is_file() or (folder / BOXES_FILE).is_file())


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the windows of a log.

    Raises:
        FormatError: where a file is missing or damaged, or of another version of the format.
    """
    folder = path if path.is_dir() else path.parent
    about = _about(folder / _SYNC)
    log = Py123dLog(folder)
    road_map = _find_map(folder, about, options)
    dataset, licence = next(
        (entry for name, entry in _DATASETS.items() if about["dataset"].startswith(name)),
        (about["dataset"], ""),
    )
    for number, part in enumerate(windows(len(log.grid.times), log.grid.dt, options.window)):
        first, last = part.start, part.stop
        repairs: list[str] = []
        tracks, ego = log.tracks(first, last, repairs)
        missing: tuple[str, ...] = ()
        if road_map is not None and not road_map.has_heights:
            # Such a map lies at height 0, the poses perhaps on a hill: nothing would be on the road.
            tracks.position[..., 2] = 0.0
            missing = ("elevation",)
        road = _road(road_map, tracks)
        yield finalize(
            Scenario(
                scenario_id=f"{about['log_name']}_{number}",
                source="py123d",
                dt=log.grid.dt,
                tracks=tracks,
                ego=ego,
                lights=log.lights(first, last, road),
                road=road,
                recording_id=about["log_name"],
                place=about["location"],
                dataset=dataset,
                licence=licence,
                start_time=log.start + float(log.grid.times[first]),
                source_file=folder.name,
                repairs=tuple(repairs),
                missing=missing,
            )
        )


def _about(path: Path) -> dict[str, Any]:
    """The log's metadata, with text for data set, log name and location."""
    about = metadata(read_table(path), path)
    version = str(about.get("version"))
    if not version.startswith(_VERSIONS):
        raise FormatError(
            f"expected a log of py123d {_VERSIONS}x, found version {version}",
            file=path,
            field="version",
            remedy="convert the data set again with py123d 0.7.0",
        )
    for name in ("dataset", "log_name"):
        if not isinstance(about.get(name), str):
            raise FormatError("expected text", file=path, field=name)
    about["location"] = str(about.get("location") or "")
    return about


def _find_map(folder: Path, about: dict[str, Any], options: ReadOptions) -> Py123dMap | None:
    dataset = about["dataset"]
    if (folder / _MAP).is_file():
        return Py123dMap(folder / _MAP, is_whole=True, dataset=dataset)
    told = about.get("map_metadata")
    if not isinstance(told, dict):
        return None
    roots = [folder.parent.parent.parent / "maps"]
    if options.maps is not None:
        roots = [options.maps, options.maps / "maps", *roots]
    place = f"{told.get('dataset')}/{told.get('dataset')}_{told.get('location')}.arrow"
    found = [root / place for root in roots if (root / place).is_file()]
    if not found:
        raise FormatError(
            f"the log's map is neither {_MAP} in its folder nor {place}",
            file=folder,
            field="map_metadata",
            remedy="name the folder with py123d's maps with --maps",
        )
    return Py123dMap(found[0], is_whole=False, dataset=dataset)


def _road(road_map: Py123dMap | None, tracks: Tracks) -> Road:
    if road_map is None:
        return Road()
    seen = tracks.position[:1][tracks.valid[:1]]  # the ego is first; without one any road user will do
    seen = seen if len(seen) else tracks.position[tracks.valid]
    if not len(seen):
        return Road()
    return road_map.road(seen[:, :2].min(0) - _MARGIN, seen[:, :2].max(0) + _MARGIN)
