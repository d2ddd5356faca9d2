"""The oracle: what it counts, and what it keeps to itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench.oracle import LOSSES, Oracle, QueryRules, cross_entropy, frozen
from bench.oracle.passes import PENDING, Passes
from bench.oracle.runner import Cutter


def test_counts_passes_of_each_image() -> None:
    x = torch.rand(5, 1, 2, 2)
    oracle = Oracle(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), x, 3, QueryRules())
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


def test_counts_that_are_added_up_later_are_the_same() -> None:
    passes, expected = Passes(3), torch.zeros(3, dtype=torch.float64)
    for i in range(3 * PENDING // 2):
        rows = torch.tensor([i % 3, 1])
        passes.add("backwards", rows, 1 + i % 2)
        expected.index_add_(0, rows, torch.full((2,), 1.0 + i % 2, dtype=torch.float64))
        if i % 100 == 7:
            assert torch.equal(passes.backwards, expected)
    passes.add("backwards", None, 6)
    passes.backwards += 1
    assert torch.equal(passes.backwards, expected + 3)
    assert passes.forwards.tolist() == [0, 0, 0]


def test_gradient_equals_the_models_own() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh())
    x = torch.rand(5, 1, 2, 2, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    (found,) = torch.autograd.grad(Oracle(model, x, 3, QueryRules()).module()(x).square().sum(), x)
    assert torch.equal(found, expected)


def test_view_does_not_reach_into_the_model() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    view = Oracle(model, torch.rand(2, 1, 2, 2), 3, QueryRules()).module()
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


class OneDrawAPass(nn.Module):
    """Draws one sign for the whole pass, as other people's models may."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sign = torch.randint(2, (), generator=self.generator) * 2 - 1
        return x.flatten(1) * sign


def test_a_pass_with_one_draw_is_no_average_over_draws() -> None:
    """Copies of an image in one pass would all get the same sign, and the mean would be +-1."""
    x = torch.ones(3, 1, 1, 2) * torch.tensor([1.0, 0.0])
    oracle = Oracle(OneDrawAPass(), x, 2, QueryRules(stochastic=True, eot_iter=400))
    found = oracle.query(x, torch.zeros(3, dtype=torch.int64), LOSSES["margin"])
    assert found.logits.abs().max() < 0.2
    assert found.grad is not None and found.grad.abs().max() < 0.2
    assert bool(((found.correct - 0.5).abs() < 0.1).all())
    assert oracle.module()(x).abs().max() < 0.2
    assert oracle.passes.forwards.tolist() == [800] * 3


def test_a_lone_candidate_costs_its_whole_batch() -> None:
    x = torch.rand(4, 1, 1, 2)
    rules = QueryRules(batch_dependent=True, adversary="single")
    oracle = Oracle(nn.Flatten(), x, 2, rules)
    oracle.query(x[:1], torch.tensor([0]), cross_entropy, rows=torch.tensor([2]))
    assert oracle.passes.forwards.tolist() == oracle.passes.backwards.tolist() == [0, 0, 4, 0]
    (oracle.module()(x.requires_grad_())).sum().backward()
    assert oracle.passes.forwards.tolist() == oracle.passes.backwards.tolist() == [4, 4, 8, 4]


@pytest.mark.parametrize(
    ("total", "sizes"),
    [
        (79, [79]),
        (96, [48, 48]),
        (100, [50, 50]),
        (711, [65] * 10 + [61]),
        (0, []),
        (300, [60] * 5),
    ],
)
def test_passes_are_about_as_large_as_is_fastest(total: int, sizes: list[int]) -> None:
    cutter = Cutter(torch.device("cpu"), 1024, 64, None, False)
    passes = list(cutter.passes(total, 1))
    assert [len(i) for _, i in passes] == sizes
    assert not passes or torch.equal(torch.cat([i for _, i in passes]), torch.arange(total))
    limited = Cutter(torch.device("cpu"), 64, 64, None, False).passes(79, 1)
    assert [len(i) for _, i in limited] == [64, 15], "a limit is one"


@pytest.mark.process
@given(st.integers(1, 5000), st.integers(1, 4), st.sampled_from([None, 64]), st.integers(2, 5))
def test_threads_get_passes_alike_of_every_candidate_and_draw(
    n: int, k: int, good: int | None, threads: int
) -> None:
    passes = list(Cutter(torch.device("cpu"), 1024, good, None, False, threads).passes(n, k))
    assert [begun for begun, _ in passes] == [
        sum(len(i) for _, i in passes[:j]) for j in range(len(passes))
    ]
    assert torch.equal(torch.cat([i for _, i in passes]), torch.arange(n * k) % n)
    assert max(len(i) for _, i in passes) <= (64 if good is None else 96)
    if good is not None:
        assert len(passes) >= min(n * k, threads) // 2, "a thread has nothing to do"
    else:
        other = Cutter(torch.device("cpu"), 1024, None, None, False, 9).passes(n, k)
        assert all(torch.equal(a[1], b[1]) for a, b in zip(passes, other, strict=True))
