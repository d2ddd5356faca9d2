"""Clean accuracy of a model, measured for its card."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.models import Classifier
from bench.norms import find_paths, pinned
from bench.train.source import to_pixels
from bench.zoo import CleanAccuracy

SCORING_DRAWS = 5
SCORING_BATCH = 128


def score_clean(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    split: str,
    *,
    batch_size: int = SCORING_BATCH,
    n_draws: int = SCORING_DRAWS,
) -> CleanAccuracy:
    """Measures what a card says of clean accuracy, in fp32, where the model is.

    Args:
        model: In eval mode.
        x: Images (n, c, h, w), uint8, or float in [0, 1]; they go to the device batch by batch.
        y: Labels (n,).
        split: What the card calls the images.
        batch_size: Images that are scored together.
        n_draws: Draws for each image, if the model is stochastic.
    """
    norm = model.spec.norm
    n_draws = n_draws if norm.stochastic else 1
    whole = norm.batch_dependent
    value = clean_accuracy(model, x, y, batch_size, n_draws, whole_batch=whole)
    return CleanAccuracy(
        value=round(value, 6),
        n=len(y),
        split=split,
        batch_size=batch_size if whole else None,
        n_draws=n_draws,
    )


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

    Images are uint8, or float in [0, 1], on any device.

    Batches are taken in order, so that a batch-dependent model is scored in fixed batches.
    A stochastic model gets ``n_draws`` fresh paths per image, and the expectation is returned;
    with ``whole_batch``, for a batch-dependent model, the images of a batch share a path unless
    the model draws one per sample.
    """
    paths = find_paths(model)
    shared = paths is not None and whole_batch and paths.per == "batch"
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(x), batch_size):
            images = to_pixels(x[start : start + batch_size].to(device))
            labels = y[start : start + batch_size].to(device)
            for _ in range(n_draws):
                if paths is None:
                    logits = model(images)
                else:
                    n = None if shared else len(images)
                    with pinned(model, paths.sample(n, generator)):
                        logits = model(images)
                correct += int((logits.argmax(1) == labels).sum())
    return correct / (len(x) * n_draws)
