"""How much larger one accuracy is than another, relative to it, on the same samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.core.result import Cluster, Row
from bench.metrics.accuracy import aligned_rows, clusters, robust_scores
from bench.metrics.distributions import normal_quantile, student_quantile
from bench.metrics.estimate import ONE_CLUSTER, Estimate, cluster_variance


def relative_gain(
    first: Sequence[Row],
    second: Sequence[Row],
    cluster: Cluster = "sample",
    confidence: float = 0.95,
) -> Estimate | None:
    """Compares the robust scores of two results on the same samples by their ratio.

    For independent samples the interval is that of the logarithm of a ratio of paired proportions,
    by the delta method, after one gain and one loss were added (D. G. Bonett and R. M. Price,
    "Confidence intervals for a ratio of binomial proportions based on paired data", Statistics in
    Medicine 25, 2006). The sums of gains and of losses take the place of the counts of discordant
    pairs, which for fractional scores is on the safe side. Clustered samples get Student's interval
    with the variance of that logarithm between clusters, linearised, and taken no smaller than that
    of independent samples.

    Args:
        first: Rows of the result whose gain is asked for; its batches are the clusters.
        second: Rows of the result that it is relative to, in any order and with any batches.
        cluster: What is independent of what.
        confidence: Two-sided coverage, in (0, 1).

    Returns:
        ``(first - second) / second``: at least -1, and 1 where the first is twice the second; ``n``
        is the number of pairs. ``None`` where the second's accuracy is 0, and relative to it
        nothing is defined.

    Raises:
        UserError: When the two do not hold the same samples.
        ValueError: When there are no rows, or one has no verified score.
    """
    if not first:
        raise ValueError("expected at least one row")
    a = np.asarray(robust_scores(first), dtype=np.float64)
    b = np.asarray(robust_scores(aligned_rows(first, second, "sample")), dtype=np.float64)
    if b.sum() == 0:
        return None
    value = float(a.sum() / b.sum()) - 1
    groups = clusters(first, cluster)
    centre, variance = _log_ratio(a, b)
    quantile, method = normal_quantile((1 + confidence) / 2), "log ratio, adjusted"
    if groups is not None and len(set(groups)) < a.size:
        k = len(set(groups))
        if k == 1:
            return Estimate(value, None, None, a.size, ONE_CLUSTER)
        variance = max(variance, _between(a, b, groups))
        quantile = student_quantile((1 + confidence) / 2, k - 1)
        method = f"log ratio, Student's t, {k} batches as clusters"
    half = quantile * math.sqrt(variance)
    # The logarithm has no place for a first of 0, whose gain is exactly -1.
    low = min(value, math.exp(centre - half) - 1)
    return Estimate(value, low, math.exp(centre + half) - 1, a.size, method)


def _log_ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the logarithm of the ratio of two sums, and its variance, for independent pairs."""
    gains, losses = float(np.maximum(a - b, 0).sum()), float(np.maximum(b - a, 0).sum())
    first, second = float(a.sum()) + 1, float(b.sum()) + 1
    return math.log(first / second), (gains + losses + 2) / (first * second)


def _between(a: NDArray[np.float64], b: NDArray[np.float64], groups: Sequence[int]) -> float:
    """Returns the variance of the logarithm of the ratio between clusters."""
    if a.sum() == 0:
        return 0.0
    return cluster_variance(a.size * (a / a.sum() - b / b.sum()), groups).variance
