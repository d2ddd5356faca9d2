"""Clean accuracy of a model, measured for its card."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.norms import find_paths, pinned


def clean_accuracy(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    batch_size: int,
    n_draws: int = 1,
    seed: int = 0,
    whole_batch: bool = False,
) -> float:
    """Returns the accuracy in [0, 1] on images (n, c, h, w) of a model in eval mode, in fp32.

    Batches are taken in order, so that a batch-dependent model is scored in fixed batches.
    A stochastic model gets ``n_draws`` fresh paths per image, and the expectation is returned;
    with ``whole_batch``, for a batch-dependent model, the images of a batch share a path unless
    the model draws one per sample.
    """
    paths = find_paths(model)
    shared = paths is not None and whole_batch and paths.per == "batch"
    generator = torch.Generator().manual_seed(seed)
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(x), batch_size):
            images, labels = x[start : start + batch_size], y[start : start + batch_size]
            for _ in range(n_draws):
                if paths is None:
                    logits = model(images)
                else:
                    n = None if shared else len(images)
                    with pinned(model, paths.sample(n, generator)):
                        logits = model(images)
                correct += int((logits.argmax(1) == labels).sum())
    return correct / (len(x) * n_draws)
