"""One logged scene on the host: numpy arrays, ragged, in SI units.

Frames. A reader may give a `Scenario` in the log's own world frame in float64; `perlsim.readers.finalize`
moves it into the *scenario frame*: x east or forward, y left (right-handed, z up), origin near the ego,
float32, with `origin` (float64) mapping back: ``xyz_world = xyz_scenario + origin``. Everything stored,
simulated or measured is in the scenario frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike

from perlsim.errors import FormatError
from perlsim.vocabulary import AgentType, LaneType, LightState, MarkingType

Array = np.ndarray


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one flat array: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        values: ``[N, ...]``.
        offsets: int64 ``[P + 1]``, non-decreasing, from 0 to N.
    """

    values: Array
    offsets: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Array:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @cached_property
    def bounds(self) -> Array:
        """``[P, 4]``: least x and y, greatest x and y of each row of points; of an empty row (∞, ∞, −∞, −∞)."""
        bounds = np.tile([np.inf, np.inf, -np.inf, -np.inf], (len(self), 1))
        filled = np.diff(self.offsets) > 0
        if filled.any():
            points, starts = self.values[:, :2], self.offsets[:-1][filled]
            bounds[filled, :2] = np.minimum.reduceat(points, starts)
            bounds[filled, 2:] = np.maximum.reduceat(points, starts)
        return bounds

    def rows(self) -> list[Array]:
        """All rows as a list of views."""
        return [self[row] for row in range(len(self))]

    @classmethod
    def from_rows(cls, rows, *, width: int | None = None, dtype: DTypeLike = np.float64) -> Ragged:
        """Packs a sequence of arrays ``[n_i, width]`` (or ``[n_i]`` where ``width`` is None)."""
        arrays = [np.asarray(row, dtype).reshape((-1,) if width is None else (-1, width)) for row in rows]
        offsets = np.zeros(len(arrays) + 1, np.int64)
        np.cumsum([len(row) for row in arrays], out=offsets[1:])
        empty = np.zeros((0,) if width is None else (0, width), dtype)
        return cls(np.concatenate([empty, *arrays]) if arrays else empty, offsets)


def _no_points() -> Ragged:
    return Ragged.from_rows([], width=3)


def _no_indices() -> Ragged:
    return Ragged.from_rows([], dtype=np.int32)


@dataclass(frozen=True)
class Tracks:
    """Road users over time, the ego among them.

    Attributes:
        position: ``[A, T, 3]`` m, centre of the box in x and y, *ground contact* in z.
        heading: ``[A, T]`` rad, counter-clockwise, in [−π, π).
        velocity: ``[A, T, 2]`` m/s in the same frame; NaN where the format has none (finalize fills it).
        size: ``[A, 3]`` m: length, width, height; NaN where the format has none (finalize fills it).
        kind: int8 ``[A]``, `AgentType`.
        valid: bool ``[A, T]``; values at invalid steps mean nothing (finalize sets them to 0).
        ids: the log's own names, unique, ``A`` of them.
    """

    position: Array
    heading: Array
    velocity: Array
    size: Array
    kind: Array
    valid: Array
    ids: tuple[str, ...]

    @property
    def num_agents(self) -> int:
        """Number of road users, A."""
        return self.position.shape[0]

    @property
    def num_steps(self) -> int:
        """Number of logged steps, T."""
        return self.position.shape[1]


