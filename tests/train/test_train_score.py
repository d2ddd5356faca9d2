from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core.norm_spec import NormSpec
from bench.norms import find_paths, norm_factory, pinned
from bench.train.quality import clean_accuracy


def data(n: int = 50) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 3, 4, 4, generator=generator)
    return x, torch.randint(0, 3, (n,), generator=generator)


def network(norm: Any) -> nn.Module:
    """Norm, pooling of a random projection, 3 classes."""
    layer = norm_factory(NormSpec.model_validate(norm))(3)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    linear = nn.Linear(48, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(3, 48, generator=generator))
        linear.bias.zero_()
        layer.apply(lambda m: m.bias.zero_() if hasattr(m, "bias") else None)
    return nn.Sequential(layer, nn.Flatten(), linear).eval()


@pytest.mark.parametrize("norm", ["bn", {"name": "bn", "stats": "batch"}, "rn"], ids=str)
def test_it_counts_fixed_batches_in_order(norm: Any) -> None:
    model, (x, y) = network(norm), data()
    hits = 0
    for start in (0, 16, 32, 48):
        with torch.no_grad():
            hits += int((model(x[start : start + 16]).argmax(1) == y[start : start + 16]).sum())
    assert clean_accuracy(model, x, y, batch_size=16) == hits / 50


@pytest.mark.process
def test_a_stochastic_model_scores_its_expectation() -> None:
    model, (x, _) = network({"name": "rna", "pool": ["in", "ln"]}), data()
    predictions = []
    for branch in range(2):
        with pinned(model, torch.tensor([branch])), torch.no_grad():
            predictions.append(model(x).argmax(1))
    y = predictions[0]  # so that the first branch is always right
    second = (predictions[1] == y).float().mean().item()
    assert second < 0.9
    scored = clean_accuracy(model, x, y, batch_size=16, n_draws=200)
    assert scored == pytest.approx((1 + second) / 2, abs=0.02)
    assert clean_accuracy(model, x, y, 16, 200) == scored, "the draws are seeded"
    assert find_paths(model).pinned is None  # type: ignore[union-attr]


def test_the_images_of_a_batch_dependent_model_share_a_path() -> None:
    model = network({"name": "rna", "pool": [{"name": "bn", "stats": "batch"}, "in"]})
    x, y = data(32)
    possible = set()
    for first in range(2):
        for second in range(2):
            hits = 0
            for branch, part in ((first, slice(0, 16)), (second, slice(16, 32))):
                with pinned(model, torch.tensor([branch])), torch.no_grad():
                    hits += int((model(x[part]).argmax(1) == y[part]).sum())
            possible.add(hits / 32)
    for seed in range(8):
        assert clean_accuracy(model, x, y, 16, seed=seed, whole_batch=True) in possible
