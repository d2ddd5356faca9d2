"""The verifier against planted candidates whose right verdict is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bench.attacks.base import Budget
from bench.verify import ModelGuard, Scoring, check_candidate, judge, verify_batch

LINF = Budget("linf", (0.1,))
ONE_DRAW = Scoring(n_draws=1, seed=0, stochastic=False)


class Threshold(nn.Module):
    """Class 1 where the mean pixel exceeds 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)


class BatchMean(nn.Module):
    """Class 1 where an image is brighter than its batch: batch-dependent."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        centred = mean - mean.mean()
        return torch.stack([-centred, centred], 1)


def images(*levels: float) -> Tensor:
    return torch.stack([torch.full((1, 2, 2), level) for level in levels])


def test_success_and_failure_of_valid_candidates() -> None:
    x, y = images(0.45, 0.2), torch.tensor([0, 0])
    rows = verify_batch(Threshold(), x, y, x + 0.1, LINF, "bounded", ONE_DRAW)
    assert [r.status for r in rows] == ["ok", "ok"]
    assert [r.robust for r in rows] == [0.0, 1.0]
    assert [r.adv_pred for r in rows] == [1, 0]
    assert rows[0].linf == pytest.approx(0.1, abs=1e-7)
    assert rows[0].l2 == pytest.approx(0.2, abs=1e-6)


def test_an_image_that_is_wrong_already_stays_wrong() -> None:
    # the attack repairs the prediction; the adversary would rather play the clean image
    x, y = images(0.55), torch.tensor([0])
    (row,) = verify_batch(Threshold(), x, y, x - 0.1, LINF, "bounded", ONE_DRAW)
    assert (row.clean_correct, row.adv_correct, row.robust, row.played) == (0.0, 1.0, 0.0, "clean")


class Noisy(nn.Module):
    """Right in nine draws of ten, whatever it is shown."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wrong = torch.rand(len(x)) < 0.1
        return torch.stack([(~wrong).float(), wrong.float()], 1)


@pytest.mark.parametrize("n_draws", [1, 5])
def test_one_draw_of_a_stochastic_model_is_not_judged_by_itself(n_draws: int) -> None:
    x, y = torch.full((4000, 1, 2, 2), 0.5), torch.zeros(4000, dtype=torch.long)
    scoring = Scoring(n_draws=n_draws, seed=0, stochastic=True)
    rows = verify_batch(Noisy(), x, y, x, LINF, "bounded", scoring)
    # Broken once, so broken, would be 81 % for one draw; a standard deviation is 0.5 points.
    assert sum(float(r.robust or 0) for r in rows) / 4000 == pytest.approx(0.9, abs=0.02)


def test_the_border_of_an_l2_ball_is_wide_enough_for_sums_in_float32() -> None:
    x = torch.full((1, 3, 224, 224), 0.5)
    delta = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    ball = Budget("l2", (5.0, 5.0, 5.0))
    for length, status in ((5 * (1 + 5e-6), "ok"), (5 * (1 + 3e-5), "out_of_ball")):
        x_adv = x + (delta.double() * (length / delta.double().norm())).float()
        assert judge(x, x_adv, ball, "bounded") == [status]


def test_fixed_path_scores_the_candidate_as_it_is() -> None:
    x, y = images(0.55), torch.tensor([0])
    scoring = Scoring(n_draws=1, seed=0, stochastic=False, may_decline=False)
    (row,) = verify_batch(Threshold(), x, y, x - 0.1, LINF, "bounded", scoring)
    assert (row.robust, row.played) == (1.0, "adv")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (0.11, "out_of_ball"),
        (0.1 + 5e-7, "ok"),
        (0.1 + 3e-6, "out_of_ball"),
        (math.nan, "not_finite"),
        (math.inf, "not_finite"),
    ],
)
def test_status_of_bounded_candidates(change: float, status: str) -> None:
    x = images(0.5)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] += change
    assert judge(x, x_adv, LINF, "bounded") == [status]


def test_leaving_the_box_is_a_violation_even_inside_the_ball() -> None:
    x = images(0.95, 0.05)
    assert judge(x, x + torch.tensor([0.09, -0.09]).view(2, 1, 1, 1), LINF, "bounded") == [
        "out_of_box",
        "out_of_box",
    ]


def test_l2_ball() -> None:
    x, budget = images(0.5), Budget("l2", (0.1,))
    assert judge(x, x + 0.0499, budget, "bounded") == ["ok"]
    assert judge(x, x + 0.0501, budget, "bounded") == ["out_of_ball"]


