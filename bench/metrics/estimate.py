"""Means of per-sample scores with intervals that hold where samples are not independent.

Sources: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
JASA 22 (1927); L. Kish, "Survey Sampling" (1965), for the design effect and the effective sample
size; E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected
number of positive counts estimated from survey data", Survey Methodology 24 (1998), for the
t-adjusted effective sample size; C. Franco et al., "Comparative study of confidence intervals for
proportions in complex sample surveys", J. Survey Statistics and Methodology 7 (2019), for putting
it into Wilson's interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its submodules are slow to import and load on first use
from numpy.typing import NDArray

ONE_VALUE = "no interval: a single value"
ONE_CLUSTER = "no interval: all samples lie in one batch"
"""Methods of estimates without an interval."""


def percent(share: float) -> str:
    """Formats a share in percent, for example ``71.9``."""
    return f"{100 * share:.1f}"


def points(difference: float) -> str:
    """Formats a difference of two shares in percentage points, for example ``+4.9``."""
    return f"{100 * difference:+.1f}"


@dataclass(frozen=True)
class Estimate:
    """A number, its confidence interval and its sample size.

    Attributes:
        value: An accuracy or a rate in [0, 1]; the mean or median of real numbers; or how far one
            result is above another, absolutely or relatively.
        low: Lower end of the confidence interval; ``None`` where the data allow no interval.
        high: Upper end; ``None`` where ``low`` is.
        n: Number of samples or values behind it.
        method: How the interval was made, or why there is none.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    method: str

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the confidence interval; ``None`` where the data allow no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def brackets(self, number: Callable[[float], str] = percent) -> str:
        """Formats the interval, for example ``[60.9, 80.7]``; empty where there is none.

        Args:
            number: Formats one number.
        """
        return "" if self.interval is None else f"[{', '.join(map(number, self.interval))}]"

    def shown(self, number: Callable[[float], str] = percent) -> tuple[str, ...]:
        """Formats the value and, where there is one, the interval: ``("71.9", "[60.9, 80.7]")``."""
        return tuple(filter(None, (number(self.value), self.brackets(number))))


def normal_quantile(p: float) -> float:
    """Returns the quantile of the standard normal distribution at probability ``p``."""
    return float(scipy.special.ndtri(p))


def student_quantile(p: float, df: float) -> float:
    """Returns the quantile of Student's t with ``df`` degrees of freedom at probability ``p``."""
    return float(scipy.special.stdtrit(df, p))


def binomial_quantile(p: float, n: int, share: float) -> int:
    """Returns the least k such that at most k of n trials succeed with probability p or more."""
    k = math.ceil(float(scipy.special.bdtrik(p, n, share)))
    while k > 0 and float(scipy.special.bdtr(k - 1, n, share)) >= p:
        k -= 1
    return max(k, 0)


def mean_from_moments(mean: float, sd: float, n: int, confidence: float = 0.95) -> Estimate:
    """Returns a mean with Student's interval, from the standard deviation of its n values."""
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
    from the binomial distribution, is at least ``confidence``: exact for any distribution. With
    fewer than six values no k reaches 95 %, and there is no interval.
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    n, value = x.size, float(np.median(x))
    k = binomial_quantile((1 - confidence) / 2, n, 0.5)
    if k < 1:
        return Estimate(value, None, None, n, "no interval: too few values for a median's")
    return Estimate(value, float(x[k - 1]), float(x[n - k]), n, "order statistics")


def at_least(k: float, n: float, confidence: float = 0.975) -> float:
    """Returns the exact lower bound of a share of which ``k`` of ``n`` trials succeeded.

    For few trials, where Wilson's is too high. Source: C. J. Clopper and E. S. Pearson, Biometrika
    26, 1934.

    Args:
        k: Successes, in [0, n]; fractions stand for effective counts.
        n: Trials, > 0.
        confidence: One-sided, in (0, 1).
    """
    return float(scipy.special.betaincinv(k, n - k + 1, 1 - confidence)) if k > 0 else 0.0


