"""How likely the log is under what was simulated: histograms of each road user's simulated values.

Montali et al. (2023), "The Waymo Open Sim Agents Challenge", section 4, with its *independent time steps*: the
values of all steps and rollouts of one road user make one histogram, whose smoothed shares are the probabilities of its
logged values.
"""

from __future__ import annotations

import numpy as np

from perlsim.metrics.realism.settings import Feature

Array = np.ndarray


def log_likelihoods(feature: Feature, logged: Array, simulated: Array, weights: Array) -> Array:
    """Log probabilities of logged values, float64 ``[N, A]``, NaN where the log has no value.

    Args:
        feature: bins and smoothing.
        logged: ``[N, A]``, N values of each road user; NaN unknown.
        simulated: ``[R, M, A]``, M values of each in R rollouts; NaN values do not count.
        weights: ``[R]``, how many rollouts each of the R stands for.
    """
    num_agents = logged.shape[1]
    bins = _bin_of(feature, simulated)
    known = np.isfinite(simulated)
    weight = np.broadcast_to(weights[:, None, None], simulated.shape)[known]
    cell = (np.arange(num_agents) * feature.num_bins + bins)[known]
    counts = np.bincount(cell, weight, minlength=num_agents * feature.num_bins)
    counts = counts.reshape(num_agents, feature.num_bins) + feature.smoothing
    log_shares = np.log(counts / counts.sum(1, keepdims=True))
    found = log_shares[np.arange(num_agents), _bin_of(feature, logged)]
    return np.where(np.isfinite(logged), found, np.nan)


def _bin_of(feature: Feature, values: Array) -> Array:
    """Indices of the half-open bins; values out of range are in the end bins, unknown ones in the first."""
    place = (np.nan_to_num(values, nan=feature.low).astype(np.float64) - feature.low) / (
        feature.high - feature.low
    )
    return np.clip(np.floor(place * feature.num_bins), 0, feature.num_bins - 1).astype(np.int64)


def once(values: Array, counted: Array) -> Array:
    """Whether an indicator was ever set at a counted step, 0 or 1, NaN where no step counts.

    Args:
        values: ``[..., H, A]``, 0 or 1, NaN unknown.
        counted: bool ``[H, A]``.

    Returns:
        ``[..., 1, A]``.
    """
    ever = (counted & (values > 0)).any(-2, keepdims=True)
    unknown = ~(counted & np.isfinite(values)).any(-2, keepdims=True)
    return np.where(unknown, np.nan, ever)
