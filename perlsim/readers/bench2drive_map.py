"""Bench2Drive's HD maps (``TownXX_HD_map.npz``): lanes, markings and trigger volumes of a CARLA town.

Content (tools/gen_hdmap.py of the public repository): ``arr``, an object array of (road id, {lane id:
[line, ...], "Trigger_Volumes": [volume, ...]}). A line has ``Points`` (location, rotation[, is junction])
every 5 cm, ``Type`` ("Center" or the paint) and, for centres, ``Topology`` (road and lane ids ahead),
``Left`` and ``Right``. A volume has ``Points``, ``Type`` ("StopSign" or "TrafficLight") and
``ParentActor_Location``. Left-handed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from perlsim.errors import FormatError
from perlsim.geometry.drivable import edges_from_centre_lines
from perlsim.geometry.polylines import headings, project, simplify
from perlsim.readers import safe_pickle
from perlsim.readers.carla_names import right_handed
from perlsim.scenario import Array, Lanes, Markings, Ragged, Road, StopSigns
from perlsim.vocabulary import LaneType, MarkingType
from perlsim.worlds.opendrive import SignalKind, Signals

_STRIDE = 10  # points of 5 cm: half a metre, before simplification to 1 cm
_JOINED = 1.0  # m, farthest start of a lane that follows
_MARKINGS = {
    "Broken": MarkingType.BROKEN,
    "BottsDots": MarkingType.BROKEN,
    "Solid": MarkingType.SOLID,
    "SolidSolid": MarkingType.DOUBLE_SOLID,
    "BrokenBroken": MarkingType.DOUBLE_BROKEN,
    "SolidBroken": MarkingType.SOLID_BROKEN,
    "BrokenSolid": MarkingType.BROKEN_SOLID,
    "NONE": MarkingType.NONE,
    "Other": MarkingType.UNKNOWN,
}


@dataclass(frozen=True)
class HdMap:
    """A town: its road (without edges; they are worked out for a cropped part) and its lights."""

    road: Road
    signals: Signals

    def with_edges(self, road: Road) -> Road:
        """A cropped road with the borders of its lanes, the only drivable surface the format knows."""
        lanes = road.lanes
        widths = [
            lanes.width[a:b] for a, b in zip(lanes.centre.offsets[:-1], lanes.centre.offsets[1:], strict=True)
        ]
        return replace(road, edges=edges_from_centre_lines(lanes.centre.rows(), widths))


@dataclass
class _Lane:
    road: int
    lane: int
    centre: Array
    in_junction: bool
    width: float
    ahead: list[tuple[int, int]]
    beside: tuple[tuple[int, int] | None, tuple[int, int] | None]


def find_hd_map(folders: list[Path | None], town: str) -> Path | None:
    """``<town>_HD_map.npz`` in one of the folders or a sub-folder of it."""
    for folder in folders:
        if folder is not None and town:
            for pattern in ("", "*/"):
                found = sorted(Path(folder).glob(f"{pattern}{town}_HD_map.npz"))
                if found:
                    return found[0]
    return None


@lru_cache(maxsize=2)
def read_hd_map(path: Path) -> HdMap:
    """Reads a town.

    Raises:
        FormatError: names the file and the road at fault; pickled objects are never executed.
    """
    content = safe_pickle.load_npz(path)
    if "arr" not in content:
        raise FormatError(
            f"expected the array arr, found {', '.join(content) or 'none'}", file=path, field="arr"
        )
    lanes: list[_Lane] = []
    lines: list[tuple[Array, MarkingType]] = []
    volumes: list[tuple[str, Array, Array]] = []
    for row in np.asarray(content["arr"], object).reshape(-1, 2):
        try:
            _road(row[0], row[1], lanes, lines, volumes)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
            raise FormatError(
                f"not as the schema has it: {error}", file=path, field=f"road {row[0]!s:.40}"
            ) from error
    if not lanes:
        raise FormatError("no lanes", file=path, field="arr")
    graph = _graph(lanes)
    markings = Markings(
        Ragged.from_rows([line for line, _ in lines], width=3), np.array([kind for _, kind in lines], np.int8)
    )
    stops = [_place(graph, points.mean(0)) for kind, points, _ in volumes if kind == "StopSign"]
    signs = StopSigns(
        np.array([p for p, _, _ in stops]).reshape(-1, 3),
        np.array([h for _, h, _ in stops], np.float64),
        np.array([i for _, _, i in stops], np.int32),
    )
    return HdMap(Road(graph, markings, stop_signs=signs), _lights(graph, volumes))


def _road(road_id, road: dict, lanes: list, lines: list, volumes: list) -> None:
    road_id, seen = int(road_id), set()
    for lane_id, entries in road.items():
        if lane_id == "Trigger_Volumes":
            volumes += [
                (str(e["Type"]), _points(e["Points"]), _points([e["ParentActor_Location"]])[0])
                for e in entries
            ]
            continue
        paints = []
        for entry in entries:
            if entry["Type"] != "Center":
                kind = _MARKINGS.get(str(entry["Type"]))
                paint = _thinned(_points([point[0] for point in entry["Points"]]))
                paints.append(paint)
                # Curbs and grass are no paint.
                if kind is not None and len(paint) > 1:
                    lines.append((paint, kind))
        for entry in entries:
            if entry["Type"] != "Center" or len(entry["Points"]) < 2:
                continue
            centre = _thinned(_points([point[0] for point in entry["Points"]]))
            ends = tuple(np.round([*centre[0], *centre[-1]], 1))
            # A lane with several lanes ahead is listed once for each of them.
            if len(centre) > 1 and ends not in seen:
                seen.add(ends)
                in_junction = any(len(point) > 2 and bool(point[2]) for point in entry["Points"])
                ahead = [(int(a[0]), int(a[1])) for a in entry["Topology"] if a is not None]
                beside = (_neighbour(entry.get("Left")), _neighbour(entry.get("Right")))
                lanes.append(
                    _Lane(road_id, int(lane_id), centre, in_junction, _width(centre, paints), ahead, beside)
                )


def _points(values) -> Array:
    points = np.array(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError("expected points of three finite numbers")
    return right_handed(points)


def _thinned(points: Array) -> Array:
    kept = np.unique([*range(0, len(points), _STRIDE), len(points) - 1])
    return points[kept][simplify(points[kept], 0.01)] if len(kept) > 1 else points


def _neighbour(ids) -> tuple[int, int] | None:
    return None if ids is None or ids[0] is None else (int(ids[0]), int(ids[1]))


def _width(centre: Array, paints: list[Array]) -> float:
    """Twice the distance of the lane's own border lines, which lie half a width aside; NaN without any."""
    beside = [project(centre, paint[len(paint) // 2][None]).distance[0] for paint in paints if len(paint)]
    return float(2 * np.median(beside)) if beside else float("nan")


def _graph(lanes: list[_Lane]) -> Lanes:
    by_id: dict[tuple[int, int], list[int]] = {}
    for idx, lane in enumerate(lanes):
        by_id.setdefault((lane.road, lane.lane), []).append(idx)

    def following(idx: int) -> list[int]:
        lane = lanes[idx]
        others = {o for key in (*lane.ahead, (lane.road, lane.lane)) for o in by_id.get(key, ()) if o != idx}
        return sorted(o for o in others if np.linalg.norm(lanes[o].centre[0] - lane.centre[-1]) < _JOINED)

    def beside(idx: int, side: int) -> list[int]:
        lane, key = lanes[idx], lanes[idx].beside[side]
        if key is None or key[0] != lane.road or key[1] * lane.lane <= 0:
            return []
        end = lane.centre[-1][None]
        near = [(project(lanes[o].centre, end).distance[0], o) for o in by_id.get(key, ())]
        return [min(near)[1]] if near else []

    return Lanes(
        centre=Ragged.from_rows([lane.centre for lane in lanes], width=3),
        width=np.concatenate([np.full(len(lane.centre), lane.width) for lane in lanes]),
        kind=np.full(len(lanes), LaneType.DRIVING, np.int8),
        speed_limit=np.full(len(lanes), np.nan),
        in_junction=np.array([lane.in_junction for lane in lanes]),
        successors=Ragged.from_rows([following(i) for i in range(len(lanes))], dtype=np.int32),
        left=Ragged.from_rows([beside(i, 0) for i in range(len(lanes))], dtype=np.int32),
        right=Ragged.from_rows([beside(i, 1) for i in range(len(lanes))], dtype=np.int32),
        ids=tuple(
            f"{lane.road}.{lane.lane}.{by_id[lane.road, lane.lane].index(i)}" for i, lane in enumerate(lanes)
        ),
    )


def _place(graph: Lanes, point: Array) -> tuple[Array, float, int]:
    """The nearest point on a lane, its heading and the lane."""
    gap = np.linalg.norm(graph.centre.values[:, :2] - point[:2], axis=1) + np.abs(
        graph.centre.values[:, 2] - point[2]
    )
    owner = np.repeat(np.arange(len(graph)), np.diff(graph.centre.offsets))
    # Points lie up to tens of metres apart on straights: ask every lane with a point among the nearest.
    candidates = np.unique(owner[np.argsort(gap)[:40]])
    found = []
    for lane in candidates:
        line = graph.centre[lane]
        nearest = project(line, point[None])
        segment = int(nearest.segment[0])
        a, b = line[segment], line[segment + 1]
        share = np.clip((point[:2] - a[:2]) @ (b - a)[:2] / max((b - a)[:2] @ (b - a)[:2], 1e-9), 0, 1)
        found.append(
            (float(nearest.distance[0]), int(lane), a + share * (b - a), float(headings(line)[segment]))
        )
    _, lane, on_lane, heading = min(found, key=lambda entry: entry[:2])
    return on_lane, heading, lane


def _lights(graph: Lanes, volumes: list[tuple[str, Array, Array]]) -> Signals:
    """Light volumes: their first points are pairs left and right of each lane that enters the junction."""
    lights = [(points, actor) for kind, points, actor in volumes if kind == "TrafficLight"]
    if not lights:
        return Signals()
    signal_idx, places = [], []
    for idx, (points, _) in enumerate(lights):
        pairs = max(-(-len(points) // 4), 1)
        for pair in range(pairs):
            signal_idx.append(idx)
            places.append(_place(graph, points[2 * pair : 2 * pair + 2].mean(0)))
    return Signals(
        ids=tuple(str(i) for i in range(len(lights))),
        kind=np.full(len(lights), SignalKind.LIGHT, np.int8),
        position=np.array([actor for _, actor in lights]),
        lane_signal_idx=np.array(signal_idx, np.int32),
        lane_idx=np.array([lane for _, _, lane in places], np.int32),
        stop=np.array([point for point, _, _ in places]),
        heading=np.array([heading for _, heading, _ in places]),
    )
