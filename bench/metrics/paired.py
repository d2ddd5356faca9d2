"""The difference between two results on the same samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.result import Cluster, Row
from bench.metrics.accuracy import aligned_rows, clusters, robust_scores
from bench.metrics.estimate import (
    ONE_CLUSTER,
    ONE_VALUE,
    Estimate,
    cluster_variance,
    estimate_mean,
    is_binary,
    normal_quantile,
    student_quantile,
)
from bench.metrics.hypothesis import paired_test

MAX_DRAWS = 10_000
"""Scores that are no shares of so many draws are compared by the interval alone."""


def independent_difference(first: Estimate, second: Estimate) -> Estimate:
    """Returns the difference between two independent proportions, with its interval.

    The interval is derived from those of the two proportions (R. G. Newcombe, "Interval estimation
    for the difference between independent proportions", Statistics in Medicine 17, 1998, method
    10), so it is valid for clustered samples as far as theirs are.

    Returns:
        ``first - second`` in [-1, 1], without an interval where one of the two has none; ``n`` is
        the size of the smaller sample.
    """
    value = first.value - second.value
    n = min(first.n, second.n)
    if first.interval is None or second.interval is None:
        return Estimate(value, None, None, n, "no interval: one of the two numbers has none")
    (first_low, first_high), (second_low, second_high) = first.interval, second.interval
    low = value - math.hypot(first.value - first_low, second_high - second.value)
    high = value + math.hypot(first_high - first.value, second.value - second_low)
    return Estimate(value, low, high, n, "Newcombe's from both intervals")


Verdict = Literal["higher", "lower", "no difference shown"]


@dataclass(frozen=True)
class Difference(Estimate):
    """How much more robust one result is than another: mean paired difference in [-1, 1].

    ``n`` is the number of pairs.

    Attributes:
        p_value: Two-sided p of the hypothesis of no difference
            (``bench.metrics.hypothesis.paired_test``); ``None`` where there is no test.
        confidence: Coverage of the interval; ``1 - confidence`` is the level of the test.
    """

    p_value: float | None
    confidence: float

    @property
    def estimate(self) -> Estimate:
        """The difference with its interval, without the test."""
        return Estimate(self.value, self.low, self.high, self.n, self.method)

    @property
    def verdict(self) -> Verdict:
        """Whether a difference is shown; the interval and, if there is one, p must both show it."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "no difference shown"
        if self.p_value is not None and self.p_value >= 1 - self.confidence:
            return "no difference shown"
        return "higher" if self.value > 0 else "lower"


def paired_difference(
    first: Sequence[Row],
    second: Sequence[Row],
    cluster: Cluster = "sample",
    confidence: float = 0.95,
) -> Difference:
    """Compares the robust scores of two results on the same samples.

    Right-or-wrong scores of independent samples get the adjusted Wald interval for paired
    proportions, which adds one gain and one loss (D. G. Bonett and R. M. Price, J. Educational and
    Behavioral Statistics 37, 2012). Scores that are fractions of draws get Student's interval of
    the mean difference, with one gain and one loss added that are as large as the largest of all
    pairs. Clustered samples get Student's interval with the variance between clusters
    (``cluster_variance``), taken no smaller than that of independent samples; where all pairs are
    equal it carries no information, and each cluster counts as one pair. The test is of the signs,
    exact: McNemar's for right-or-wrong scores.

    Args:
        first: Rows of one result; its batches are the clusters.
        second: Rows of the result to subtract, in any order and with any batches.
        cluster: The independent sampling unit: samples or batches.
        confidence: Two-sided coverage, in (0, 1).

    Raises:
        UserError: When the two do not hold the same samples.
        ValueError: When there are no rows, or one has no verified score.
    """
    if not first:
        raise ValueError("expected at least one row")
    ordered = aligned_rows(first, second, "sample")
    scores = (robust_scores(first), robust_scores(ordered))
    return score_difference(*scores, clusters(first, cluster), confidence)


def score_difference(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[int] | None = None,
    confidence: float = 0.95,
) -> Difference:
    """Compares two scores of the same samples, see ``paired_difference``.

    Args:
        first: Scores (n,) in [0, 1].
        second: Scores (n,) to subtract, of the same samples in the same order.
        groups: Cluster of each sample (n,); ``None`` if samples are independent.
        confidence: Two-sided coverage, in (0, 1).
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    delta, added = a - b, _added(a, b)
    if groups is None or len(set(groups)) == a.size:
        interval = _independent(delta, added, confidence)
    else:
        interval = _clustered(delta, added, groups, confidence)
    return Difference(
        value=float(delta.mean()),
        low=interval.low,
        high=interval.high,
        n=a.size,
        p_value=_p_value(a, b, groups),
        method=interval.method,
        confidence=confidence,
    )


def agreement(first: Sequence[Row], second: Sequence[Row], cluster: Cluster = "sample") -> Estimate:
    """Estimates the share of samples on which two results agree.

    Fractional scores count as one minus their absolute difference.

    Args:
        first: Rows of one result; its batches are the clusters.
        second: Rows of the other, in any order and with any batches.
        cluster: The independent sampling unit: samples or batches.

    Raises:
        UserError: When the two do not hold the same samples.
        ValueError: When there are no rows, or one has no verified score.
    """
    pairs = zip(
        robust_scores(first), robust_scores(aligned_rows(first, second, "sample")), strict=True
    )
    return estimate_mean([1 - abs(a - b) for a, b in pairs], clusters(first, cluster))


class _Interval(NamedTuple):
    low: float | None
    high: float | None
    method: str


class _Added(NamedTuple):
    """The gain and the loss that are added to the pairs.

    Attributes:
        size: Size of each.
        whole: Whether all scores are right or wrong, so that the size is 1.
    """

    size: float
    whole: bool


def _added(a: NDArray[np.float64], b: NDArray[np.float64]) -> _Added:
    """Returns the largest difference of a pair; where all are equal, the scores' resolution."""
    if is_binary(a) and is_binary(b):
        return _Added(1.0, True)
    largest = float(np.abs(a - b).max())
    steps = np.diff(np.unique(np.concatenate([a, b])))
    return _Added(largest or (float(steps.min()) if steps.size else 1.0), False)


