"""The light quantiles beside scipy's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.metrics.estimate import (
    binomial_quantile,
    normal_quantile,
    student_quantile,
)

P = st.floats(0.001, 0.999)


@given(P, st.integers(1, 500))
def test_quantiles_are_scipys(p: float, df: int) -> None:
    assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-9, abs=1e-12)
    assert student_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-8, abs=1e-9)


@given(P, st.integers(1, 500), st.sampled_from([0.1, 0.5, 0.9]))
def test_binomial_quantile_is_where_the_sum_of_chances_passes_p(
    p: float, n: int, share: float
) -> None:
    k, near = binomial_quantile(p, n, share), 1e-9
    assert stats.binom.cdf(k, n, share) >= p - near
    assert stats.binom.cdf(k - 1, n, share) < p + near
