"""Ranks: ties, upper bounds, batches, and what noise does to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.core.result import Row
from bench.metrics import (
    Contender,
    leaders,
    paired_difference,
    ranks,
    worst_case_accuracy,
    worst_case_rows,
)

BASE = Row(0, 1, 1, 1.0, 1, 1.0, 1.0, "adv", 0.1, 1.0, "ok", 0, 1.0, 1.0)


def rows(scores: list[float], batch_size: int = 1) -> list[Row]:
    return [
        replace(BASE, index=i, robust=score, batch=i // batch_size)
        for i, score in enumerate(scores)
    ]


def share(n: int, of: int = 100) -> list[float]:
    return [1.0] * n + [0.0] * (of - n)


def test_what_differs_is_ranked_and_what_does_not_is_tied() -> None:
    found = ranks([Contender(rows(share(n)), "sample") for n in (50, 80, 52, 10)])
    assert found == [2, 1, 2, 4]


def test_pairing_tells_apart_what_overlapping_intervals_do_not() -> None:
    """60 and 50 of 100: Wilson's intervals overlap, but all 10 differences point one way."""
    assert ranks([Contender(rows(share(n)), "sample") for n in (60, 50)]) == [1, 2]
    apart = rows(share(50)), rows(list(reversed(share(60))))
    assert ranks([Contender(one, "sample") for one in apart]) == [1, 1]


def test_an_upper_bound_pushes_nobody_down() -> None:
    bound = Contender(rows(share(90)), "sample", upper_bound=True)
    other = Contender(rows(share(50)), "sample")
    assert ranks([bound, other]) == [1, 1]
    low = Contender(rows(share(10)), "sample", upper_bound=True)
    assert ranks([low, other]) == [2, 1]


def test_the_coarser_batches_are_the_clusters_in_any_order() -> None:
    batched = Contender(rows(share(60), 50), "batch")
    finer = Contender(rows(share(20), 5), "batch")
    alone = Contender(rows(share(20)), "sample")
    for other in (finer, alone):
        expected = paired_difference(batched.rows, other.rows, "batch").verdict
        assert expected == "no difference shown"
        assert ranks([batched, other]) == ranks([other, batched]) == [1, 1]


def test_leaders_are_the_best_and_what_is_not_shown_to_be_lower() -> None:
    contenders = [Contender(rows(share(n)), "sample") for n in (50, 80, 79, 60, 80)]
    assert leaders(contenders) == [False, True, True, False, True]
    assert leaders([Contender(rows(share(60)), "sample")] * 2) == [True, True]
    assert leaders([]) == []


def test_other_images_are_refused() -> None:
    with pytest.raises(UserError, match="same data slice"):
        ranks([Contender(rows(share(5, 10)), "sample"), Contender(rows(share(5, 9)), "sample")])


def test_equal_models_are_seldom_told_apart() -> None:
    generator, repeats, apart = np.random.default_rng(4), 200, 0
    for _ in range(repeats):
        both = [rows((generator.random(64) < 0.6).astype(float).tolist()) for _ in range(2)]
        apart += ranks([Contender(one, "sample") for one in both]) != [1, 1]
    assert apart / repeats <= 0.08


def test_leaders_are_the_highest_and_what_does_not_differ_from_it() -> None:
    field = [Contender(rows(share(n)), "sample") for n in (50, 80, 79, 80, 10)]
    assert leaders(field) == [False, True, True, True, False]
    assert leaders([]) == [] and leaders(field[:1]) == [True]
    few = [Contender(rows(share(n, 16)), "sample") for n in (15, 14, 4)]
    assert leaders(few) == [True, True, False]


def test_worst_case_rows_have_the_smallest_score_of_each_image() -> None:
    cells = [rows([1.0, 0.5, 1.0]), list(reversed(rows([0.2, 0.9, 1.0])))]
    worst = worst_case_rows(cells)
    assert [row.robust for row in worst] == [0.2, 0.5, 1.0]
    assert worst_case_accuracy(cells).value == pytest.approx(1.7 / 3)
