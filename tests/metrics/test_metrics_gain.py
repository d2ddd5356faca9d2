"""Relative gains: by hand, by bootstrap, and how often their intervals hold the truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.core.result import Row
from bench.metrics import relative_gain

BASE = Row(0, 1, 1, 1.0, 1, 1.0, 1.0, "adv", 0.1, 1.0, "ok", 0, 1.0, 1.0)


def rows(scores: list[float], batch_size: int = 1) -> list[Row]:
    return [
        replace(BASE, index=i, robust=score, batch=i // batch_size)
        for i, score in enumerate(scores)
    ]


def test_value_and_interval_equal_bonett_and_prices_by_hand() -> None:
    """6 right under both, 9 under the first alone, 2 under the second alone."""
    first = rows([1.0] * 15 + [0.0] * 15)
    second = rows([1.0] * 6 + [0.0] * 9 + [1.0] * 2 + [0.0] * 13)
    gain = relative_gain(first, list(reversed(second)))
    assert gain is not None and gain.low is not None and gain.high is not None
    assert gain.value == pytest.approx(15 / 8 - 1)
    spread = 1.959963984540054 * math.sqrt((9 + 2 + 2) / (16 * 9))
    assert gain.low == pytest.approx(16 / 9 * math.exp(-spread) - 1)
    assert gain.high == pytest.approx(16 / 9 * math.exp(spread) - 1)
    assert gain.n == 30


def test_relative_to_nothing_there_is_no_gain() -> None:
    assert relative_gain(rows([1, 0]), rows([0, 0])) is None


def test_all_that_was_lost_is_a_gain_of_minus_one() -> None:
    gain = relative_gain(rows([0] * 20), rows([1] * 10 + [0] * 10))
    assert gain is not None
    assert gain.value == gain.low == -1
    assert gain.high is not None and -1 < gain.high < 0


def test_one_batch_gives_no_interval() -> None:
    gain = relative_gain(rows([1, 1, 0, 1], 4), rows([1, 0, 0, 1]), "batch")
    assert gain is not None
    assert (gain.low, gain.high) == (None, None)
    assert "one batch" in gain.method


def test_batches_never_make_an_interval_narrower() -> None:
    first, second = [1.0, 1, 0, 1] * 16, [1.0, 0, 0, 1] * 16
    alone = relative_gain(rows(first), rows(second))
    batched = relative_gain(rows(first, 4), rows(second), "batch")
    assert alone is not None and batched is not None
    assert alone.low is not None and batched.low is not None
    assert batched.low < alone.low
    assert relative_gain(rows(first), rows(second), "batch") == alone


def test_other_images_are_refused() -> None:
    with pytest.raises(UserError, match="same data slice"):
        relative_gain(rows([1, 0]), rows([1, 0, 1]))


def test_a_bootstrap_of_pairs_agrees() -> None:
    generator = np.random.default_rng(5)
    u = generator.random(400)
    first, second = (u < 0.6).astype(float), ((u > 0.25) & (u < 0.7)).astype(float)
    gain = relative_gain(rows(first.tolist()), rows(second.tolist()))
    assert gain is not None and gain.low is not None and gain.high is not None
    drawn = generator.integers(0, 400, (4000, 400))
    ratios = first[drawn].sum(1) / second[drawn].sum(1) - 1
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert gain.low == pytest.approx(low, abs=0.02)
    assert gain.high == pytest.approx(high, abs=0.02)


@pytest.mark.process
@pytest.mark.parametrize(
    ("both", "first_only", "second_only", "size", "spread"),
    [
        (0.3, 0.2, 0.05, 1, 0.0),
        (0.05, 0.3, 0.02, 1, 0.0),
        (0.3, 0.2, 0.05, 16, 0.1),
        (0.15, 0.25, 0.05, 16, 0.05),
    ],
)
def test_95_percent_intervals_hold_the_true_gain(
    both: float, first_only: float, second_only: float, size: int, spread: float
) -> None:
    """256 pairs; in batches, each batch shifts its pairs towards one of the two."""
    generator, repeats, hits = np.random.default_rng(7), 400, 0
    truth = (both + first_only) / (both + second_only) - 1
    for _ in range(repeats):
        shift = np.repeat(generator.uniform(-spread, spread, 256 // size), size)
        u = generator.random(256)
        first = u < both + first_only + shift
        second = (u < both) | ((u >= 1 - second_only + shift / 2) & ~first)
        gain = relative_gain(
            rows(first.astype(float).tolist(), size),
            rows(second.astype(float).tolist(), size),
            "batch" if size > 1 else "sample",
        )
        assert gain is not None and gain.low is not None and gain.high is not None
        hits += gain.low <= truth <= gain.high
    assert hits / repeats >= 0.93


def test_fractions_are_on_the_safe_side() -> None:
    """The interval is no narrower than that of the scores' own spread."""
    generator = np.random.default_rng(2)
    a, b = generator.random(200), generator.random(200)
    gain = relative_gain(rows(a.tolist()), rows(b.tolist()))
    assert gain is not None and gain.low is not None and gain.high is not None
    spread = 2 * 1.96 * math.sqrt(float(np.sum((a / a.sum() - b / b.sum()) ** 2)))
    assert math.log((gain.high + 1) / (gain.low + 1)) > spread