@dataclass(frozen=True)
class Lanes:
    """Lane centre lines, in driving direction, as a graph.

    Attributes:
        centre: rows of ``[n, 3]`` m, at least two distinct points each.
        width: ``[N]`` m, full width at each centre point (parallel to ``centre.values``); NaN unknown.
        kind: int8 ``[P]``, `LaneType`.
        speed_limit: ``[P]`` m/s, NaN unknown.
        in_junction: bool ``[P]``.
        successors: rows of int32 lane indices.
        left, right: rows of int32 indices of neighbours in the *same* direction that may be changed into.
        ids: the map's own names, unique, ``P`` of them.
    """

    centre: Ragged = field(default_factory=_no_points)
    width: Array = field(default_factory=lambda: np.zeros(0))
    kind: Array = field(default_factory=lambda: np.zeros(0, np.int8))
    speed_limit: Array = field(default_factory=lambda: np.zeros(0))
    in_junction: Array = field(default_factory=lambda: np.zeros(0, bool))
    successors: Ragged = field(default_factory=_no_indices)
    left: Ragged = field(default_factory=_no_indices)
    right: Ragged = field(default_factory=_no_indices)
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.centre)


@dataclass(frozen=True)
class Markings:
    """Painted lines and unpainted lane borders.

    Attributes:
        line: rows of ``[n, 3]`` m.
        kind: int8 ``[P]``, `MarkingType`.
    """

    line: Ragged = field(default_factory=_no_points)
    kind: Array = field(default_factory=lambda: np.zeros(0, np.int8))


@dataclass(frozen=True)
class StopSigns:
    """Stop signs, each with the line at which to stop.

    Attributes:
        position: ``[S, 3]`` m, on the controlled lane where traffic has to stop.
        heading: ``[S]`` rad, direction of the traffic that stops; NaN unknown (finalize takes the lane's).
        lane_idx: int32 ``[S]``, controlled lane or −1. A sign that governs several lanes is several rows.
    """

    position: Array = field(default_factory=lambda: np.zeros((0, 3)))
    heading: Array = field(default_factory=lambda: np.zeros(0))
    lane_idx: Array = field(default_factory=lambda: np.zeros(0, np.int32))


@dataclass(frozen=True)
class Lights:
    """Traffic lights, one row per controlled lane.

    Attributes:
        position: ``[L, 3]`` m, where traffic on the lane has to stop.
        heading: ``[L]`` rad, direction of that traffic; NaN unknown (finalize takes the lane's).
        lane_idx: int32 ``[L]``, controlled lane or −1.
        state: int8 ``[L, T]``, `LightState`, at the steps of the tracks.
    """

    position: Array = field(default_factory=lambda: np.zeros((0, 3)))
    heading: Array = field(default_factory=lambda: np.zeros(0))
    lane_idx: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    state: Array = field(default_factory=lambda: np.zeros((0, 0), np.int8))


@dataclass(frozen=True)
class Road:
    """The static map of a scene.

    Attributes:
        lanes: lane graph.
        markings: lines between lanes.
        edges: rows of ``[n, 3]`` m, borders of the drivable area, **drivable on their left**; closed rings
            repeat their first point. This is the only representation of the drivable area: a reader whose
            format gives polygons turns them into rings (`perlsim.geometry.drivable.edges_from_polygons`).
        crosswalks: rows of ``[n, 3]`` m, polygons without the repeated first point.
        stop_signs: stop signs.
    """

    lanes: Lanes = field(default_factory=Lanes)
    markings: Markings = field(default_factory=Markings)
    edges: Ragged = field(default_factory=_no_points)
    crosswalks: Ragged = field(default_factory=_no_points)
    stop_signs: StopSigns = field(default_factory=StopSigns)


@dataclass(frozen=True)
class Ego:
    """Which road user is the ego, and its chassis.

    Attributes:
        idx: index into the tracks, −1 where the log has no ego.
        wheelbase: m; NaN unknown (finalize takes 0.6 × length).
        rear_axle_to_centre: m, how far the box centre lies ahead of the rear axle; NaN unknown
            (finalize takes half the wheelbase). Tracks always hold box centres: a reader of a format with
            rear-axle poses shifts them.
    """

    idx: int = -1
    wheelbase: float = float("nan")
    rear_axle_to_centre: float = float("nan")