def test_per_channel_radius() -> None:
    x = torch.full((1, 2, 2, 2), 0.5)
    budget = Budget("linf", (0.1, 0.2))
    inside, outside = x.clone(), x.clone()
    inside[:, 1] += 0.15
    outside[:, 0] += 0.15
    assert judge(x, inside, budget, "bounded") == ["ok"]
    assert judge(x, outside, budget, "bounded") == ["out_of_ball"]


def test_violations_are_never_scored() -> None:
    x, y = images(0.45, 0.45), torch.tensor([0, 0])
    x_adv = x.clone()
    x_adv[0] += 0.3
    x_adv[1] += 0.09
    rows = verify_batch(Threshold(), x, y, x_adv, LINF, "bounded", ONE_DRAW)
    assert (rows[0].status, rows[0].robust, rows[0].adv_correct) == ("out_of_ball", None, None)
    assert (rows[1].status, rows[1].robust) == ("ok", 0.0)


def test_minimum_norm_attack_succeeds_only_within_eps() -> None:
    x, y = images(0.45, 0.2), torch.tensor([0, 0])
    x_adv = images(0.51, 0.51)
    rows = verify_batch(Threshold(), x, y, x_adv, LINF, "minimum-norm", ONE_DRAW)
    assert [r.status for r in rows] == ["ok", "beyond_eps"]
    assert [r.robust for r in rows] == [0.0, 1.0]
    assert [r.adv_pred for r in rows] == [1, 1]  # the distance of both successes is still reported


def test_batch_dependent_batch_is_scored_whole() -> None:
    # brightening the second image turns the first, which the attack left alone
    x, y = images(0.50, 0.48), torch.tensor([1, 0])
    x_adv = images(0.50, 0.54)
    whole = Scoring(n_draws=1, seed=0, stochastic=False, batch_dependent=True)
    rows = verify_batch(BatchMean(), x, y, x_adv, LINF, "bounded", whole)
    assert [r.clean_correct for r in rows] == [1.0, 1.0]
    assert [r.robust for r in rows] == [0.0, 0.0]


def test_one_violation_spoils_a_batch_dependent_batch() -> None:
    x, y = images(0.50, 0.48), torch.tensor([1, 0])
    whole = Scoring(n_draws=1, seed=0, stochastic=False, batch_dependent=True)
    rows = verify_batch(BatchMean(), x, y, images(0.50, 0.80), LINF, "bounded", whole)
    assert [r.robust for r in rows] == [None, None]


def test_beyond_eps_image_is_clean_in_the_batch_that_is_played() -> None:
    x, y = images(0.50, 0.40), torch.tensor([1, 0])
    whole = Scoring(n_draws=1, seed=0, stochastic=False, batch_dependent=True)
    rows = verify_batch(BatchMean(), x, y, images(0.45, 0.80), LINF, "minimum-norm", whole)
    assert [r.status for r in rows] == ["ok", "beyond_eps"]
    assert [r.robust for r in rows] == [1.0, 1.0]  # 0.45 against a clean 0.40 is still brighter


def test_nan_logits_are_never_right() -> None:
    class NanAbove(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = Threshold()(x)
            return torch.where(x.flatten(1).mean(1, keepdim=True) > 0.3, torch.nan, logits)

    x, y = images(0.25), torch.tensor([0])
    (row,) = verify_batch(NanAbove(), x, y, x + 0.1, LINF, "bounded", ONE_DRAW)
    assert (row.clean_correct, row.adv_correct, row.adv_pred) == (1.0, 0.0, -1)


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (None, "NoneType"),
        (torch.zeros(2, 1, 2, 2), r"shape \(2, 1, 2, 2\)"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "uint8"),
    ],
)
def test_what_is_not_an_image_batch_is_refused(candidate: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_candidate(images(0.5), candidate)


def test_guard_finds_and_undoes_every_kind_of_change() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval()
    guard = ModelGuard(model)
    assert guard.changes() == []
    model[1].train()
    model(torch.rand(4, 1, 2, 2))  # moves the running statistics
    with torch.no_grad():
        model[0].weight.add_(1e-4)
    found = " ".join(guard.changes())
    assert "mode of 1" in found
    assert "values of 1.running_mean" in found
    assert "values of 0.weight" in found
    assert guard.changes() == []
    assert not model[1].training
