"""Means with confidence intervals over scenes that come in clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES, LEVEL = 2000, 0.95


def clustered_means(
    values: Mapping[str, Sequence[float | None]],
    clusters: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Mean of each metric with a percentile bootstrap interval (Efron 1979) that draws whole clusters.

    Args:
        values: by metric, one number for each scene; None or NaN where it is not available.
        clusters: which scenes belong together.
        resamples: number of draws.
        level: of the interval.
        seed: of the draws, which all metrics share.

    Returns:
        By metric: ``mean``, ``low``, ``high`` (None where there is no value; the bounds also with fewer than two
        clusters, from which no spread can be told), ``count`` of scenes with a value.
    """
    _, cluster_idx = np.unique(np.asarray(clusters, str), return_inverse=True)
    num_clusters = int(cluster_idx.max(initial=-1)) + 1
    random = np.random.default_rng(seed)
    draws = random.multinomial(num_clusters, np.full(num_clusters, 1 / max(num_clusters, 1)), resamples)
    means = {}
    for name, column in values.items():
        numbers = np.array([math.nan if value is None else value for value in column], np.float64)
        known = ~np.isnan(numbers)
        totals = np.bincount(cluster_idx[known], numbers[known], num_clusters)
        counts = np.bincount(cluster_idx[known], minlength=num_clusters)
        entry: dict[str, Any] = {"mean": None, "low": None, "high": None, "count": int(known.sum())}
        if known.any():
            entry["mean"] = float(numbers[known].mean())
        if (counts > 0).sum() > 1:
            drawn = draws @ counts
            sums = (draws @ totals)[drawn > 0] / drawn[drawn > 0]
            entry["low"], entry["high"] = map(float, np.quantile(sums, [(1 - level) / 2, (1 + level) / 2]))
        means[name] = entry
    return means
