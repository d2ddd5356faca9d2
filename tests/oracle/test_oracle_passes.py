"""The oracle: what it counts, and what it keeps to itself."""

from __future__ import annotations

import torch
from torch import nn

from bench.oracle import Oracle, frozen


def test_counts_samples_of_forward_and_backward_passes() -> None:
    oracle = Oracle(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 3)
    x = torch.rand(5, 1, 2, 2, requires_grad=True)
    oracle.logits(x.detach())
    assert (oracle.passes.forwards, oracle.passes.backwards) == (5, 0)
    logits = oracle.module()(x)
    torch.autograd.grad(logits[:, 0].sum(), x, retain_graph=True)
    torch.autograd.grad(logits[:, 1].sum(), x)
    assert (oracle.passes.forwards, oracle.passes.backwards) == (10, 10)


def test_gradient_equals_the_models_own() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh())
    x = torch.rand(5, 1, 2, 2, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    (found,) = torch.autograd.grad(Oracle(model, 3).module()(x).square().sum(), x)
    assert torch.equal(found, expected)


def test_view_does_not_reach_into_the_model() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    view = Oracle(model, 3).module()
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
