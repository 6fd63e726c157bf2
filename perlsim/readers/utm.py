"""Longitude and latitude to UTM metres: transverse Mercator by Krüger's series, WGS 84.

Source: C. F. F. Karney, "Transverse Mercator with an accuracy of a few nanometers", J. Geodesy 85 (2011),
eqs. 7–9, 11 and 35, the series cut after the sixth order, which leaves less than a micrometre inside a zone.
"""

from __future__ import annotations

import numpy as np

from perlsim.scenario import Array

_AXIS = 6378137.0  # m, WGS 84
_FLATTENING = 1 / 298.257223563
_SCALE, _FALSE_EASTING, _FALSE_NORTHING = 0.9996, 500_000.0, 10_000_000.0

_N = _FLATTENING / (2 - _FLATTENING)
_E = np.sqrt(_FLATTENING * (2 - _FLATTENING))
_RECTIFYING = _AXIS / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64 + _N**6 / 256)
_ALPHA = (
    _N / 2 - 2 * _N**2 / 3 + 5 * _N**3 / 16 + 41 * _N**4 / 180 - 127 * _N**5 / 288 + 7891 * _N**6 / 37800,
    13 * _N**2 / 48 - 3 * _N**3 / 5 + 557 * _N**4 / 1440 + 281 * _N**5 / 630 - 1983433 * _N**6 / 1935360,
    61 * _N**3 / 240 - 103 * _N**4 / 140 + 15061 * _N**5 / 26880 + 167603 * _N**6 / 181440,
    49561 * _N**4 / 161280 - 179 * _N**5 / 168 + 6601661 * _N**6 / 7257600,
    34729 * _N**5 / 80640 - 3418889 * _N**6 / 1995840,
    212378941 * _N**6 / 319334400,
)


def to_utm(longitude_latitude: Array, zone: int, *, south: bool = False) -> Array:
    """Easting and northing ``[n, 2]`` m of longitudes and latitudes ``[n, 2]`` in degrees.

    Args:
        longitude_latitude: WGS 84, degrees.
        zone: UTM zone, 1 to 60.
        south: whether northings count from 10,000 km south of the equator (EPSG 327zz).
    """
    longitude, latitude = np.deg2rad(np.asarray(longitude_latitude, np.float64)).T
    longitude = longitude - np.deg2rad(6 * zone - 183)
    sine = np.sin(latitude)
    conformal = np.sinh(np.arctanh(sine) - _E * np.arctanh(_E * sine))
    xi = np.arctan2(conformal, np.cos(longitude))
    eta = np.arcsinh(np.sin(longitude) / np.hypot(conformal, np.cos(longitude)))
    order = 2 * np.arange(1, 7)[:, None]
    alpha = np.array(_ALPHA)[:, None]
    easting = eta + (alpha * np.cos(order * xi) * np.sinh(order * eta)).sum(0)
    northing = xi + (alpha * np.sin(order * xi) * np.cosh(order * eta)).sum(0)
    return np.stack(
        [
            _FALSE_EASTING + _SCALE * _RECTIFYING * easting,
            (_FALSE_NORTHING if south else 0.0) + _SCALE * _RECTIFYING * northing,
        ],
        axis=1,
    )
