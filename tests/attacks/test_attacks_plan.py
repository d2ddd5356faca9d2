"""The passes that a plan counts on for a random model are never exceeded, and not far from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import evaluate
from bench.attacks.registry import attack_info


class Sure(nn.Module):
    """Ten classes, right on every draw and every image of class 0, so that no search ends early."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(36, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits = 0.1 * self.linear(x.flatten(1)) + 0.01 * torch.randn(len(x), 10)
        return logits + torch.eye(10)[0] * 20


CASES: list[tuple[str, dict[str, Any]]] = [
    ("pgd", {"n_iter": 5, "n_restarts": 5}),
    ("pgd", {"n_iter": 5}),
    ("apgd", {"n_iter": 10}),
    ("apgd", {"n_iter": 25, "n_restarts": 2}),
    ("apgd_t", {"n_iter": 10, "n_target_classes": 3}),
    ("fab_t", {"n_iter": 5, "n_target_classes": 2}),
    ("square", {"n_queries": 60}),
    ("autoattack", {"version": "rand", "n_iter": 10}),
    ("autoattack", {"n_iter": 5, "n_queries": 50}),
]


@pytest.mark.process
@pytest.mark.parametrize("eot_iter", [1, 4, 25])
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_no_attack_spends_more_on_a_random_model_than_its_plan(norm: str, eot_iter: int) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(2, 1, 6, 6), torch.zeros(2, dtype=torch.int64)
    attacks = [
        {"attack": name, "params": params, "label": f"{i} {name}"}
        for i, (name, params) in enumerate(CASES)
    ]
    found = evaluate(
        Sure(), x, y, f"{norm}:0.05", attacks, eot_iter=eot_iter, n_draws=2,
        stochastic=True, batch_dependent=False, probe=False, sentinel=False,
    )  # fmt: skip
    for i, (name, params) in enumerate(CASES):
        info = attack_info(name, params, norm)
        assert info.passes_per_image is not None
        planned = info.passes_per_image * eot_iter + info.again.spent(eot_iter)
        spent = max(row.forwards + row.backwards for row in found[f"{i} {name}"].rows)
        assert 0.5 * planned < spent <= planned, (name, params, spent, planned)
