"""Draws the README's picture from embedded synthetic scenes.

Run as ``python docs/make_picture.py``; needs the extra ``docs``.
"""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, PolyCollection

from perlsim.readers.synthetic import generate
from perlsim.scenario import Scenario
from perlsim.vocabulary import AgentType, LightState, MarkingType

OUT = Path(__file__).parent / "images" / "scenes.png"
# Family, number of the scene in its family, and the step that is drawn.
SCENES = (("signalised_junction", 7, 100), ("roundabout", 19, 140), ("parked_street", 1, 70))
TITLES = {
    "signalised_junction": "signalised junction",
    "roundabout": "roundabout",
    "parked_street": "street with parked cars",
}
HALF_VIEW = 40.0  # m from the middle to the border of a picture
TRAIL = 20  # steps of the past that are drawn behind each road user

EGO, ROUTE = "#d1495b", "#e9a6ae"
COLOURS = {
    AgentType.VEHICLE: "#2e6f95",
    AgentType.BUS: "#2e6f95",
    AgentType.TRUCK: "#2e6f95",
    AgentType.PEDESTRIAN: "#7a5195",
    AgentType.CYCLIST: "#3f8f5b",
    AgentType.MOTORCYCLIST: "#3f8f5b",
}
LIGHTS = {LightState.RED: "#d62728", LightState.YELLOW: "#f2b134", LightState.GREEN: "#2ca02c"}


def draw(axes, scenario: Scenario, step: int) -> None:
    """Draws one step of a scene: map, lights, route, trails and boxes."""
    road = scenario.road
    for row in road.crosswalks.rows():
        axes.fill(*row[:, :2].T, color="#d9dde1", linewidth=0, zorder=1)
    solid = np.isin(road.markings.kind, (MarkingType.SOLID, MarkingType.DOUBLE_SOLID))
    painted = road.markings.kind != MarkingType.NONE
    lines = [row[:, :2] for row in road.markings.line.rows()]
    for which, style in ((painted & solid, "solid"), (painted & ~solid, (0, (6, 6)))):
        chosen = [lines[i] for i in np.flatnonzero(which)]
        axes.add_collection(LineCollection(chosen, colors="#a8b0b8", linewidths=0.8, linestyles=style))
    edges = [row[:, :2] for row in road.edges.rows()]
    axes.add_collection(LineCollection(edges, colors="#4a5058", linewidths=1.3))
    axes.plot(*scenario.route.points[:, :2].T, color=ROUTE, linewidth=5, solid_capstyle="round", zorder=2)
    for position, states in zip(scenario.lights.position, scenario.lights.state, strict=True):
        colour = LIGHTS.get(LightState(int(states[step])), "#888888")
        axes.plot(*position[:2], "o", color=colour, markersize=5, zorder=5)
    _draw_agents(axes, scenario, step)


def _draw_agents(axes, scenario: Scenario, step: int) -> None:
    tracks = scenario.tracks
    boxes, colours = [], []
    walking = tracks.kind == AgentType.PEDESTRIAN
    axes.plot(
        *tracks.position[walking & tracks.valid[:, step], step, :2].T,
        "o",
        color=COLOURS[AgentType.PEDESTRIAN],
        markersize=4,
        zorder=5,
    )
    for agent in np.flatnonzero(tracks.valid[:, step]):
        colour = (
            EGO if agent == scenario.ego.idx else COLOURS.get(AgentType(int(tracks.kind[agent])), "#777777")
        )
        past = slice(max(step - TRAIL, 0), step + 1)
        seen = tracks.valid[agent, past]
        axes.plot(
            *tracks.position[agent, past][seen, :2].T, color=colour, linewidth=1.2, alpha=0.45, zorder=3
        )
        boxes.append(_corners(tracks.position[agent, step], tracks.heading[agent, step], tracks.size[agent]))
        colours.append(colour)
    axes.add_collection(
        PolyCollection(boxes, facecolors=colours, edgecolors="white", linewidths=0.5, zorder=4)
    )


def _corners(position, heading, size) -> np.ndarray:
    """Corners of a box, with a pointed front: ``[5, 2]`` m."""
    shape = np.array([(-1, -1), (0.6, -1), (1, 0), (0.6, 1), (-1, 1)]) * size[:2] / 2
    cos, sin = np.cos(heading), np.sin(heading)
    return shape @ np.array([[cos, sin], [-sin, cos]]) + position[:2]


def _middle(scenario: Scenario, step: int) -> np.ndarray:
    """The junction's middle, the ego where there is none."""
    lanes = scenario.road.lanes
    inside = [lanes.centre[lane] for lane in np.flatnonzero(lanes.in_junction)]
    return np.concatenate(inside).mean(0) if inside else scenario.tracks.position[scenario.ego.idx, step]


def main() -> None:
    """Draws all scenes side by side."""
    figure, row = plt.subplots(1, len(SCENES), figsize=(12, 4.3))
    for axes, (family, number, step) in zip(row, SCENES, strict=True):
        *_, scenario = generate(number + 1, 0, [family])
        draw(axes, scenario, step)
        centre = _middle(scenario, step)
        axes.set(
            xlim=(centre[0] - HALF_VIEW, centre[0] + HALF_VIEW),
            ylim=(centre[1] - HALF_VIEW, centre[1] + HALF_VIEW),
            xticks=[],
            yticks=[],
            aspect="equal",
            facecolor="#f5f6f7",
        )
        axes.set_title(TITLES[family], fontsize=10)
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.tight_layout(pad=0.4)
    OUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUT, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
