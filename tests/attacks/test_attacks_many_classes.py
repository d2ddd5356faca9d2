"""DeepFool and FAB where there are many classes: what they look at, and how much they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.attacks import common, get_attack, parse_params
from bench.attacks.base import Budget
from bench.attacks.declared import DeepFoolParams
from bench.attacks.registry import attack_info
from bench.oracle import Oracle, QueryRules

N, CLASSES = 4, 40


class Linear(nn.Module):
    """Logits of 40 classes, linear in the image: the nearest boundary has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(48, CLASSES).double()
        self.largest = 0

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(x.double().flatten(1)).float())


@pytest.fixture
def model() -> Linear:
    return Linear().eval()


def images(model: Linear) -> tuple[Tensor, Tensor]:
    x = 0.4 + 0.2 * torch.rand(N, 3, 4, 4)
    return x, model(x).argmax(1)


def attacked(
    model: nn.Module, x: Tensor, y: Tensor, name: str, params: Mapping[str, Any]
) -> Tensor:
    attack = get_attack(name)
    oracle = Oracle(model, x, CLASSES, QueryRules())
    found = attack.run(oracle, x, y, Budget("l2", (10.0,)), parse_params(attack, params), 0)
    assert isinstance(found, Tensor)
    return found


def nearest(model: Linear, x: Tensor, y: Tensor, n: int) -> Tensor:
    """Returns the l2 distances (n,) to the nearest of the boundaries to the likeliest classes."""
    weight, z = model.fc.weight, model(x).double()
    likeliest = z.topk(n, dim=1).indices
    gap = z.gather(1, y[:, None]) - z.gather(1, likeliest)
    far = gap / (weight[y][:, None] - weight[likeliest]).norm(dim=2)
    return far.masked_fill(likeliest == y[:, None], torch.inf).amin(1)


@pytest.mark.parametrize("n", [2, 10, CLASSES, 1000])
def test_deepfool_looks_at_the_likeliest_classes(model: Linear, n: int) -> None:
    x, y = images(model)
    x_adv = attacked(model, x, y, "deepfool", {"n_candidates": n, "overshoot": 0})
    distance = (x_adv - x).flatten(1).norm(dim=1).double()
    # A step ends 1e-4 beyond the boundary.
    torch.testing.assert_close(
        distance, nearest(model, x, y, min(n, CLASSES)) + 1e-4, atol=3e-5, rtol=1e-4
    )


def test_ten_classes_are_looked_at_unless_that_is_said(model: Linear) -> None:
    x, y = images(model)
    ten = attacked(model, x, y, "deepfool", {"n_candidates": 10})
    assert torch.equal(attacked(model, x, y, "deepfool", {}), ten)


def test_the_number_of_classes_looked_at_is_part_of_the_identity() -> None:
    """Once all classes were looked at: those rows are of version 2, and not served for these."""
    usual, more = (attack_info("deepfool", p, "l2") for p in ({}, {"n_candidates": 20}))
    assert usual.params == {"n_iter": 50, "overshoot": 0.02, "n_candidates": 10}
    assert more.params == {"n_iter": 50, "overshoot": 0.02, "n_candidates": 20}
    assert DeepFoolParams.model_validate(more.params).n_candidates == 20
    assert usual.version == more.version == 3
    assert usual.passes_per_image == 121
    assert more.passes_per_image == 221, "the plan counts a backward pass for each class"


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("deepfool", {"n_candidates": CLASSES, "n_iter": 4}),
        ("deepfool", {"n_candidates": 7, "n_iter": 4}),
        ("autoattack", {"version": "custom", "components": ["fab"], "n_iter": 5}),
    ],
)
def test_what_is_looked_at_in_turns_gives_the_same_and_holds_little(
    model: Linear, name: str, params: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = images(model)
    asked: list[int] = []
    jacobian = Oracle.jacobian

    def watched(self: Oracle, *args: Any) -> tuple[Tensor, Tensor]:
        found = jacobian(self, *args)
        asked.append(found[1].numel())
        return found

    monkeypatch.setattr(Oracle, "jacobian", watched)
    at_once = attacked(model, x, y, name, params)
    assert max(asked) > 1000 and (at_once != x).any()
    asked.clear()
    monkeypatch.setattr(common, "SLOPES", 1000)
    in_turns = attacked(model, x, y, name, params)
    assert max(asked) <= 1000
    assert torch.equal(in_turns, at_once)
