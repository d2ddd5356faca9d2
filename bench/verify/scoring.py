"""Predictions of the exact model: fp32, eval mode, fresh draws where it is stochastic."""

from __future__ import annotations

from collections.abc import Iterator

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
        seed: Seed of the draws.
        shared_path: One path for the whole batch, for a model whose images share statistics.
        companions: Predict each image alone among these others (b, c, h, w), in its own place.
    """
    draws = _draws(model, x, n_draws, seed, shared_path, companions)
    return torch.stack([_classes(logits) for logits in draws])


def mean_probabilities(
    model: nn.Module,
    x: Tensor,
    n_draws: int,
    seed: int,
    *,
    shared_path: bool = False,
    companions: Tensor | None = None,
) -> Tensor:
    """Returns the softmax of the logits of images, mean over draws: (b, n_classes), float64.

    Arguments and draws are those of ``predict_draws``.
    """
    draws = _draws(model, x, n_draws, seed, shared_path, companions)
    return torch.stack([logits.double().softmax(1) for logits in draws]).mean(0)


def predict_path(model: nn.Module, x: Tensor, path: Tensor) -> Tensor:
    """Returns the classes (b,) of images on one path of an RNA model; -1 as in ``predict_draws``.

    Args:
        model: In eval mode.
        x: Images (b, c, h, w).
        path: As ``bench.norms.pinned`` takes it.
    """
    with torch.no_grad(), pinned(model, path):
        return _classes(_logits(model, x, None))


def _draws(
    model: nn.Module,
    x: Tensor,
    n_draws: int,
    seed: int,
    shared_path: bool,
    companions: Tensor | None,
) -> Iterator[Tensor]:
    """Yields the logits (b, n_classes) of each draw."""
    paths = find_paths(model)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_draws):
        with torch.no_grad():  # a model may use autograd inside forward
            if paths is None:
                logits = _logits(model, x, companions)
            else:
                path = paths.sample(None if shared_path else len(x), generator)
                with pinned(model, path):
                    logits = _logits(model, x, companions)
        yield logits


def _logits(model: nn.Module, x: Tensor, companions: Tensor | None) -> Tensor:
    if companions is None:
        return torch.as_tensor(model(x))
    places = torch.arange(len(x), device=x.device)
    alone = [model(companions.index_copy(0, i[None], x[i][None]))[i] for i in places]
    return torch.stack(alone)


def _classes(logits: Tensor) -> Tensor:
    finite = torch.isfinite(logits).all(1)
    return torch.where(finite, logits.argmax(1), -1)


def majority(draws: Tensor) -> Tensor:
    """Returns the most frequent class of each image: (n_draws, b) to (b,), lowest on a tie."""
    return torch.tensor([int(torch.mode(column).values) for column in draws.T])


def fraction_correct(draws: Tensor, y: Tensor) -> Tensor:
    """Returns the fraction of draws that are right: (n_draws, b) and (b,) to float64 (b,)."""
    return (draws == y).double().mean(0)
