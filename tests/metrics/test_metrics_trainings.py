"""Several trainings of one recipe: variance components by hand, coverage by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bench.core.errors import UserError
from bench.core.result import Row
from bench.metrics import estimate_mean, trainings_accuracy, trainings_difference
from bench.metrics.trainings import crossed_difference, crossed_mean
from tools.coverage import Seeds, seeds_scores

BASE = Row(0, 1, 1, 1.0, 1, 1.0, 1.0, "adv", 0.1, 1.0, "ok", 0, 1.0, 1.0)


def rows(scores: list[float], batch_size: int = 1) -> list[Row]:
    return [
        replace(BASE, index=i, robust=score, batch=i // batch_size)
        for i, score in enumerate(scores)
    ]


def test_equal_trainings_are_as_certain_as_one() -> None:
    """Their images are all that varies; right and wrong on the same images tells no more."""
    one = rows([1, 1, 0, 1, 0, 1, 1, 1])
    found = trainings_accuracy([one, one, list(reversed(one))])
    alone = estimate_mean([1, 1, 0, 1, 0, 1, 1, 1])
    assert (found.spread, found.values, found.n_trainings) == (0, (0.75,) * 3, 3)
    assert (found.estimate.value, found.estimate.interval) == (0.75, alone.interval)


def test_the_part_of_the_trainings_is_students_by_hand() -> None:
    """Images are all alike, so trainings are all that varies, and each is known for certain."""
    table = np.repeat([[0.6], [0.7], [0.9]], 10_000, axis=1)
    found = crossed_mean(table)
    mean, sd = np.mean([0.6, 0.7, 0.9]), np.std([0.6, 0.7, 0.9], ddof=1)
    low, high = stats.t.interval(0.95, 2, mean, sd / 3**0.5)
    assert found.value == pytest.approx(mean)
    assert found.low == pytest.approx(low, abs=2e-4)
    assert found.high == 1.0 < high


def test_variance_components_by_hand() -> None:
    """Two trainings on four images; sums of squares of the analysis of variance on paper."""
    table = np.array([[1.0, 1, 1, 0], [1, 0, 0, 0]])
    # Means 0.75 and 0.25 of mean 0.5: 4 (0.25^2 + 0.25^2) / 1 = 0.5 between trainings. What is left
    # of each score is 0.25 in size: 8 (0.25^2) / 3 = 1/6. So (0.5 - 1/6) / 8 = 1/24.
    half = stats.t.ppf(0.975, 1) * (1 / 24) ** 0.5
    images = estimate_mean([1.0, 0.5, 0.5, 0.0])
    assert images.low is not None
    found = crossed_mean(table)
    expected = max(0.0, 0.5 - ((0.5 - images.low) ** 2 + half**2) ** 0.5)
    assert found.low == pytest.approx(expected)
    assert found.method == "wilson; 2 trainings, student"


def test_recipes_are_compared_on_the_same_images() -> None:
    first = [rows([1, 1, 1, 1, 0, 1] * 20), rows([1, 1, 1, 0, 1, 1] * 20)]
    second = [rows([1, 0, 0, 0, 0, 1] * 20), rows([0, 0, 1, 0, 0, 1] * 20), rows([0] * 120)]
    found = trainings_difference(first, [list(reversed(one)) for one in second])
    assert found.value == pytest.approx(5 / 6 - 2 / 9)
    assert found.n == 120 and found.p_value is None
    assert found.method.endswith("2 and 3 trainings, student")
    turned = trainings_difference(second, first)
    assert found.low is not None and turned.high is not None
    assert found.low == pytest.approx(-turned.high)


def test_one_batch_has_no_interval_and_one_training_is_refused() -> None:
    table = [rows([1, 0, 1, 1], 4), rows([1, 1, 1, 0], 4)]
    assert trainings_accuracy(table, "batch").estimate.interval is None
    with pytest.raises(UserError, match="two trainings of a recipe or more, found 1"):
        trainings_accuracy(table[:1])
    with pytest.raises(UserError, match="found 1"):
        trainings_difference(table, table[:1])
    with pytest.raises(UserError, match="the same images"):
        trainings_accuracy([table[0], rows([1, 0])])


@pytest.mark.parametrize("kind", [Seeds(3, 200, 0.0), Seeds(3, 200, 0.04), Seeds(5, 200, 0.04)])
def test_intervals_keep_their_promise_and_images_alone_do_not(kind: Seeds) -> None:
    draw, times = np.random.default_rng(8), 400
    held = alone = shown = 0
    for _ in range(times):
        scores, truth = seeds_scores(kind, draw)
        found, narrow = crossed_mean(scores), estimate_mean(scores.mean(0).tolist())
        assert found.low is not None and found.high is not None
        assert narrow.low is not None and narrow.high is not None
        held += found.low <= truth <= found.high
        alone += narrow.low <= truth <= narrow.high
        other, _ = seeds_scores(kind, draw)
        shown += crossed_difference(scores, other).verdict != "no difference shown"
    assert held / times > 0.93
    # The two recipes are on other images here, so their difference is no smaller than it may be.
    assert shown / times < 0.07
    if kind.spread and kind.trainings == 3:
        assert alone / times < 0.93, "else the trainings' part would be needless"
