"""Argoverse 2 motion forecasting: a Parquet file of tracks and a map archive, 11 s at 10 Hz.

``scenario_<id>.parquet`` holds one row for each track and time step: position, heading and velocity in the
city frame; the data set's own vehicle is the track "AV". Boxes have no sizes (defaults by class are taken)
and no heights: each track stands on the nearest lane border of ``log_map_archive_<id>.json`` beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely

from perlsim.errors import FormatError
from perlsim.readers import ReadOptions
from perlsim.readers.arrow_tables import PARQUET_MAGIC, numbers, read_table, starts_with, texts
from perlsim.readers.av2_map import find_map, read_map
from perlsim.readers.av2_sensor import EGO_AXLE_TO_CENTRE, EGO_ID, EGO_SIZE, EGO_WHEELBASE, LICENCE
from perlsim.readers.finalize import finalize
from perlsim.scenario import Array, Ego, Scenario, Tracks
from perlsim.vocabulary import AgentType

DT = 0.1  # s
_MOST_STEPS = 10_000  # the data set has 110

_KINDS = {
    "vehicle": AgentType.VEHICLE,
    "pedestrian": AgentType.PEDESTRIAN,
    "motorcyclist": AgentType.MOTORCYCLIST,
    "cyclist": AgentType.CYCLIST,
    "bus": AgentType.BUS,
    "static": AgentType.STATIC,
    "construction": AgentType.STATIC,
    "riderless_bicycle": AgentType.CYCLIST,
    "background": AgentType.UNKNOWN,
    "unknown": AgentType.UNKNOWN,
}


def sniff(path: Path) -> bool:
    """Whether a file is a scenario's Parquet file, or a folder holds exactly one."""
    if path.is_dir():
        return len(list(path.glob("scenario_*.parquet"))) == 1
    return path.name.startswith("scenario_") and starts_with(path, PARQUET_MAGIC)


def read(path: Path, options: ReadOptions) -> Iterator[Scenario]:
    """Yields the one scenario of a folder or Parquet file.

    Raises:
        FormatError: where a file is missing or damaged.
    """
    file = path
    if path.is_dir():
        found = sorted(path.glob("scenario_*.parquet"))
        if len(found) != 1:
            raise FormatError(f"expected one scenario_*.parquet, found {len(found)}", file=path)
        file = found[0]
    table = read_table(file)
    city = set(texts(table, "city", file)) if "city" in table.column_names else {""}
    archive = read_map(find_map(file.parent))
    repairs: list[str] = []
    tracks = _tracks(table, file, archive.surface, repairs)
    ego = Ego()
    if EGO_ID in tracks.ids:
        ego = Ego(tracks.ids.index(EGO_ID), EGO_WHEELBASE, EGO_AXLE_TO_CENTRE)
        tracks.size[ego.idx] = EGO_SIZE
    identity = file.stem.removeprefix("scenario_")
    start = numbers(table, "start_timestamp", file)[0] if "start_timestamp" in table.column_names else 0.0
    yield finalize(
        Scenario(
            scenario_id=identity,
            source="av2_motion",
            dt=DT,
            tracks=tracks,
            ego=ego,
            road=archive.road,
            recording_id=identity,
            place=sorted(city)[0],
            dataset="argoverse2",
            licence=LICENCE,
            start_time=float(start) * 1e-9 if np.isfinite(start) else 0.0,
            source_file=file.name,
            repairs=tuple(repairs),
            missing=("stop_signs", "box_sizes", "heights"),
        )
    )


def _tracks(table: pa.Table, file: Path, surface: Array, repairs: list[str]) -> Tracks:
    step = numbers(table, "timestep", file, np.int64)
    if not len(step):
        raise FormatError("the table has no rows", file=file)
    if step.min() < 0 or step.max() >= _MOST_STEPS:
        raise FormatError(f"expected steps from 0 to {_MOST_STEPS - 1}", file=file, field="timestep")
    names, first, agent = np.unique(
        np.array(texts(table, "track_id", file), str), return_index=True, return_inverse=True
    )
    kinds = texts(table, "object_type", file)
    order = np.arange(len(step))[::-1]  # of repeated rows the first is written last, and stays
    shape = (len(names), int(step.max()) + 1)
    valid = np.zeros(shape, bool)
    valid[agent, step] = True
    if np.count_nonzero(valid) < len(step):
        count = len(step) - np.count_nonzero(valid)
        repairs.append(f"{count} rows repeated a track and step: the first of each was kept")

    def gathered(name: str) -> Array:
        values = np.full(shape, np.nan)
        values[agent[order], step[order]] = numbers(table, name, file)[order]
        return values

    x, y = gathered("position_x"), gathered("position_y")
    return Tracks(
        position=np.stack([x, y, _heights(x, y, surface)], axis=-1),
        heading=gathered("heading"),
        velocity=np.stack([gathered("velocity_x"), gathered("velocity_y")], axis=-1),
        size=np.full((len(names), 3), np.nan),
        kind=np.array([_KINDS.get(kinds[row], AgentType.UNKNOWN) for row in first], np.int8),
        valid=valid,
        ids=tuple(names.tolist()),
    )


def _heights(x: Array, y: Array, surface: Array) -> Array:
    """Height [m] of the map point nearest to each position; 0 where there is no map or no position."""
    heights = np.zeros_like(x)
    known = np.isfinite(x) & np.isfinite(y)
    if len(surface) and known.any():
        tree = shapely.STRtree([shapely.Point(point) for point in surface[:, :2]])
        heights[known] = surface[tree.nearest(shapely.points(x[known], y[known])), 2]
    return heights
