"""How the surface of an OpenDRIVE road tilts and bulges across: superelevation and lateral shape."""

from __future__ import annotations

import numpy as np

from perlsim.worlds.opendrive.xml import Cubics, Element, child, children, number

Array = np.ndarray


class LateralProfile:
    """The cross-section of one road (1.4, 5.3.6).

    The cross-section turns about the reference line by the superelevation (positive: the left side is higher),
    and stands above that plane by the lateral shape, which is cubic across and linear along the road.

    Args:
        road: the ``road`` element.
    """

    def __init__(self, road: Element):
        profile = child(road, "lateralProfile")
        self.tilt = Cubics.from_elements(children(profile, "superelevation"))
        by_s: dict[float, list[Element]] = {}
        for element in children(profile, "shape"):
            by_s.setdefault(number(element, "s"), []).append(element)
        shapes = [(s, Cubics.from_elements(elements, "t")) for s, elements in sorted(by_s.items())]
        bulges = any(np.any(shape.coefficients) for _, shape in shapes)
        self._shapes = [shape for _, shape in shapes] if bulges else []
        self._at = np.array([s for s, _ in shapes] if bulges else [])
        self.is_flat = not bulges and not np.any(self.tilt.coefficients)

    @property
    def breaks(self) -> Array:
        """Where along the road its rule changes, m."""
        return np.concatenate([self.tilt.start, self._at])

    def offsets(self, s: Array, t: Array) -> tuple[Array, Array]:
        """Distance sideways from the reference line (left positive) and upwards of points on the surface.

        Args:
            s: ``[n]`` m along the road.
            t: ``[n]`` m across it, measured along the tilted plane.
        """
        if self.is_flat:
            return t, np.zeros_like(t)
        angle, height = self.tilt.at(s), self._height(s, t)
        cos, sin = np.cos(angle), np.sin(angle)
        return t * cos - height * sin, t * sin + height * cos

    def _height(self, s: Array, t: Array) -> Array:
        """Height [m] of the shape over the tilted plane."""
        if not len(self._at):
            return np.zeros_like(t)
        following = np.clip(np.searchsorted(self._at, s, side="right"), 1, max(len(self._at) - 1, 1))
        before, after = following - 1, np.minimum(following, len(self._at) - 1)
        gap = self._at[after] - self._at[before]
        share = np.clip((s - self._at[before]) / np.where(gap > 0, gap, 1.0), 0.0, 1.0)
        heights = np.zeros((2, len(s)))
        for side, owner in enumerate((before, after)):
            for shape_idx in np.unique(owner):
                rows = owner == shape_idx
                heights[side, rows] = self._shapes[shape_idx].at(t[rows])
        return (1 - share) * heights[0] + share * heights[1]
