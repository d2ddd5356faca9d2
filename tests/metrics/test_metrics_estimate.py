"""Intervals against scipy, against limits known by hand, and against their promised coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from bench.metrics import at_least, estimate_mean, wilson


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 64), (1, 64), (46, 64), (64, 64), (4769, 10000)])
def test_wilson_equals_scipy(k: int, n: int, confidence: float) -> None:
    expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 2), (3, 6), (5, 32), (32, 32)])
def test_the_lower_bound_equals_scipys_exact_one(k: int, n: int) -> None:
    expected = binomtest(k, n, alternative="greater").proportion_ci(0.975, method="exact")
    assert at_least(k, n) == pytest.approx(expected.low, abs=1e-12)


@pytest.mark.parametrize("arguments", [(1, 0), (-1, 4), (5, 4), (1, 4, 1.0), (float("nan"), 4)])
def test_wilson_refuses_impossible_counts(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="need 0 <= k <= n"):
        wilson(*arguments)


def test_independent_hits_give_plain_wilson() -> None:
    estimate = estimate_mean([1] * 46 + [0] * 18)
    assert (estimate.low, estimate.high) == wilson(46, 64)
    assert (estimate.value, estimate.n, estimate.method) == (46 / 64, 64, "wilson")


def test_fractions_tell_more_than_hits_but_equal_ones_are_no_certainty() -> None:
    low, high = wilson(10, 20)
    fractions = estimate_mean([0.5] * 20)
    assert fractions.low is not None and fractions.high is not None
    assert low < fractions.low < 0.45 and 0.55 < fractions.high < high
    sure = estimate_mean([1.0] * 20)
    assert (sure.low, sure.high) == wilson(20, 20)


@pytest.mark.parametrize(
    ("p", "n", "wide"),
    [(0.02, 16, 3.0), (0.05, 200, 1.3), (0.5, 32, 1.1), (0.5, 200, 1.1), (0.9, 200, 1.2)],
)
def test_intervals_of_fractions_cover_the_truth_and_are_hardly_wider_than_they_must(
    p: float, n: int, wide: float
) -> None:
    """Twenty draws of images whose own rates are beta-distributed."""
    generator, repeats, hits, widths, deviations = np.random.default_rng(5), 600, 0, [], []
    for _ in range(repeats):
        scores = generator.binomial(20, generator.beta(2 * p, 2 - 2 * p, n)) / 20
        estimate = estimate_mean(scores.tolist())
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= p <= estimate.high
        widths.append(estimate.high - estimate.low)
        deviations.append(scores.mean())
    assert hits / repeats >= 0.93
    assert np.mean(widths) <= wide * 2 * 1.96 * np.std(deviations)


@pytest.mark.parametrize("scores", [[], [1.2], [-0.1], [float("nan")]])
def test_impossible_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        estimate_mean(scores)


def test_clusters_of_one_sample_are_no_clusters() -> None:
    scores = [1, 0, 1, 1, 0]
    assert estimate_mean(scores, [9, 8, 7, 6, 5]) == estimate_mean(scores)


def test_one_cluster_gives_a_value_but_no_interval() -> None:
    estimate = estimate_mean([1, 0, 1, 1], [3, 3, 3, 3])
    assert (estimate.value, estimate.low, estimate.high) == (0.75, None, None)
    assert "one batch" in estimate.method


@pytest.mark.parametrize("value", [0, 1])
def test_equal_scores_in_clusters_count_as_one_each(value: int) -> None:
    estimate = estimate_mean([value] * 40, list(range(4)) * 10)
    assert (estimate.low, estimate.high) == wilson(4 * value, 4)


def test_whole_clusters_that_fall_together_are_worth_fewer_than_their_number() -> None:
    scores, clusters = np.repeat([1, 0] * 10, 8), np.repeat(np.arange(20), 8)
    estimate = estimate_mean(scores.tolist(), clusters.tolist())
    low, high = wilson(10, 20)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low < low and high < estimate.high


def test_clusters_that_look_alike_never_beat_independence() -> None:
    scores, clusters = [1, 0] * 50, [i // 2 for i in range(100)]
    estimate = estimate_mean(scores, clusters)
    assert (estimate.low, estimate.high) == wilson(50, 100)


def test_effective_size_equals_the_textbook_ratio_estimator() -> None:
    # Clusters of unequal size, computed by the formulas as Korn and Graubard print them.
    clusters = [0] * 3 + [1] * 6 + [2] * 4 + [3] * 7
    scores = [1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1]
    p, n, k = 13 / 20, 20, 4
    residuals = [3 - 3 * p, 1 - 6 * p, 4 - 4 * p, 5 - 7 * p]
    variance = k / (k - 1) * sum(r * r for r in residuals) / n**2
    n_eff = p * (1 - p) / variance * (1.959963984540054 / 3.182446305284263) ** 2
    estimate = estimate_mean(scores, clusters)
    assert (estimate.low, estimate.high) == pytest.approx(wilson(p * n_eff, n_eff), abs=1e-9)


SETTINGS = [
    (0.1, 64, 1, 0.0),
    (0.5, 64, 1, 0.0),
    (0.5, 4, 64, 0.0),
    (0.3, 4, 64, 0.1),
    (0.3, 8, 32, 0.1),
    (0.7, 20, 16, 0.1),
    (0.5, 20, 16, 0.3),
    (0.9, 40, 8, 0.02),
]


@pytest.mark.parametrize(("p", "k", "size", "correlation"), SETTINGS)
def test_95_percent_intervals_cover_the_truth(
    p: float, k: int, size: int, correlation: float
) -> None:
    """k clusters whose own rates are beta-distributed around p with the given correlation."""
    generator, repeats, hits = np.random.default_rng(5), 600, 0
    clusters = np.repeat(np.arange(k), size).tolist()
    for _ in range(repeats):
        rates = np.full(k, p)
        if correlation:
            spread = (1 - correlation) / correlation
            rates = generator.beta(p * spread, (1 - p) * spread, k)
        scores = (generator.random(k * size) < np.repeat(rates, size)).astype(float)
        estimate = estimate_mean(scores.tolist(), clusters if size > 1 else None)
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= p <= estimate.high
    assert hits / repeats >= 0.93


def test_ignoring_the_clusters_would_not_cover() -> None:
    """The reason for all this: the plain interval misses its coverage on dependent samples."""
    generator, hits = np.random.default_rng(5), 0
    for _ in range(300):
        rates = generator.beta(0.3 * 9, 0.7 * 9, 8)
        scores = (generator.random(256) < np.repeat(rates, 32)).astype(float)
        estimate = estimate_mean(scores.tolist())
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= 0.3 <= estimate.high
    assert hits / 300 < 0.8
