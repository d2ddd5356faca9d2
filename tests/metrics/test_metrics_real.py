"""Means and medians of real numbers against closed forms, and their coverage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bench.metrics import Estimate, mean_from_moments, real_mean, real_median


def test_mean_is_students_interval() -> None:
    values = [0.1, 0.4, -0.2, 0.3]
    found = real_mean(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((0.15, low, high))
    assert found == mean_from_moments(found.value, float(np.std(values, ddof=1)), 4)


@pytest.mark.parametrize("estimate", [real_mean, real_median])
def test_a_single_value_has_no_interval(estimate: Callable[[list[float]], Estimate]) -> None:
    found = estimate([2.0])
    assert (found.value, found.low, found.high, found.n) == (2.0, None, None, 1)
    assert found.method.startswith("no interval")


@pytest.mark.parametrize("n", [5, 6, 11, 40])
def test_median_covers_whatever_the_distribution(n: int) -> None:
    rng = np.random.default_rng(0)
    draws = np.exp(2 * rng.standard_normal((2000, n)))  # skewed, of median 1
    found = [real_median(row.tolist()) for row in draws]
    if n < 6:
        assert all(one.low is None for one in found)
        return
    ends = [(one.low, one.high) for one in found if one.low is not None and one.high is not None]
    hits = [low <= 1 <= high for low, high in ends]
    assert len(hits) == 2000 and np.mean(hits) >= 0.95 - 0.01
