"""The difference of two independent proportions, against the paper that proposes its interval."""

from __future__ import annotations

import pytest

from bench.metrics import Estimate, independent_difference, wilson


def estimate(k: int, n: int) -> Estimate:
    low, high = wilson(k, n)
    return Estimate(k / n, low, high, n, "wilson")


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_interval_is_newcombes(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    result = independent_difference(estimate(*first), estimate(*second))
    assert result.value == pytest.approx(first[0] / first[1] - second[0] / second[1])
    assert (result.low, result.high) == (
        pytest.approx(low, abs=6e-5),
        pytest.approx(high, abs=6e-5),
    )
    assert result.n == min(first[1], second[1])
    back = independent_difference(estimate(*second), estimate(*first))
    assert (back.low, back.high) == (pytest.approx(-high, abs=6e-5), pytest.approx(-low, abs=6e-5))


def test_without_an_interval_on_either_side_there_is_none() -> None:
    lone = Estimate(0.5, None, None, 16, "no interval: all samples lie in one batch")
    result = independent_difference(lone, estimate(5, 10))
    assert (result.value, result.low, result.high, result.n) == (0.0, None, None, 10)
