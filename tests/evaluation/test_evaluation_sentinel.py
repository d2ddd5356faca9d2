"""The sentinel behind ``evaluate()``: weak attacks are called so, and sound verdicts are not."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import evaluate
from bench.alarms.sentinel import SecondLook
from bench.evaluation.api import NOT_LOOKED
from bench.evaluation.result import EvaluationResult
from bench.evaluation.sentinel import NEEDLESS_FOR_BATCHES


def codes(result: EvaluationResult) -> set[str]:
    return {a.partition(":")[0] for c in result.cells.values() for a in c.info.alarms}


def linear(n: int = 64) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model of five classes, and images that it classifies right by various margins."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = 0.2 + 0.6 * torch.rand(n, 1, 8, 8, generator=generator)
    return model, x, model(x).argmax(1)


@pytest.mark.process
@pytest.mark.parametrize(
    "weak",
    [
        ("noise", {"n_trials": 2}),
        ("pgd", {"n_iter": 5, "alpha": 0.0005, "random_start": False}),
        ("cw", {"c": 1e-6, "binary_search_steps": 1, "n_iter": 5}),
        ("square", {"n_queries": 5}),
    ],
)
def test_weak_attacks_are_called_so(weak: Any) -> None:
    model, x, y = linear()
    result = evaluate(model, x, y, "linf:0.05", [weak])
    strong = evaluate(model, x, y, "linf:0.05", ["autoattack"], sentinel=True)
    assert "weak_attack" in codes(result)
    assert "weak_attack" not in codes(strong) and strong.sentinel == ""
    found = re.search(r"leaves (\d+)% where", result.sentinel)
    assert found is not None and result.sentinel in repr(result)
    exact = strong.robust_accuracy("autoattack").value
    assert int(found.group(1)) / 100 == pytest.approx(exact, abs=0.1)  # of 32 of the images


@pytest.mark.parametrize(
    ("standing", "n", "lost", "weak"),
    [
        (1.0, 32, 3, False),  # 9 points
        (1.0, 32, 5, True),
        (0.42, 10, 3, False),  # 13 points of 10 images; where PGD is 5 weak, so it was on CIFAR-10
        (0.375, 6, 3, False),
        (0.42, 32, 10, True),
        (0.42, 32, 7, False),  # 9 points
        (0.9, 32, 32, True),
        (0.0, 0, 0, False),
    ],
)
def test_few_lost_images_of_few_call_no_attack_weak(
    standing: float, n: int, lost: float, weak: bool
) -> None:
    left = standing * (1 - lost / max(n, 1))
    assert SecondLook(standing, left, n, lost).weak is weak


def in_reach(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Returns the linf distance (n,) of each image to the boundary of a linear model, exactly."""
    w, z = next(model.parameters()).detach(), model(x).detach()
    apart = (w[y][:, None] - w[None]).abs().sum(2)
    ways = (z.gather(1, y[:, None]) - z) / apart
    return ways.scatter(1, y[:, None], torch.inf).amin(1)


@pytest.mark.process
@pytest.mark.parametrize(("further", "weak"), [(16, True), (0, False)])
def test_where_32_images_leave_it_in_doubt_the_sentinel_looks_at_more(
    further: int, weak: bool
) -> None:
    model, x, y = linear(4000)
    reach = in_reach(model, x, y)
    short, eps = 0.010, 0.020  # PGD takes ten steps of 0.001: it breaks what lies within 0.010
    lost = ((reach > short * 1.05) & (reach < eps * 0.95)).nonzero()[:, 0]
    sound = (reach > eps * 1.2).nonzero()[:, 0]
    n_sound = 96 - further
    order = torch.cat([lost[:4], sound[:28], lost[4 : 4 + further], sound[28 : 28 + n_sound]])
    attack = ("pgd", {"n_iter": 10, "alpha": 0.001, "random_start": False})
    result = evaluate(model, x[order], y[order], f"linf:{eps}", [attack])
    assert result.robust_accuracy("pgd").value == 1.0
    assert "on 128 images" in result.sentinel
    assert ("weak_attack" in codes(result)) is weak


def test_a_model_whose_images_share_statistics_has_no_sentinel_and_that_is_said() -> None:
    _, x, y = linear()
    model = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten())
    result = evaluate(model, x, y % 5, "linf:0.02", [("noise", {"n_trials": 2})])
    assert result.sentinel == NEEDLESS_FOR_BATCHES


@pytest.mark.process
def test_a_sound_verdict_is_left_alone_and_a_spared_sentinel_said() -> None:
    model, x, y = linear()
    result = evaluate(model, x, y, "linf:0.02", ["pgd"])
    assert result.sentinel and not codes(result)
    spared = evaluate(model, x, y, "linf:0.05", ["noise"], sentinel=False)
    assert "weak_attack" not in codes(spared)
    assert NOT_LOOKED in repr(spared)


class CutFarAway(nn.Module):
    """Passes no gradient on farther than half the radius from the images that it knows."""

    def __init__(self, net: nn.Module, known: Tensor) -> None:
        super().__init__()
        self.net, self.known = net, known

    def forward(self, x: Tensor) -> Tensor:
        gap = (x[:, None] - self.known[None].to(x)).abs().flatten(2).amax(2).amin(1)
        return torch.as_tensor(self.net(torch.where((gap > 0.02).view(-1, 1, 1, 1), x.detach(), x)))


@pytest.mark.process
def test_a_gradient_that_is_cut_where_attacks_end_is_noticed_there() -> None:
    net, x, y = linear()
    result = evaluate(CutFarAway(net, x), x, y, "linf:0.05", ["bim"])
    assert {"no_gradient_at_end", "probe_misleading_gradient"} <= codes(result)
    info = evaluate(net, x, y, "linf:0.05", ["bim"])["bim"].info
    assert info.zero_gradients == 0
    assert evaluate(net, x, y, "linf:0.05", ["noise"])["noise"].info.zero_gradients is None


class Adapting(nn.Module):
    """Answers otherwise after 300 passes, which no state dict shows."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.passes = net, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return torch.as_tensor(self.net(x)) * (1 if self.passes < 300 else 1.1)


@pytest.mark.process
def test_a_model_that_the_run_itself_changed_is_told() -> None:
    net, x, y = linear()
    result = evaluate(Adapting(net), x, y, "linf:0.01", [("square", {"n_queries": 400})])
    assert "probe_stateful" in codes(result)