@dataclass(frozen=True)
class Route:
    """Where the ego is to go: a polyline that starts at or before its first pose.

    Attributes:
        points: ``[R, 3]`` m, empty where there is no ego.
        lane_idx: int32 ``[R]``, lane under each point, −1 where it leaves the lane graph.
    """

    points: Array = field(default_factory=lambda: np.zeros((0, 3)))
    lane_idx: Array = field(default_factory=lambda: np.zeros(0, np.int32))


@dataclass(frozen=True)
class Scenario:
    """One logged scene.

    Attributes:
        scenario_id: unique name of the scene within its source.
        source: name of the reader (format) it came through.
        dt: s between logged steps, constant.
        tracks, ego, lights, road, route: see their types.
        origin: float64 ``[3]``; ``xyz_world = xyz_scenario + origin``.
        recording_id: the recording this scene is a window of; splits never cut through one.
        place: city or town, "" unknown.
        dataset: the data set ("waymo", "nuscenes", …), "" unknown.
        licence: licence of the data, "" unknown.
        start_time: s, time stamp of step 0 on the log's own clock.
        source_file: file name (no folder) the scene was read from.
        repairs: what was mended while reading, one plain sentence each.
        missing: what the format does not give, such as "lights", "lane_graph", "ego", "speed_limits".
        notes: what else is known of the scene, each as ``name: text``, such as "scenario: Accident".
    """

    scenario_id: str
    source: str
    dt: float
    tracks: Tracks
    ego: Ego = field(default_factory=Ego)
    lights: Lights = field(default_factory=Lights)
    road: Road = field(default_factory=Road)
    route: Route = field(default_factory=Route)
    origin: Array = field(default_factory=lambda: np.zeros(3))
    recording_id: str = ""
    place: str = ""
    dataset: str = ""
    licence: str = ""
    start_time: float = 0.0
    source_file: str = ""
    repairs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_ego(self) -> bool:
        """Whether the log names its ego."""
        return self.ego.idx >= 0

    @property
    def duration(self) -> float:
        """Seconds from the first to the last step."""
        return (self.tracks.num_steps - 1) * self.dt

    def replace(self, **changes) -> Scenario:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def validate(self) -> Scenario:
        """Checks every rule of these types that code downstream relies on.

        Returns:
            The scenario itself.

        Raises:
            FormatError: names the scenario, the field, what was expected and what was found.
        """
        _validate(self)
        return self


def _validate(scenario: Scenario) -> None:
    def need(condition, field_name: str, message: str) -> None:
        if not condition:
            raise FormatError(
                f"scenario {scenario.scenario_id}: {message}", file=scenario.source_file, field=field_name
            )

    def need_shape(array: Array, shape: tuple, field_name: str) -> None:
        need(array.shape == shape, field_name, f"expected shape {shape}, found {array.shape}")

    def need_finite(array: Array, field_name: str) -> None:
        need(np.isfinite(array).all(), field_name, "expected finite numbers, found NaN or infinity")

    def need_ragged(rows: Ragged, field_name: str, minimum: int) -> None:
        offsets = rows.offsets
        need(
            len(offsets) > 0
            and offsets[0] == 0
            and offsets[-1] == len(rows.values)
            and (np.diff(offsets) >= minimum).all(),
            field_name,
            f"expected offsets from 0 to {len(rows.values)} with at least {minimum} points a row",
        )

    def need_kind(values: Array, vocabulary, field_name: str) -> None:
        bad = set(np.unique(values).tolist()) - {int(v) for v in vocabulary}
        need(not bad, field_name, f"values {sorted(bad)} are not in {vocabulary.__name__}")

    def need_index(values: Array, count: int, field_name: str, lowest: int = 0) -> None:
        need(
            ((values >= lowest) & (values < count)).all(),
            field_name,
            f"expected indices in [{lowest}, {count})",
        )

    tracks, road, lights = scenario.tracks, scenario.road, scenario.lights
    need(
        np.isfinite(scenario.dt) and 0 < scenario.dt <= 10,
        "dt",
        f"expected 0 < dt <= 10 s, found {scenario.dt}",
    )
    need(tracks.position.ndim == 3, "tracks.position", f"expected [A, T, 3], found {tracks.position.shape}")
    count, steps = tracks.position.shape[:2]
    need(steps >= 1, "tracks", "expected at least one step, found none")
    need_shape(tracks.position, (count, steps, 3), "tracks.position")
    need_shape(tracks.heading, (count, steps), "tracks.heading")
    need_shape(tracks.velocity, (count, steps, 2), "tracks.velocity")
    need_shape(tracks.size, (count, 3), "tracks.size")
    need_shape(tracks.kind, (count,), "tracks.kind")
    need_shape(tracks.valid, (count, steps), "tracks.valid")
    need(len(tracks.ids) == count, "tracks.ids", f"expected {count} ids, found {len(tracks.ids)}")
    need(len(set(tracks.ids)) == count, "tracks.ids", "ids repeat")
    for name in ("position", "heading", "velocity", "size"):
        need_finite(getattr(tracks, name), f"tracks.{name}")
    need((tracks.size > 0).all(), "tracks.size", "expected positive sizes")
    need_kind(tracks.kind, AgentType, "tracks.kind")
    need(
        -1 <= scenario.ego.idx < count,
        "ego.idx",
        f"expected -1 or an index below {count}, found {scenario.ego.idx}",
    )

    lanes = road.lanes
    num_lanes = len(lanes)
    need_ragged(lanes.centre, "road.lanes.centre", 2)
    need_finite(lanes.centre.values, "road.lanes.centre")
    need_shape(lanes.width, (len(lanes.centre.values),), "road.lanes.width")
    for name in ("kind", "speed_limit", "in_junction"):
        need_shape(getattr(lanes, name), (num_lanes,), f"road.lanes.{name}")
    need_kind(lanes.kind, LaneType, "road.lanes.kind")
    for name in ("successors", "left", "right"):
        graph = getattr(lanes, name)
        need(len(graph) == num_lanes, f"road.lanes.{name}", f"expected {num_lanes} rows, found {len(graph)}")
        need_ragged(graph, f"road.lanes.{name}", 0)
        need_index(graph.values, num_lanes, f"road.lanes.{name}")
    need(len(set(lanes.ids)) == num_lanes, "road.lanes.ids", f"expected {num_lanes} unique ids")
    need_ragged(road.markings.line, "road.markings.line", 2)
    need_finite(road.markings.line.values, "road.markings.line")
    need_shape(road.markings.kind, (len(road.markings.line),), "road.markings.kind")
    need_kind(road.markings.kind, MarkingType, "road.markings.kind")
    for name, minimum in (("edges", 2), ("crosswalks", 3)):
        need_ragged(getattr(road, name), f"road.{name}", minimum)
        need_finite(getattr(road, name).values, f"road.{name}")

    for name, group in (("lights", lights), ("road.stop_signs", road.stop_signs)):
        rows = len(group.position)
        need_shape(group.position, (rows, 3), f"{name}.position")
        need_shape(group.heading, (rows,), f"{name}.heading")
        need_shape(group.lane_idx, (rows,), f"{name}.lane_idx")
        need_finite(group.position, f"{name}.position")
        need_finite(group.heading, f"{name}.heading")
        need_index(group.lane_idx, num_lanes, f"{name}.lane_idx", lowest=-1)
    if len(lights.position):
        need_shape(lights.state, (len(lights.position), steps), "lights.state")
        need_kind(lights.state, LightState, "lights.state")
    route = scenario.route
    need_shape(route.points, (len(route.points), 3), "route.points")
    need_finite(route.points, "route.points")
    need_shape(route.lane_idx, (len(route.points),), "route.lane_idx")
    need_index(route.lane_idx, num_lanes, "route.lane_idx", lowest=-1)
