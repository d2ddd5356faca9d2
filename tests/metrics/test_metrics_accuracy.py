"""Accuracies from rows, each by hand on a few images."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.core.result import Row
from bench.metrics import (
    attack_success_rate,
    clean_accuracy,
    majority_accuracy,
    median_distance,
    robust_accuracy,
    wilson,
    worst_case_accuracy,
    worst_of_draws_accuracy,
)


def row(index: int, clean: float, robust: float | None, **changes: object) -> Row:
    label = 5
    base = Row(
        index=index,
        label=label,
        clean_pred=label if clean > 0.5 else 0,
        clean_correct=clean,
        adv_pred=-1 if robust is None else label if robust > 0.5 else 0,
        adv_correct=robust,
        robust=robust,
        played="adv",
        linf=0.1,
        l2=1.0,
        status="ok",
        batch=index // 2,
        forwards=1.0,
        backwards=1.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


ROWS = [row(0, 1, 1), row(1, 1, 0), row(2, 0, 0), row(3, 1, 1)]


def test_clean_and_robust_accuracy_are_means_over_all_images() -> None:
    assert clean_accuracy(ROWS).value == 0.75
    estimate = robust_accuracy(ROWS)
    assert (estimate.value, estimate.n) == (0.5, 4)
    assert (estimate.low, estimate.high) == wilson(2, 4)


def test_label_noise_of_ten_percent_scores_ninety() -> None:
    """Right in 18 of 20 draws everywhere: 90 %, not the share that is never broken once."""
    rows = [row(i, 0.9, 0.9) for i in range(50)]
    assert robust_accuracy(rows).value == pytest.approx(0.9)
    assert worst_case_accuracy([rows, rows]).value == pytest.approx(0.9)


def test_batches_are_the_clusters_where_asked() -> None:
    assert robust_accuracy(ROWS, "batch").method == "wilson, 2 batches as clusters"


def test_success_rate_leaves_out_what_was_wrong_already() -> None:
    estimate = attack_success_rate(ROWS)
    assert estimate is not None
    assert (estimate.value, estimate.n) == (pytest.approx(1 / 3), 3)
    assert attack_success_rate([row(0, 0, 0)]) is None


def test_worst_case_takes_the_minimum_per_image_not_of_the_means() -> None:
    first = [row(0, 1, 1), row(1, 1, 0), row(2, 1, 1), row(3, 1, 1)]
    second = [row(0, 1, 0), row(1, 1, 1), row(2, 1, 1), row(3, 1, 1)]
    assert worst_case_accuracy([first, list(reversed(second))]).value == 0.5


def test_worst_case_of_a_stochastic_model_does_not_count_its_luckiest_draws() -> None:
    """Eight equal attacks on images that are right on 7 of 10 draws, scored on 20."""
    draw, n = np.random.default_rng(2), 400
    scored, other = (draw.binomial(20, 0.7, (8, n)) / 20 for _ in range(2))
    cells = [
        [row(i, 1, float(scored[a, i]), choice=float(other[a, i])) for i in range(n)]
        for a in range(8)
    ]
    assert worst_case_accuracy(cells).value == pytest.approx(0.7, abs=0.015)
    blind = [[replace(each, choice=None) for each in rows] for rows in cells]
    assert worst_case_accuracy(blind).value < 0.6  # what it would be
    weaker = [replace(each, choice=1.0) for each in cells[0]]
    assert worst_case_accuracy([cells[1], weaker]).value == robust_accuracy(cells[1]).value


def test_worst_case_of_whole_batches_takes_one_attack_a_batch() -> None:
    first = [replace(row(i, 1, robust), batch=i // 2) for i, robust in enumerate([0, 1, 0, 1])]
    second = [replace(row(i, 1, robust), batch=i // 2) for i, robust in enumerate([1, 0, 0, 0])]
    assert worst_case_accuracy([first, second], "batch").value == 0
    assert worst_case_accuracy([first, second], "batch", whole_batches=True).value == 0.25


def test_success_rate_of_a_stochastic_model_is_zero_where_nothing_is_lost() -> None:
    """Images that were right on all draws by luck would be wrong on some fresh ones."""
    noisy = [row(0, 1, 0.9), row(1, 0.8, 0.9), row(2, 0.9, 0.9)]
    estimate = attack_success_rate(noisy)
    assert estimate is not None
    assert (estimate.value, estimate.low) == (pytest.approx(0), None)
    lost = attack_success_rate([row(0, 1, 0.5), row(1, 0.5, 0.25)])
    assert lost is not None and lost.value == pytest.approx(0.5)


def test_worst_case_needs_the_same_images_and_batches() -> None:
    other = [*ROWS[:3], row(9, 1, 1)]
    for wrong in (other, ROWS[:3], [*ROWS, ROWS[0]]):
        with pytest.raises(UserError, match="same data slice"):
            worst_case_accuracy([ROWS, wrong])
    regrouped = [replace(r, batch=r.index) for r in ROWS]
    with pytest.raises(UserError, match="same batch_size"):
        worst_case_accuracy([ROWS, regrouped], "batch")
    merged = [replace(r, batch=0) for r in ROWS]
    with pytest.raises(UserError, match="same batch_size"):
        worst_case_accuracy([ROWS, merged], "batch")
    assert worst_case_accuracy([ROWS, regrouped]).value == 0.5


def test_unverified_rows_have_no_accuracy() -> None:
    rows = [*ROWS, row(4, 1, None, status="out_of_ball")]
    for compute in (robust_accuracy, attack_success_rate):
        with pytest.raises(ValueError, match="incomplete"):
            compute(rows)


def test_median_distance_is_of_the_images_that_were_broken_within_eps_or_not() -> None:
    rows = [
        row(0, 1, 0, linf=0.1, l2=1.0),
        row(1, 1, 1, adv_pred=2, linf=0.5, l2=3.0, status="beyond_eps", played="clean"),
        row(2, 1, 0, linf=0.2, l2=8.0),
        row(3, 1, 1, linf=0.01, l2=0.1),
        row(4, 0, 0, linf=0.0, l2=0.0),
        row(5, 1, None, linf=math.inf, l2=math.inf, status="not_finite"),
    ]
    linf, l2 = median_distance(rows, "linf"), median_distance(rows, "l2")
    assert linf is not None and l2 is not None
    assert (linf.value, linf.n) == (0.2, 3)
    assert l2.value == 3.0
    assert median_distance([row(0, 1, 1)], "linf") is None
    with pytest.raises(ValueError, match="linf or l2"):
        median_distance(rows, "l1")


def test_votes_and_worst_draws_of_a_stochastic_model() -> None:
    rows = [row(0, 1, 1), row(1, 1, 0.95), row(2, 1, 0.4), row(3, 0.2, 0.2, played="clean")]
    assert robust_accuracy(rows).value == pytest.approx(2.55 / 4)
    assert majority_accuracy(rows).value == 2 / 4
    assert worst_of_draws_accuracy(rows).value == 1 / 4
    # The image that is played decides, not the one that was proposed.
    swapped = [replace(row(0, 0.2, 0.9, played="clean"), robust=0.2)]
    assert majority_accuracy(swapped).value == 0
    for score in (majority_accuracy, worst_of_draws_accuracy):
        with pytest.raises(ValueError, match="incomplete"):
            score([row(0, 1, None)])
