"""Means and medians of real numbers, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.metrics.distributions import binomial_quantile, student_quantile
from bench.metrics.estimate import Estimate

ONE_VALUE = "no interval: a single value"


def mean_from_moments(mean: float, sd: float, n: int, confidence: float = 0.95) -> Estimate:
    """Returns a mean with Student's interval, from the deviation of the n values behind it."""
    if n < 2:
        return Estimate(mean, None, None, n, ONE_VALUE)
    half = student_quantile((1 + confidence) / 2, n - 1) * sd / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, "student")


def real_mean(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Returns the mean of independent values, at least one, with Student's interval."""
    x = np.asarray(values, dtype=np.float64)
    sd = float(x.std(ddof=1)) if x.size > 1 else 0.0
    return mean_from_moments(float(x.mean()), sd, x.size, confidence)


def real_median(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Returns the median of independent values, at least one, by order statistics.

    The ends are the k-th smallest and the k-th largest value, for the largest k whose coverage,
    from the binomial distribution, is at least ``confidence``: exact for any distribution. Fewer
    than six values reach 95 % with no k, and get no interval.
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    n, value = x.size, float(np.median(x))
    k = binomial_quantile((1 - confidence) / 2, n, 0.5)
    if k < 1:
        return Estimate(value, None, None, n, "no interval: too few values for a median's")
    return Estimate(value, float(x[k - 1]), float(x[n - k]), n, "order statistics")
