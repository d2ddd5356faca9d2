"""Tests of no difference, against scipy's and against counting every case."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.metrics.hypothesis import holm, paired_test, sign_flip_test, unpaired_test


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_signs_flipped_in_every_way(deltas: list[int]) -> None:
    sums = [
        sum(sign * abs(d) for sign, d in zip(signs, deltas, strict=True))
        for signs in itertools.product((-1, 1), repeat=len(deltas))
    ]
    expected = float(np.mean([abs(s) >= abs(sum(deltas)) for s in sums]))
    assert sign_flip_test(deltas) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 60), st.integers(0, 60))
def test_right_or_wrong_is_mcnemar(gained: int, lost: int) -> None:
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    before = [0] * gained + [1] * lost + [1] * 5
    now = [1] * gained + [0] * lost + [1] * 5
    tested = paired_test(before, now, 1)
    assert tested.p == pytest.approx(expected, rel=1e-9)
    assert tested.method == "McNemar, exact"


@pytest.mark.process
def test_draws_agree_with_a_permutation_test_of_scipy() -> None:
    draw = np.random.default_rng(0)
    before = draw.binomial(20, 0.7, 60)
    now = draw.binomial(20, 0.64, 60)
    found = paired_test(before.tolist(), now.tolist(), 20).p
    expected = stats.permutation_test(
        (now - before,), np.mean, permutation_type="samples", n_resamples=200_000, rng=1
    ).pvalue
    assert found is not None and 0 < found < 0.05
    assert found == pytest.approx(expected, rel=0.1)


def test_ten_thousand_images_do_not_overflow() -> None:
    assert sign_flip_test([1] * 10_000) < 1e-300
    assert sign_flip_test([1, -1] * 5_000) == 1.0
    assert sign_flip_test([1] * 5_100 + [-1] * 4_900) == pytest.approx(
        stats.binomtest(5_100, 10_000).pvalue, rel=1e-6
    )


def test_groups_count_once() -> None:
    """Eight batches that fall as one say less than their 160 images would."""
    before, now = [1] * 160, ([0] * 10 + [1] * 10) * 8
    groups = [i // 20 for i in range(160)]
    alone, grouped = paired_test(before, now, 1), paired_test(before, now, 1, groups)
    assert alone.p is not None and grouped.p is not None
    assert grouped.p >= alone.p
    delta = np.array(now) - np.array(before)
    means = delta.reshape(8, 20).mean(axis=1) + np.array([0.2, -0.2] * 4)
    shifted = (np.array(before).reshape(8, 20).mean(axis=1) + means).round(2)
    # Batches that differ: at least as careful as Student's t of their means.
    counts = (shifted * 20).round().astype(int)
    varied = [int(j < c) for c in counts for j in range(20)]
    found = paired_test(before, varied, 1, groups).p
    expected = stats.ttest_1samp(counts / 20 - 1, 0).pvalue
    assert found is not None and found == pytest.approx(expected, rel=1e-6)


def test_one_batch_allows_no_test() -> None:
    assert paired_test([1, 1, 0], [0, 1, 0], 1, [0, 0, 0]).p is None
    assert paired_test([1, 1, 0], [1, 1, 0], 1, [0, 0, 0]).p == 1.0


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_unpaired_is_fisher(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    tested = unpaired_test([1] * a + [0] * (n - a), [1] * b + [0] * (m - b), 1)
    assert tested.p == pytest.approx(stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue)


def test_unpaired_draws_are_welch() -> None:
    draw = np.random.default_rng(3)
    a, b = draw.integers(0, 21, 50), draw.integers(4, 21, 70)
    expected = stats.ttest_ind(a / 20, b / 20, equal_var=False).pvalue
    assert unpaired_test(a.tolist(), b.tolist(), 20).p == pytest.approx(expected)


def test_unpaired_without_spread() -> None:
    assert unpaired_test([20, 20], [20, 20], 20).p == 1.0
    assert unpaired_test([20, 20], [10, 10], 20).p == 0.0
    assert unpaired_test([1, 0], [1, 1], 1, ([0, 0], None)).p is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_step_by_step(p_values: list[float], alpha: float) -> None:
    """The textbook's procedure: reject the smallest while it is below alpha over those left."""
    rejected: set[int] = set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] * (len(p_values) - rank) > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected
