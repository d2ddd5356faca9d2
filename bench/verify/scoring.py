"""Predictions of the exact model: fp32, eval mode, fresh draws where it is stochastic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.norms import find_paths, pinned


def predict_draws(model: nn.Module, x: Tensor, n_draws: int, seed: int) -> Tensor:
    """Returns predicted classes (n_draws, b) of images (b, c, h, w).

    Each draw of an RNA model gives every image a path of its own, so that images are independent
    given the weights. Logits that are not finite count as class -1, which is never right.
    """
    paths = find_paths(model)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    with torch.inference_mode():
        for _ in range(n_draws):
            if paths is None:
                logits = model(x)
            else:
                with pinned(model, paths.sample(len(x), generator)):
                    logits = model(x)
            finite = torch.isfinite(logits).all(1)
            rows.append(torch.where(finite, logits.argmax(1), -1))
    return torch.stack(rows)


def majority(draws: Tensor) -> Tensor:
    """Returns the most frequent class of each image: (n_draws, b) to (b,), lowest on a tie."""
    return torch.tensor([int(torch.mode(column).values) for column in draws.T])


def fraction_correct(draws: Tensor, y: Tensor) -> Tensor:
    """Returns the fraction of draws that are right: (n_draws, b) and (b,) to float64 (b,)."""
    return (draws == y).double().mean(0)
