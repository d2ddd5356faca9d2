"""Paired differences: McNemar by hand, coverage by simulation, verdicts."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.core.result import Row
from bench.metrics import agreement, paired_difference, wilson

BASE = Row(0, 1, 1, 1.0, 1, 1.0, 1.0, "adv", 0.1, 1.0, "ok", 0, 1.0, 1.0)


def rows(scores: list[float], batch_size: int = 1) -> list[Row]:
    return [
        replace(BASE, index=i, robust=score, batch=i // batch_size)
        for i, score in enumerate(scores)
    ]


def test_value_and_exact_p_by_hand() -> None:
    first, second = rows([1.0] * 9 + [0.0] + [1.0] * 10), rows([0.0] * 9 + [1.0] + [1.0] * 10)
    difference = paired_difference(first, list(reversed(second)))
    assert difference.value == pytest.approx(0.4)
    # Two-sided binomial: 9 or more of 10 discordant pairs one way.
    assert difference.p_value == pytest.approx(2 * (comb(10, 9) + 1) / 2**10)
    assert difference.verdict == "higher"
    assert paired_difference(second, first).verdict == "lower"


def test_interval_equals_bonett_and_price_by_hand() -> None:
    difference = paired_difference(rows([1] * 8 + [0] * 12), rows([0] * 5 + [1] * 5 + [0] * 10))
    gain, loss, z = 6 / 22, 3 / 22, 1.959963984540054
    half = z * ((gain + loss - (gain - loss) ** 2) / 22) ** 0.5
    assert difference.low == pytest.approx(gain - loss - half)
    assert difference.high == pytest.approx(gain - loss + half)
    assert difference.verdict == "no difference shown"


def test_equal_results_show_no_difference_but_keep_a_width() -> None:
    same = rows([1, 0, 1, 0])
    difference = paired_difference(same, same)
    assert (difference.value, difference.p_value) == (0, 1)
    assert difference.low is not None and difference.high is not None
    assert difference.low < 0 < difference.high
    assert difference.verdict == "no difference shown"


def test_fractions_are_tested_by_their_signs() -> None:
    difference = paired_difference(rows([0.75] * 8), rows([0.25] * 8))
    assert difference.p_value == pytest.approx(2 / 2**8)
    assert difference.value == 0.5
    assert difference.verdict == "higher"
    odd = paired_difference(rows([2**-0.5] * 8), rows([0.25] * 8))  # a share of no few draws
    assert odd.p_value is None and odd.verdict == "higher"


def test_fractions_get_students_interval_with_a_gain_and_a_loss_added() -> None:
    first, second = [0.9, 0.5, 1.0, 0.2, 0.7, 0.4], [0.8, 0.5, 0.7, 0.3, 0.6, 0.2]
    delta = [*(a - b for a, b in zip(first, second, strict=True)), 0.3, -0.3]
    mean = sum(delta) / 8
    variance = sum((d - mean) ** 2 for d in delta) / 8 / 8
    half = 2.570581835636197 * variance**0.5  # t of 5 degrees of freedom
    difference = paired_difference(rows(first), rows(second))
    assert difference.low == pytest.approx(mean - half)
    assert difference.high == pytest.approx(mean + half)


def test_few_batches_show_less_than_as_many_images() -> None:
    scores = [1.0] * 30 + [0.0] * 34
    alone = paired_difference(rows(scores), rows([0.0] * 64))
    batched = paired_difference(rows(scores, 16), rows([0.0] * 64))
    clustered = paired_difference(rows(scores, 16), rows([0.0] * 64), "batch")
    assert alone == batched
    assert alone.verdict == "higher"
    assert clustered.p_value is not None and alone.p_value is not None
    assert clustered.p_value > 0.05 > alone.p_value
    assert clustered.verdict == "no difference shown"


def test_one_batch_gives_no_interval_and_no_verdict() -> None:
    difference = paired_difference(rows([1.0] * 30, 30), rows([0.0] * 30), "batch")
    assert (difference.value, difference.low, difference.high) == (1, None, None)
    assert difference.verdict == "no difference shown"


def test_other_images_are_refused() -> None:
    with pytest.raises(UserError, match="same data slice"):
        paired_difference(rows([1, 0]), rows([1, 0, 1]))


@pytest.mark.parametrize(
    ("cells", "size", "spread"),
    [((0.2, 0.1), 1, 0.0), ((0.05, 0.05), 1, 0.0), ((0.3, 0.1), 16, 0.1), ((0.1, 0.1), 16, 0.1)],
)
def test_95_percent_intervals_cover_the_true_difference(
    cells: tuple[float, float], size: int, spread: float
) -> None:
    """Gains and losses of 128 pairs; in batches, each batch shifts its pairs towards one side."""
    generator, repeats, hits = np.random.default_rng(3), 200, 0
    gain, loss = cells
    for _ in range(repeats):
        shift = np.repeat(generator.uniform(-spread, spread, 128 // size), size)
        u = generator.random(128)
        won, lost = u < gain + shift, u > 1 - loss + shift
        first = rows(won.astype(float).tolist(), size)
        second = rows(lost.astype(float).tolist(), size)
        difference = paired_difference(first, second, "batch" if size > 1 else "sample")
        assert difference.low is not None and difference.high is not None
        hits += difference.low <= gain - loss <= difference.high
    assert hits / repeats >= 0.93


@pytest.mark.process
@pytest.mark.parametrize("n", [32, 64, 200])
def test_a_small_drop_of_a_stochastic_model_is_found_and_none_is_made_up(n: int) -> None:
    """Scores of 20 draws; the second attack takes up to a tenth off images that waver."""
    draw, held, found, false = np.random.default_rng(4), 0, 0, 0
    for _ in range(400):
        own = draw.beta(0.7, 0.3, n)
        room = np.minimum(own, 1 - own)
        same = np.clip(own + 0.3 * room * draw.standard_normal(n), 0, 1)
        weaker = np.clip(own - 0.4 * room, 0, 1)
        first, second, third = (draw.binomial(20, p, n) / 20 for p in (own, same, weaker))
        null = paired_difference(rows(first.tolist()), rows(second.tolist()))
        drop = paired_difference(rows(first.tolist()), rows(third.tolist()))
        assert null.interval is not None
        held += null.interval[0] <= 0 <= null.interval[1]
        false += null.verdict != "no difference shown"
        found += drop.verdict == "higher"
    assert held >= 0.93 * 400 and false <= 0.07 * 400
    assert found >= {32: 0.5, 64: 0.9, 200: 0.99}[n] * 400


@pytest.mark.process
@pytest.mark.parametrize("correlation", [0.1, 0.3])
def test_p_holds_its_level_where_images_share_a_batch(correlation: float) -> None:
    """Without a difference; each batch favours one of the two results by chance."""
    draw, rejected, times = np.random.default_rng(8), 0, 400
    spread = (1 - correlation) / correlation
    for _ in range(times):
        side = np.repeat(draw.beta(spread / 2, spread / 2, 16), 16)
        discordant, won = draw.random(256) < 0.3, draw.random(256) < side
        first, second = discordant & won, discordant & ~won
        result = paired_difference(
            rows(first.astype(float).tolist(), 16), rows(second.astype(float).tolist()), "batch"
        )
        assert result.p_value is not None
        rejected += result.p_value < 0.05
    assert rejected / times <= 0.075


def test_agreement_counts_images_judged_alike_and_fractions_by_their_distance() -> None:
    first, second = rows([1, 1, 0, 0, 1]), rows([1, 0, 0, 1, 1])
    alike = agreement(first, list(reversed(second)))
    assert alike.value == pytest.approx(3 / 5)
    assert (alike.low, alike.high) == pytest.approx(wilson(3, 5))
    assert agreement(rows([0.75]), rows([0.5])).value == pytest.approx(0.75)
    with pytest.raises(UserError, match="same images"):
        agreement(first, second[:-1])
