"""One scenario as one row of an Arrow table, and back without copies.

Every array field of `perlsim.scenario.Scenario` is a list column named by its dotted path
(``tracks.position``); a `Ragged` field is two of them, ``….values`` and ``….offsets``. Lists hold the
flattened array, whose shape follows from the number of steps and the trailing axes below. Booleans are
stored as bytes, since Arrow packs them into bits, which cannot be mapped as a numpy array. Tuples of
strings are JSON arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

from perlsim.errors import FormatError
from perlsim.scenario import (
    Ego,
    Lanes,
    Lights,
    Markings,
    Ragged,
    Road,
    Route,
    Scenario,
    StopSigns,
    Tracks,
)

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Row = dict[str, Any]  # an encoded scenario: cell by column name
STEPS = -2  # stands for the number of logged steps in a trailing shape
MAX_COORDINATE = 65536.0  # m; beyond it the grid of float32 is coarser than 8 mm


@dataclass(frozen=True)
class ArrayColumn:
    """How one array field is stored: its dtype on disk and in memory, and the axes after the first."""

    dtype: DTypeLike
    trailing: tuple[int, ...] = ()

    @property
    def is_points(self) -> bool:
        """Whether each row is a list of triples."""
        return self.trailing == (3,)

    @property
    def has_steps(self) -> bool:
        """Whether the shape of a row depends on the number of steps."""
        return STEPS in self.trailing

    def shape(self, num_steps: int) -> tuple[int, ...]:
        """Shape to give to the flat list of one row."""
        return (-1, *(num_steps if axis == STEPS else axis for axis in self.trailing))


_F, _D, _I, _B, _L = np.float32, np.float64, np.int32, np.int8, np.int64
ARRAYS: dict[str, ArrayColumn] = {
    "tracks.position": ArrayColumn(_F, (STEPS, 3)),
    "tracks.heading": ArrayColumn(_F, (STEPS,)),
    "tracks.velocity": ArrayColumn(_F, (STEPS, 2)),
    "tracks.size": ArrayColumn(_F, (3,)),
    "tracks.kind": ArrayColumn(_B),
    "tracks.valid": ArrayColumn(np.bool_, (STEPS,)),
    "lights.position": ArrayColumn(_F, (3,)),
    "lights.heading": ArrayColumn(_F),
    "lights.lane_idx": ArrayColumn(_I),
    "lights.state": ArrayColumn(_B, (STEPS,)),
    "road.lanes.centre.values": ArrayColumn(_F, (3,)),
    "road.lanes.centre.offsets": ArrayColumn(_L),
    "road.lanes.width": ArrayColumn(_F),
    "road.lanes.kind": ArrayColumn(_B),
    "road.lanes.speed_limit": ArrayColumn(_F),
    "road.lanes.in_junction": ArrayColumn(np.bool_),
    "road.lanes.successors.values": ArrayColumn(_I),
    "road.lanes.successors.offsets": ArrayColumn(_L),
    "road.lanes.left.values": ArrayColumn(_I),
    "road.lanes.left.offsets": ArrayColumn(_L),
    "road.lanes.right.values": ArrayColumn(_I),
    "road.lanes.right.offsets": ArrayColumn(_L),
    "road.markings.line.values": ArrayColumn(_F, (3,)),
    "road.markings.line.offsets": ArrayColumn(_L),
    "road.markings.kind": ArrayColumn(_B),
    "road.edges.values": ArrayColumn(_F, (3,)),
    "road.edges.offsets": ArrayColumn(_L),
    "road.crosswalks.values": ArrayColumn(_F, (3,)),
    "road.crosswalks.offsets": ArrayColumn(_L),
    "road.stop_signs.position": ArrayColumn(_F, (3,)),
    "road.stop_signs.heading": ArrayColumn(_F),
    "road.stop_signs.lane_idx": ArrayColumn(_I),
    "route.points": ArrayColumn(_F, (3,)),
    "route.lane_idx": ArrayColumn(_I),
    "origin": ArrayColumn(_D),
}
TEXTS = ("scenario_id", "source", "recording_id", "place", "dataset", "licence", "source_file")
NUMBERS = ("dt", "start_time", "ego.wheelbase", "ego.rear_axle_to_centre")
TEXT_TUPLES = ("tracks.ids", "road.lanes.ids", "repairs", "missing", "notes")
LATER = ("notes",)  # columns that stores of schema version 1 lack
FINGERPRINT = "fingerprint"  # uint64, see perlsim.store.fingerprint

SCHEMA = pa.schema(
    [(name, pa.utf8()) for name in TEXTS]
    + [(name, pa.float64()) for name in NUMBERS]
    + [("ego.idx", pa.int32()), ("num_steps", pa.int32())]
    + [(name, pa.large_utf8()) for name in TEXT_TUPLES]
    + [
        (
            name,
            pa.large_list(pa.uint8() if column.dtype is np.bool_ else pa.from_numpy_dtype(column.dtype)),
        )
        for name, column in ARRAYS.items()
    ]
    + [(FINGERPRINT, pa.large_list(pa.uint64()))]
)
SCHEMA_1 = pa.schema([entry for entry in SCHEMA if entry.name not in LATER])


def encode_row(scenario: Scenario) -> Row:
    """The cells of one scenario: flat arrays in their stored dtype, strings and numbers.

    Raises:
        FormatError: where float64 coordinates would lose more than millimetres in float32.
    """
    row: Row = {name: attrgetter(name)(scenario) for name in (*TEXTS, *NUMBERS, "ego.idx")}
    row["num_steps"] = scenario.tracks.num_steps
    for name in TEXT_TUPLES:
        row[name] = orjson.dumps(attrgetter(name)(scenario)).decode()
    for name, column in ARRAYS.items():
        values = np.asarray(attrgetter(name)(scenario))
        if values.dtype == np.float64 and column.dtype is np.float32 and 3 in column.trailing:
            _check_in_range(scenario, name, values)
        flat = np.ascontiguousarray(values, column.dtype).reshape(-1)
        row[name] = flat.view(np.uint8) if column.dtype is np.bool_ else flat
    return row


def row_bytes(row: Row) -> int:
    """Size of the arrays of an encoded row in bytes."""
    return sum(cell.nbytes for cell in row.values() if isinstance(cell, np.ndarray))


def encode_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Packs encoded rows (each with its ``fingerprint``) into one record batch."""
    columns = []
    for schema_field in SCHEMA:
        cells = [row[schema_field.name] for row in rows]
        if not pa.types.is_large_list(schema_field.type):
            columns.append(pa.array(cells, schema_field.type))
            continue
        offsets = np.zeros(len(cells) + 1, np.int64)
        np.cumsum([len(cell) for cell in cells], out=offsets[1:])
        stored = schema_field.type.value_type
        values = pa.array(np.concatenate([np.zeros(0, stored.to_pandas_dtype()), *cells]), stored)
        columns.append(pa.LargeListArray.from_arrays(pa.array(offsets), values))
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class RowReader:
    """Gives the rows of a record batch as scenarios whose arrays are read-only views of the batch."""

    def __init__(self, batch: pa.RecordBatch):
        self._lists: dict[str, tuple[np.ndarray, list[int]]] = {}
        for name in (*ARRAYS, FINGERPRINT):
            column = batch.column(name)
            values = column.values.to_numpy(zero_copy_only=True)
            offsets = column.offsets.to_numpy(zero_copy_only=True)
            if name in ARRAYS and ARRAYS[name].dtype is np.bool_:
                values = values.view(np.bool_)
            if name in ARRAYS and ARRAYS[name].is_points:  # shaped here once instead of for each row
                values, offsets = values.reshape(-1, 3), offsets // 3
            self._lists[name] = (values, offsets.tolist())
        self._scalars = {name: batch.column(name).to_pylist() for name in (*TEXTS, *NUMBERS)}
        self._scalars |= {name: batch.column(name).to_pylist() for name in ("ego.idx", "num_steps")}
        self._tuples = {name: batch.column(name) for name in TEXT_TUPLES if name in batch.schema.names}
        self.num_rows = batch.num_rows

    def fingerprint(self, row: int) -> np.ndarray:
        """uint64 ``[K]``."""
        values, offsets = self._lists[FINGERPRINT]
        return values[offsets[row] : offsets[row + 1]]

    def scenario(self, row: int) -> Scenario:
        """The scenario in a row; its arrays must not be written to."""
        scalars = self._scalars
        num_steps = scalars["num_steps"][row]

        def array(name: str) -> np.ndarray:
            values, offsets = self._lists[name]
            flat = values[offsets[row] : offsets[row + 1]]
            return flat.reshape(ARRAYS[name].shape(num_steps)) if ARRAYS[name].has_steps else flat

        def ragged(name: str) -> Ragged:
            return Ragged(array(f"{name}.values"), array(f"{name}.offsets"))

        def texts(name: str) -> tuple[str, ...]:
            return tuple(orjson.loads(self._tuples[name][row].as_py())) if name in self._tuples else ()

        lanes = Lanes(
            centre=ragged("road.lanes.centre"),
            successors=ragged("road.lanes.successors"),
            left=ragged("road.lanes.left"),
            right=ragged("road.lanes.right"),
            ids=texts("road.lanes.ids"),
            **{name: array(f"road.lanes.{name}") for name in ("width", "kind", "speed_limit", "in_junction")},
        )
        track_names = ("position", "heading", "velocity", "size", "kind", "valid")
        light_names = ("position", "heading", "lane_idx", "state")
        return Scenario(
            **{name: scalars[name][row] for name in TEXTS},
            dt=scalars["dt"][row],
            start_time=scalars["start_time"][row],
            tracks=Tracks(**{name: array(f"tracks.{name}") for name in track_names}, ids=texts("tracks.ids")),
            ego=Ego(
                scalars["ego.idx"][row],
                scalars["ego.wheelbase"][row],
                scalars["ego.rear_axle_to_centre"][row],
            ),
            lights=Lights(**{name: array(f"lights.{name}") for name in light_names}),
            road=Road(
                lanes=lanes,
                markings=Markings(ragged("road.markings.line"), array("road.markings.kind")),
                edges=ragged("road.edges"),
                crosswalks=ragged("road.crosswalks"),
                stop_signs=StopSigns(*(array(f"road.stop_signs.{name}") for name in light_names[:3])),
            ),
            route=Route(array("route.points"), array("route.lane_idx")),
            origin=array("origin"),
            repairs=texts("repairs"),
            missing=texts("missing"),
            notes=texts("notes"),
        )


def _check_in_range(scenario: Scenario, name: str, values: np.ndarray) -> None:
    largest = np.abs(values).max(initial=0.0, where=np.isfinite(values))
    if largest > MAX_COORDINATE:
        raise FormatError(
            f"scenario {scenario.scenario_id}: {largest:.0f} m is too far from the origin for float32",
            file=scenario.source_file,
            field=name,
            remedy="pass the scenario through perlsim.readers.finalize.finalize first",
        )
