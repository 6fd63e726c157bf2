"""Draws one moment of a scene with Matplotlib in the colours of the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from perlsim.scenario import Array, Ragged, Scenario
from perlsim.view.pack import gaps_between_lanes, lane_widths
from perlsim.vocabulary import AgentType, LightState, MarkingType

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIL = 2.0  # s of the past behind each road user
EDGE_STRIP = 3.4  # m beside an open border that is drawn as road
_POINTS_PER_INCH = 72
_DASH = (0, (5, 5))
_KINDS = {
    AgentType.UNKNOWN: "unknown",
    AgentType.VEHICLE: "vehicle",
    AgentType.PEDESTRIAN: "pedestrian",
    AgentType.CYCLIST: "cyclist",
    AgentType.MOTORCYCLIST: "motorcyclist",
    AgentType.BUS: "large",
    AgentType.TRUCK: "large",
    AgentType.STATIC: "static",
}
LIGHT_COLOURS = {
    LightState.UNKNOWN: "light-off",
    LightState.OFF: "light-off",
    LightState.GREEN: "light-green",
    LightState.YELLOW: "light-yellow",
    LightState.RED: "light-red",
    LightState.FLASHING_YELLOW: "light-yellow",
    LightState.FLASHING_RED: "light-red",
}


@cache
def palette() -> Mapping[str, str]:
    """Colours of the page's light theme, by name, for Matplotlib."""
    style = resources.files("perlsim.view").joinpath("assets", "style.css").read_text("utf-8")
    light = style[style.index(":root {") : style.index("}")]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-fA-F]{6,8});", light))


def kind_colours(scenario: Scenario) -> list[str]:
    """Colour of each road user ``[A]`` by its kind; the ego has its own."""
    names = [_KINDS[AgentType(kind)] for kind in scenario.tracks.kind.tolist()]
    if scenario.has_ego:
        names[scenario.ego.idx] = "ego"
    return [palette()[name] for name in names]


def draw_map(axes: Axes, scenario: Scenario, view: float) -> None:
    """Draws the road of a scene.

    Args:
        axes: square; made to show ``view`` metres, without ticks.
        scenario: the scene.
        view: m across.
    """
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection
    from matplotlib.path import Path as Outline

    colour, road = palette(), scenario.road
    axes.set(xticks=[], yticks=[], aspect="equal", facecolor=colour["ground"])
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    points = axes.get_window_extent().width / figure.dpi * _POINTS_PER_INCH / view  # to a metre

    def lines(rows: Sequence[Array], width: float | Array, name: str, order: float, **style) -> None:
        axes.add_collection(
            LineCollection(
                list(rows),
                colors=colour[name],
                linewidths=np.atleast_1d(width).tolist(),
                zorder=order,
                **style,
            ),
            autolim=False,
        )

    edges = _rows(road.edges)
    rings = [edge for edge in edges if len(edge) > 3 and np.allclose(edge[0], edge[-1], atol=0.05)]
    closed = len(rings) == len(edges) > 0
    surface = rings if closed else gaps_between_lanes(road)
    if surface:
        whole = Outline.make_compound_path(*(Outline(ring) for ring in surface))
        axes.add_collection(
            PathCollection([whole], facecolors=colour["road"], linewidths=0, zorder=0), autolim=False
        )
    if not closed:
        strips = [_beside(edge, EDGE_STRIP / 2) for edge in edges]
        lines(strips, EDGE_STRIP * points, "road", 0)
        lines(_rows(road.lanes.centre), (lane_widths(road) + 0.3) * points, "road", 0, capstyle="round")
        islands = [ring for ring in rings if not shapely.is_ccw(shapely.linearrings(ring))]
        axes.add_collection(PolyCollection(islands, facecolors=colour["ground"], zorder=0.5), autolim=False)
    axes.add_collection(
        PolyCollection(
            _rows(road.crosswalks), facecolors=colour["crosswalk"], linewidths=0, alpha=0.6, zorder=1
        ),
        autolim=False,
    )
    lines(_rows(road.lanes.centre), 0.5, "lane", 1.1)
    for rows, style in _marked(road.markings.line, road.markings.kind, 0.2):
        lines(rows, 0.8, "marking", 1.2, **style)
    lines(edges, 1.1, "edge", 1.3)
    stops = road.stop_signs.position[:, :2]
    axes.plot(*stops.T, "8", color=colour["stop-sign"], markeredgecolor="white", markersize=6, zorder=1.5)
    route = scenario.route.points[:, :2]
    axes.plot(*route.T, color=colour["route"], linewidth=2 * points, solid_capstyle="round", zorder=2)
    axes.set(xlim=(-view / 2, view / 2), ylim=(-view / 2, view / 2))


