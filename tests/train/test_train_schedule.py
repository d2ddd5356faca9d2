"""Learning rates against PyTorch's own schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import MultiStepLR

from bench.train.recipe import Schedule, rate_fraction


def test_piecewise_is_pytorchs_multi_step() -> None:
    schedule = Schedule(name="piecewise", milestones=(2, 5), factor=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = MultiStepLR(optimizer, [2, 5], 0.1)
    for epoch in range(8):
        for step in range(3):
            found = rate_fraction(schedule, 3 * epoch + step, 24, 3)
            assert found == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_cosine_ends_at_zero_and_is_half_in_the_middle() -> None:
    schedule = Schedule(name="cosine", warmup=0)
    rates = [rate_fraction(schedule, i, 1000, 10) for i in range(1000)]
    expected = [(1 + math.cos(math.pi * (i + 0.5) / 1000)) / 2 for i in range(1000)]
    assert rates == pytest.approx(expected)
    assert rates[0] == pytest.approx(1, abs=1e-3) and rates[-1] == pytest.approx(0, abs=1e-3)


def test_warmup_rises_to_the_peak_and_falls_from_it() -> None:
    for name in ("one-cycle", "cosine"):
        schedule = Schedule.model_validate({"name": name, "warmup": 0.25})
        rates = [rate_fraction(schedule, i, 1000, 10) for i in range(1000)]
        assert max(rates) == pytest.approx(1, abs=5e-3)
        assert rates.index(max(rates)) in (249, 250)
        assert rates[:250] == sorted(rates[:250])
        assert rates[250:] == sorted(rates[250:], reverse=True)