def _independent(delta: NDArray[np.float64], added: _Added, confidence: float) -> _Interval:
    """Returns the interval of the mean of differences (n,) of independent samples."""
    mean, variance = _moments(delta, added)
    quantile = (1 + confidence) / 2
    if added.whole:
        factor, method = normal_quantile(quantile), "adjusted Wald"
    elif delta.size > 1:
        factor, method = student_quantile(quantile, delta.size - 1), "Student's t, adjusted"
    else:
        return _Interval(None, None, ONE_VALUE)
    half = factor * math.sqrt(variance)
    return _Interval(max(-1.0, mean - half), min(1.0, mean + half), method)


def _clustered(
    delta: NDArray[np.float64], added: _Added, groups: Sequence[int], confidence: float
) -> _Interval:
    """Returns the interval of the mean of differences (n,) of samples in groups (n,)."""
    between = cluster_variance(delta, groups)
    if between.k == 1:
        return _Interval(None, None, ONE_CLUSTER)
    method = f"Student's t, {between.k} batches as clusters"
    if bool(np.all(delta == delta[0])):
        return _independent(delta[: between.k], added, confidence)._replace(method=method)
    t = student_quantile((1 + confidence) / 2, between.k - 1)
    half = t * math.sqrt(max(between.variance, _moments(delta, added)[1]))
    mean = float(delta.mean())
    return _Interval(max(-1.0, mean - half), min(1.0, mean + half), method)


def _moments(delta: NDArray[np.float64], added: _Added) -> tuple[float, float]:
    """Returns the mean of differences (n,), and its variance, with a gain and a loss added."""
    n = delta.size + 2
    mean = float(delta.sum()) / n
    variance = (float(delta @ delta) + 2 * added.size**2) / n - mean**2
    return mean, variance / n


def _p_value(
    a: NDArray[np.float64], b: NDArray[np.float64], groups: Sequence[int] | None
) -> float | None:
    """Returns the p of ``paired_test``, or ``None`` where the scores are shares of no few draws."""
    n_draws = _common_draws(np.unique(np.concatenate([a, b])))
    if n_draws is None:
        return None
    before, now = (np.rint(x * n_draws).astype(np.int64).tolist() for x in (b, a))
    return paired_test(before, now, n_draws, groups).p


def _common_draws(scores: NDArray[np.float64]) -> int | None:
    """Returns the fewest draws of which all scores are shares; ``None`` for more than MAX_DRAWS."""
    draws = 1
    for score in scores.tolist():
        share = Fraction(score).limit_denominator(MAX_DRAWS)
        draws = math.lcm(draws, share.denominator)
        if draws > MAX_DRAWS or abs(float(share) - score) > 1e-9:
            return None
    return draws


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
    Medicine 25, 2006). For fractions of draws both are as large as the largest difference of a
    pair. Clustered samples get Student's interval with the linearised variance of that logarithm
    between clusters, taken no smaller than that of independent samples.

    Args:
        first: Rows of one result; its batches are the clusters.
        second: Rows of the result that is the reference, in any order and with any batches.
        cluster: The independent sampling unit: samples or batches.
        confidence: Two-sided coverage, in (0, 1).

    Returns:
        ``(first - second) / second``: at least -1, and 1 where the first is twice the second; ``n``
        is the number of pairs. ``None`` where the second's accuracy is 0 and the ratio is
        undefined.

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
    added = _added(a, b).size
    first, second = float(a.sum()), float(b.sum())
    # For scores of 0 and 1 it comes to the number of gains and losses.
    squares = float(np.square(a * second - b * first).sum())
    discordant = squares / (first * second) if first else second
    first, second = first + added, second + added
    return math.log(first / second), (discordant + 2 * added**2) / (first * second)


def _between(a: NDArray[np.float64], b: NDArray[np.float64], groups: Sequence[int]) -> float:
    """Returns the variance of the logarithm of the ratio between clusters."""
    if a.sum() == 0:
        return 0.0
    return cluster_variance(a.size * (a / a.sum() - b / b.sum()), groups).variance
