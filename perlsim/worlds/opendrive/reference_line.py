"""The reference line of an OpenDRIVE road: plan-view geometry records, evaluated in vectors.

Records: line, arc, spiral (Euler spiral, curvature linear in arc length), poly3 and paramPoly3
(ASAM OpenDRIVE 1.4, chapter 5.3.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perlsim.errors import FormatError
from perlsim.worlds.opendrive.xml import Element, child, children, number

Array = np.ndarray
# Shape function: distance along the record [m] to u, v and their derivatives, in the record's own frame.
Shape = Callable[[Array], tuple[Array, Array, Array, Array]]

# 32 Gauss-Legendre nodes integrate a spiral that turns by 4 pi to 1e-12 relative.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


@dataclass(frozen=True)
class Piece:
    """One geometry record: start ``s``, pose there, shape, length and largest curvature [1/m]."""

    s: float
    x: float
    y: float
    heading: float
    length: float
    shape: Shape
    max_curvature: float


def _arc(curvature: float) -> Shape:
    def shape(ds: Array):
        if abs(curvature) < 1e-12:
            return ds, np.zeros_like(ds), np.ones_like(ds), np.zeros_like(ds)
        turn = curvature * ds
        # 1 - cos as 2 sin^2(/2): no cancellation on large radii.
        return np.sin(turn) / curvature, 2 * np.sin(turn / 2) ** 2 / curvature, np.cos(turn), np.sin(turn)

    return shape


def _spiral(start: float, end: float, length: float) -> Shape:
    rate = (end - start) / length

    def shape(ds: Array):
        nodes = ds[:, None] * (0.5 + 0.5 * _NODES)
        turn = nodes * (start + 0.5 * rate * nodes)
        half = 0.5 * ds
        last = ds * (start + 0.5 * rate * ds)
        u, v = half * (np.cos(turn) @ _WEIGHTS), half * (np.sin(turn) @ _WEIGHTS)
        return u, v, np.cos(last), np.sin(last)

    return shape


def _param_poly3(u_of: Array, v_of: Array, scale: float) -> Shape:
    """Cubics in ``p = ds / scale``; coefficients in ascending powers."""
    u_poly, v_poly = np.polynomial.Polynomial(u_of), np.polynomial.Polynomial(v_of)
    du_poly, dv_poly = u_poly.deriv(), v_poly.deriv()

    def shape(ds: Array):
        p = ds / scale
        return u_poly(p), v_poly(p), du_poly(p) / scale, dv_poly(p) / scale

    return shape


def _poly3(v_of: Array, length: float) -> Shape:
    """v as a cubic in u. The distance along the curve is inverted through a table of arc length."""
    v_poly = np.polynomial.Polynomial(v_of)
    dv_poly = v_poly.deriv()
    u_grid = np.linspace(0.0, length, 513)
    middle = 0.5 * (u_grid[1:] + u_grid[:-1])
    half = 0.5 * (u_grid[1] - u_grid[0])
    speed = np.sqrt(1 + dv_poly(middle[:, None] + half * _NODES) ** 2) @ _WEIGHTS * half
    arc_length = np.concatenate([[0.0], np.cumsum(speed)])

    def shape(ds: Array):
        u = np.interp(ds, arc_length, u_grid)
        slope = dv_poly(u)
        norm = np.sqrt(1 + slope**2)
        return u, v_poly(u), 1 / norm, slope / norm

    return shape


def _bend(shape: Shape, length: float) -> float:
    """Largest curvature [1/m] of a polynomial record, from 65 headings."""
    ds = np.linspace(0.0, length, 65)
    _, _, du, dv = shape(ds)
    heading = np.unwrap(np.arctan2(dv, du))
    return float(np.abs(np.diff(heading)).max() / (ds[1] - ds[0]))


def _piece(element: Element) -> Piece:
    length = number(element, "length")
    kind = next((c for c in element.iterchildren("{*}*") if "userData" not in str(c.tag)), None)
    name = None if kind is None else str(kind.tag).rpartition("}")[2]
    if kind is None or name == "line":
        shape, bend = _arc(0.0), 0.0
    elif name == "arc":
        bend = number(kind, "curvature")
        shape = _arc(bend)
    elif name == "spiral":
        start, end = number(kind, "curvStart"), number(kind, "curvEnd")
        shape, bend = _spiral(start, end, max(length, 1e-9)), max(abs(start), abs(end))
    elif name == "poly3":
        shape = _poly3(np.array([number(kind, key) for key in "abcd"]), max(length, 1e-9))
        bend = _bend(shape, max(length, 1e-9))
    elif name == "paramPoly3":
        u = np.array([number(kind, f"{key}U") for key in "abcd"])
        v = np.array([number(kind, f"{key}V") for key in "abcd"])
        # Without pRange the parameter is normalised (version 1.4, table of paramPoly3).
        scale = 1.0 if kind.get("pRange") == "arcLength" else max(length, 1e-9)
        shape = _param_poly3(u, v, scale)
        bend = _bend(shape, max(length, 1e-9))
    else:
        raise FormatError(f"unknown geometry {name!r}", field=element.getroottree().getpath(element))
    pose = (number(element, "s"), number(element, "x"), number(element, "y"), number(element, "hdg"))
    return Piece(*pose, length, shape, abs(bend))


class ReferenceLine:
    """The plan view of one road.

    Args:
        road: the ``road`` element.

    Raises:
        FormatError: where a record is unknown or lacks a number, or there is none.
    """

    def __init__(self, road: Element):
        records = children(child(road, "planView"), "geometry")
        self.pieces = sorted((_piece(record) for record in records), key=lambda piece: piece.s)
        if not self.pieces:
            raise FormatError("a road without geometry", field=f"road {road.get('id')}")
        self.start = np.array([piece.s for piece in self.pieces])
        self.max_curvature = np.array([piece.max_curvature for piece in self.pieces])

    def piece_at(self, s: Array) -> Array:
        """Index of the record under each ``s``."""
        return np.maximum(np.searchsorted(self.start, s, side="right") - 1, 0)

    def at(self, s: Array) -> tuple[Array, Array]:
        """Points ``[n, 2]`` m and headings ``[n]`` rad at ``s`` (m, ascending or not)."""
        xy, heading = np.empty((len(s), 2)), np.empty(len(s))
        owner = self.piece_at(s)
        for idx in np.unique(owner):
            piece, rows = self.pieces[idx], owner == idx
            u, v, du, dv = piece.shape(np.maximum(s[rows] - piece.s, 0.0))
            cos, sin = np.cos(piece.heading), np.sin(piece.heading)
            xy[rows, 0] = piece.x + cos * u - sin * v
            xy[rows, 1] = piece.y + sin * u + cos * v
            heading[rows] = piece.heading + np.arctan2(dv, du)
        return xy, heading