def wilson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's score interval for ``k`` successes in ``n`` trials.

    Args:
        k: Successes, in [0, n]; fractions stand for effective counts.
        n: Trials, > 0.
        confidence: Two-sided coverage, in (0, 1).

    Raises:
        ValueError: When an argument is out of its range.
    """
    if not n > 0 or not 0 <= k <= n or not 0 < confidence < 1:
        raise ValueError(
            f"need 0 <= k <= n, n > 0 and confidence in (0, 1): {k=} {n=} {confidence=}"
        )
    z = normal_quantile((1 + confidence) / 2)
    p = k / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At k = 0 and k = n the ends are exactly 0 and 1; rounding must not move them.
    low = 0.0 if k == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if k == n else min(1.0, (centre + half) / scale)
    return low, high


def estimate_mean(
    scores: Sequence[float], clusters: Sequence[int] | None = None, confidence: float = 0.95
) -> Estimate:
    """Estimates the mean of per-sample scores.

    Samples that are right or wrong and independent get Wilson's interval with their own n. For
    fractions (the share of draws that were right) n is replaced by the number of right-or-wrong
    samples that would tell as much (``independent_n``), and for clustered samples by the effective
    sample size (``effective_n``).

    Args:
        scores: Values in [0, 1], at least one.
        clusters: Cluster number of each sample; ``None`` if samples are independent.
        confidence: Two-sided coverage, in (0, 1).

    Raises:
        ValueError: When there is no score, one is outside [0, 1], or the lengths differ.
    """
    x = np.asarray(scores, dtype=np.float64)
    if x.size == 0 or not bool(np.all((x >= 0) & (x <= 1))):
        raise ValueError("expected at least one score, all of them in [0, 1]")
    value = min(1.0, max(0.0, float(x.mean())))
    if clusters is None:
        n_alone = independent_n(x, confidence)
        low, high = wilson(value * n_alone, n_alone, confidence)
        return Estimate(value, low, high, x.size, "wilson")
    n_eff, method = effective_n(x, clusters, confidence)
    if n_eff is None:
        return Estimate(value, None, None, x.size, method)
    low, high = wilson(value * n_eff, n_eff, confidence)
    return Estimate(value, low, high, x.size, method)


def is_binary(x: NDArray[np.float64]) -> bool:
    """Says whether all scores are 0 or 1, and none is a fraction of draws."""
    return bool(np.all((x == 0) | (x == 1)))


def independent_n(x: NDArray[np.float64], confidence: float) -> float:
    """Returns how many right-or-wrong samples have a mean as certain as that of these.

    That is n for scores of 0 and 1. Fractions scatter less; their variance is taken with one 0 and
    one 1 added, so that a few equal scores do not pass for certainty.

    Args:
        x: Scores (n,) in [0, 1] of independent samples.
        confidence: Two-sided coverage, in (0, 1).
    """
    n, p = x.size, float(x.mean())
    if n < 2 or is_binary(x):
        return float(n)
    variance = (float(np.square(x - p).sum()) + p**2 + (1 - p) ** 2) / (n + 2)
    quantile = (1 + confidence) / 2
    ratio = (normal_quantile(quantile) / student_quantile(quantile, n - 1)) ** 2
    return max(float(n), n * p * (1 - p) / variance * ratio)


def effective_n(
    x: NDArray[np.float64], clusters: Sequence[int], confidence: float
) -> tuple[float | None, str]:
    """Returns the effective sample size of clustered samples, and the name of the method.

    The ratio of quantiles accounts for estimating the variance from few clusters (k clusters give
    k - 1 degrees of freedom). The result is capped at that of independent samples: clusters that
    happen to look alike never make the interval narrower. Where all samples are equal, the variance
    between clusters carries no information, and only k is safe to claim. docs/statistics.md has a
    table of its coverage, which falls for rare outcomes in strongly correlated clusters.

    Args:
        x: Scores (n,) in [0, 1].
        clusters: Cluster of each score (n,).
        confidence: Two-sided coverage, in (0, 1).

    Returns:
        The effective sample size, > 0, or ``None`` for a single cluster.
    """
    between = cluster_variance(x, clusters)
    k, most = between.k, independent_n(x, confidence)
    if k == x.size:
        return most, "wilson"
    if k == 1:
        return None, ONE_CLUSTER
    method = f"wilson, {k} batches as clusters"
    p = float(x.mean())
    independent = p * (1 - p)
    if independent < 1e-12:
        return float(k), method
    quantile = (1 + confidence) / 2
    ratio = (normal_quantile(quantile) / student_quantile(quantile, k - 1)) ** 2
    if between.variance * most <= independent * ratio:
        return most, method
    return independent / between.variance * ratio, method


@dataclass(frozen=True)
class ClusterVariance:
    """The number of clusters ``k``, and the variance of the mean between them (0 if k is 1)."""

    k: int
    variance: float


def cluster_variance(x: NDArray[np.float64], clusters: Sequence[int]) -> ClusterVariance:
    """Returns the linearised variance of a mean over clusters, which may differ in size.

    It is the sum over clusters of the squared sum of residuals, divided by n squared, times
    k / (k - 1) for k clusters.

    Args:
        x: Values (n,).
        clusters: Cluster of each value (n,).

    Raises:
        ValueError: When the lengths differ.
    """
    if len(clusters) != x.size:
        raise ValueError(f"{x.size} values but {len(clusters)} cluster numbers")
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    k = int(member.max()) + 1
    residuals = np.bincount(member, weights=x - x.mean()) / x.size
    return ClusterVariance(k, k / (k - 1) * float(residuals @ residuals) if k > 1 else 0.0)