def draw_moment(
    axes: Axes, scenario: Scenario, step: int, extra: Mapping[str, Any], *, centre: Array | None = None
) -> list[Any]:
    """Draws what moves, and looks at the ego.

    Args:
        axes: prepared by `draw_map`.
        scenario: the scene.
        step: of its tracks.
        extra: a line of a run's ``rollouts/NAME.jsonl``; empty for a log.
        centre: ``[2]`` m to look at; the ego by default, or the middle of all where there is none.

    Returns:
        What was drawn, to be removed before the next moment.
    """
    from matplotlib.collections import LineCollection, PolyCollection

    colour, tracks = palette(), scenario.tracks
    drawn = _draw_lights(axes, scenario, step)
    seen = np.flatnonzero(tracks.valid[:, step])
    colours = [kind for kind, here in zip(kind_colours(scenario), tracks.valid[:, step], strict=True) if here]
    past = slice(max(step - round(TRAIL / scenario.dt), 0), step + 1)
    trails = [tracks.position[agent, past][tracks.valid[agent, past], :2] for agent in seen]
    trail = LineCollection(trails, colors=colours, linewidths=2, alpha=0.35, zorder=3)
    plan = [plan for plan in extra.get("plans") or () if plan["t"] <= step * scenario.dt + 1e-3][-1:]
    for one in plan:
        drawn += axes.plot(*np.asarray(one["path"]).T, color=colour["plan"], linewidth=2.5, zorder=4)
    poses = [(tracks.position[i, step], tracks.heading[i, step], tracks.size[i]) for i in seen]
    style = {"edgecolors": colour["outline"], "linewidths": 0.8, "zorder": 5}
    boxes = PolyCollection([_body(*pose) for pose in poses], facecolors=colours, **style)
    glass = [_windscreen(*pose) for pose in poses if pose[2][0] > 2.5]
    windscreens = PolyCollection(glass, facecolors=colour["glass"], zorder=5.1)
    for collection in (trail, boxes, windscreens):
        drawn.append(axes.add_collection(collection, autolim=False))
    x, y = _middle(scenario, step) if centre is None else centre
    half = np.ptp(axes.get_xlim()) / 2
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half))
    return drawn


def _draw_lights(axes: Axes, scenario: Scenario, step: int) -> list[Any]:
    from matplotlib.collections import LineCollection

    lights, colour = scenario.lights, palette()
    if not len(lights.position):
        return []
    widths = lane_widths(scenario.road, lights.lane_idx)
    across = np.stack([-np.sin(lights.heading), np.cos(lights.heading)], 1) * widths[:, None] * 0.42
    bars = np.stack([lights.position[:, :2] - across, lights.position[:, :2] + across], 1)
    states = [colour[LIGHT_COLOURS[LightState(int(state))]] for state in lights.state[:, step]]
    casing = LineCollection(
        list(bars), colors=colour["light-case"], linewidths=5.5, capstyle="round", zorder=2.4
    )
    lamps = LineCollection(list(bars), colors=states, linewidths=3.5, capstyle="round", zorder=2.5)
    return [axes.add_collection(one, autolim=False) for one in (casing, lamps)]


def _marked(line: Ragged, kinds: Array, gap: float) -> Iterator[tuple[list[Array], dict[str, Any]]]:
    """Lines to draw with their style; double lines lie ``gap`` m to both sides."""
    rows = _rows(line)
    # What lies on the left, in the middle and on the right of each kind of line.
    kinds_of = {
        MarkingType.UNKNOWN: ((0, {"alpha": 0.5}),),
        MarkingType.BROKEN: ((0, {"linestyles": _DASH}),),
        MarkingType.SOLID: ((0, {}),),
        MarkingType.DOUBLE_SOLID: ((gap, {}), (-gap, {})),
        MarkingType.DOUBLE_BROKEN: ((gap, {"linestyles": _DASH}), (-gap, {"linestyles": _DASH})),
        MarkingType.SOLID_BROKEN: ((gap, {}), (-gap, {"linestyles": _DASH})),
        MarkingType.BROKEN_SOLID: ((gap, {"linestyles": _DASH}), (-gap, {})),
    }
    for kind, parts in kinds_of.items():
        chosen = [rows[i] for i in np.flatnonzero(kinds == kind)]
        for distance, style in parts:
            yield [_beside(row, distance) for row in chosen], style


def _rows(lines: Ragged) -> list[Array]:
    return [row[:, :2] for row in lines.rows()]


def _beside(points: Array, distance: float) -> Array:
    """A line ``distance`` m to the left of another, ``[n, 2]`` m."""
    if not distance:
        return points
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    return points + distance * np.stack([-along[:, 1], along[:, 0]], 1)


def _body(position: Array, heading: float, size: Array) -> Array:
    """A box with round corners, a circle where it is square: outline ``[20, 2]`` m."""
    length, width = np.maximum(size[:2], 0.8) / 2
    radius = min(length, width) * (1.0 if length < 1.2 * width else 0.4)
    angles = np.linspace(0, np.pi / 2, 5)[None] + np.pi / 2 * np.arange(4)[:, None]
    middle = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * (length - radius, width - radius)
    shape = middle[:, None] + radius * np.stack([np.cos(angles), np.sin(angles)], -1)
    return _placed(shape.reshape(-1, 2), position, heading)


def _windscreen(position: Array, heading: float, size: Array) -> Array:
    """``[4, 2]`` m, near the front of a box; shows which way it heads."""
    length, width = size[:2] / 2
    front, back = length - min(0.9, 0.44 * length), length - min(1.65, 0.78 * length)
    shape = np.array(
        [(front, 0.8 * width), (back, 0.62 * width), (back, -0.62 * width), (front, -0.8 * width)]
    )
    return _placed(shape, position, heading)


def _placed(shape: Array, position: Array, heading: float) -> Array:
    cos, sin = np.cos(heading), np.sin(heading)
    return shape @ np.array([[cos, sin], [-sin, cos]]) + position[:2]


def _middle(scenario: Scenario, step: int) -> Array:
    """Where the ego is or was seen nearest in time; the middle of everybody where there is no ego."""
    tracks, ego = scenario.tracks, scenario.ego.idx
    if ego >= 0 and tracks.valid[ego].any():
        steps = np.flatnonzero(tracks.valid[ego])
        return tracks.position[ego, steps[np.argmin(np.abs(steps - step))], :2]
    seen = tracks.position[tracks.valid][:, :2]
    return seen.mean(0) if len(seen) else np.zeros(2)
