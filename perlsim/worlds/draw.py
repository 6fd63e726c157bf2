"""A drawing of a town as SVG: surfaces, paint, crosswalks, stop lines, lights and signs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import shapely

from perlsim.scenario import Array
from perlsim.vocabulary import MarkingType
from perlsim.worlds.opendrive import OpenDriveMap, SignalKind

_DETAIL = 0.0005  # of the larger side of the drawing: finer bends are left out
_BROKEN = (MarkingType.BROKEN, MarkingType.DOUBLE_BROKEN)
# Markers, fill and radius [m] by signal.
_MARKERS = {SignalKind.LIGHT: "light", SignalKind.STOP: "stop", SignalKind.YIELD: "yield"}
_STYLE = """
svg { background: #e9ece4 }
.surface { fill: #8d9096; stroke: #8d9096; stroke-width: .1 }
.junction { fill: none; stroke: #c9ccd2; stroke-width: .25 }
.lane { fill: none; stroke: #6f757e; stroke-width: .15 }
.solid { fill: none; stroke: #fff; stroke-width: .2 }
.broken { fill: none; stroke: #fff; stroke-width: .2; stroke-dasharray: 3 4 }
.crosswalk { fill: #fff; fill-opacity: .6 }
.line { fill: none; stroke: #fff; stroke-width: .5 }
.light { fill: #1f9d55 } .stop { fill: #c0392b } .yield { fill: #e6a700 }
text { font-family: sans-serif; fill: #333 }
"""


def draw_town(town: OpenDriveMap) -> str:
    """The town as an SVG document: 1 unit is 1 m, north is up.

    Args:
        town: any map, whole or cropped.
    """
    points = (
        town.surfaces.values[:, :2] if len(town.surfaces.values) else town.road.lanes.centre.values[:, :2]
    )
    low, high = points.min(0) - 10.0, points.max(0) + 10.0
    detail = max(float((high - low).max()) * _DETAIL, 0.02)
    lanes, markings = town.road.lanes, town.road.markings
    inside = lanes.in_junction
    rows = markings.line.rows()
    broken = [row for row, kind in zip(rows, markings.kind, strict=True) if kind in _BROKEN]
    skipped = (*_BROKEN, MarkingType.NONE)
    solid = [row for row, kind in zip(rows, markings.kind, strict=True) if kind not in skipped]
    centres = lanes.centre.rows()
    parts = [
        _path("surface", town.surfaces.rows(), detail, closed=True),
        _path("lane", (row for row, at in zip(centres, inside, strict=True) if not at), detail),
        _path("junction", (row for row, at in zip(centres, inside, strict=True) if at), detail),
        _path("solid", solid, detail),
        _path("broken", broken, detail),
        _path("crosswalk", town.road.crosswalks.rows(), detail, closed=True),
        _path("line", town.stop_lines.rows(), detail),
        _signals(town),
    ]
    width, height = high - low
    view = f"{low[0]:.1f} {-high[1]:.1f} {width:.1f} {height:.1f}"
    size = 0.02 * float(max(width, height))
    label = f"{town.name}, {width:.0f} m × {height:.0f} m"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" width="1600"><style>{_STYLE}</style>'
        f'<g transform="scale(1 -1)">{"".join(parts)}</g>'
        f'<text x="{low[0] + size:.1f}" y="{-high[1] + 1.5 * size:.1f}" font-size="{size:.1f}">{_text(label)}</text>'
        "</svg>\n"
    )


def _path(name: str, rows: Iterable[Array], detail: float, *, closed: bool = False) -> str:
    """One path of all rows."""
    lines = [shapely.LineString(row[:, :2]) for row in rows]
    if not lines:
        return ""
    simple = shapely.simplify(lines, detail, preserve_topology=False)
    pieces = []
    for line in simple:
        coordinates = np.round(shapely.get_coordinates(line), 2)
        pieces.append("M" + "L".join(f"{x:g} {y:g}" for x, y in coordinates) + ("z" if closed else ""))
    return f'<path class="{name}" d="{"".join(pieces)}"/>'


def _signals(town: OpenDriveMap) -> str:
    """A dot where each light and sign stops traffic."""
    signals = town.signals
    dots = {
        (_MARKERS[SignalKind(int(kind))], round(float(x), 1), round(float(y), 1))
        for kind, (x, y) in zip(signals.kind[signals.lane_signal_idx], signals.stop[:, :2], strict=True)
        if int(kind) in _MARKERS
    }
    return "".join(f'<circle class="{name}" cx="{x}" cy="{y}" r="1"/>' for name, x, y in sorted(dots))


def _text(label: str) -> str:
    return label.replace("&", "&amp;").replace("<", "&lt;")
