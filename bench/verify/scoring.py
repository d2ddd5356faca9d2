"""Predictions of the exact model: fp32, eval mode, fresh draws where it is stochastic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.norms import find_paths, pinned


def predict_draws(
    model: nn.Module,
    x: Tensor,
    n_draws: int,
    seed: int,
    *,
    shared_path: bool = False,
    companions: Tensor | None = None,
) -> Tensor:
    """Returns predicted classes (n_draws, b) of images (b, c, h, w).

    Each draw of an RNA model gives every image a path of its own, so that images are independent
    given the weights. Logits that are not finite count as class -1, which is never right.

    Args:
        model: In eval mode.
        x: Images.
        n_draws: How often each is predicted.
        seed: Of the draws.
        shared_path: One path for the whole batch, for a model whose images share statistics.
        companions: Predict each image alone among these others (b, c, h, w), in its own place.
    """
    paths = find_paths(model)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    with torch.no_grad():  # a model may use autograd inside forward
        for _ in range(n_draws):
            if paths is None:
                rows.append(_classes(model, x, companions))
                continue
            path = paths.sample(None if shared_path else len(x), generator)
            with pinned(model, path):
                rows.append(_classes(model, x, companions))
    return torch.stack(rows)


def _classes(model: nn.Module, x: Tensor, companions: Tensor | None) -> Tensor:
    if companions is None:
        logits = model(x)
    else:
        places = torch.arange(len(x), device=x.device)
        alone = [model(companions.index_copy(0, i[None], x[i][None]))[i] for i in places]
        logits = torch.stack(alone)
    finite = torch.isfinite(logits).all(1)
    return torch.where(finite, logits.argmax(1), -1)


def majority(draws: Tensor) -> Tensor:
    """Returns the most frequent class of each image: (n_draws, b) to (b,), lowest on a tie."""
    return torch.tensor([int(torch.mode(column).values) for column in draws.T])


def fraction_correct(draws: Tensor, y: Tensor) -> Tensor:
    """Returns the fraction of draws that are right: (n_draws, b) and (b,) to float64 (b,)."""
    return (draws == y).double().mean(0)
