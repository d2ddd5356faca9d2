"""The oracle: what it counts, and what it keeps to itself."""

from __future__ import annotations

import torch
from torch import nn

from bench.oracle import Access, Oracle, cross_entropy, frozen


def test_counts_passes_of_each_image() -> None:
    x = torch.rand(5, 1, 2, 2)
    oracle = Oracle(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), x, 3, Access())
    oracle.logits(x)
    logits = oracle.module()(x.requires_grad_())
    torch.autograd.grad(logits[:, 0].sum(), x, retain_graph=True)
    torch.autograd.grad(logits[:, 1].sum(), x)
    assert oracle.passes.forwards.tolist() == [2] * 5
    assert oracle.passes.backwards.tolist() == [2] * 5
    rows = torch.tensor([1, 1, 4])
    oracle.query(x[rows], torch.tensor([0, 1, 2]), cross_entropy, rows=rows)
    assert oracle.passes.forwards.tolist() == [2, 4, 2, 2, 3]
    assert oracle.passes.backwards.tolist() == [2, 4, 2, 2, 3]


def test_gradient_equals_the_models_own() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh())
    x = torch.rand(5, 1, 2, 2, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    (found,) = torch.autograd.grad(Oracle(model, x, 3, Access()).module()(x).square().sum(), x)
    assert torch.equal(found, expected)


def test_view_does_not_reach_into_the_model() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    view = Oracle(model, torch.rand(2, 1, 2, 2), 3, Access()).module()
    view.train()
    view.requires_grad_(True)
    assert not model[2].training
    assert [tuple(p.shape) for p in view.parameters()] == [()]


def test_frozen_restores_every_flag() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    with frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
    assert model.weight.requires_grad and not model.bias.requires_grad
