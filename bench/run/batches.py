"""The fixed batches of a slice, which every cell on it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.identity import digest
from bench.data import Slice


@dataclass(frozen=True)
class Batch:
    """One fixed batch of a slice: images (b, c, h, w), labels (b,), positions (b,), its number."""

    x: Tensor
    y: Tensor
    index: list[int]
    number: int


def batches(
    data: Slice, size: int, device: torch.device, first: int = 0, last: int | None = None
) -> Iterator[Batch]:
    """Cuts a slice into batches of ``size`` images in the slice's order; the last may be short.

    Args:
        data: The slice.
        size: Images in a batch.
        device: Where they are put.
        first: Number of the first batch that is wanted.
        last: Number of the one after the last; ``None`` for all that there are.
    """
    starts = range(0, len(data.y), size)
    for number in range(len(starts))[first:last]:
        rows = slice(starts[number], starts[number] + size)
        # Copies: a slice that came from another machine may not be written.
        x, y = torch.tensor(data.x[rows]).to(device), torch.tensor(data.y[rows]).to(device)
        yield Batch(x, y, data.index[rows].tolist(), number)


def batch_seed(seed: int, number: int, *purpose: str) -> int:
    """Returns the seed of a batch, below 2**32.

    Args:
        seed: Of the cell, or of the analysis.
        number: Of the batch.
        purpose: What is drawn, where that is to be independent of what else is drawn.
    """
    return int(digest([seed, number, *purpose], 8), 16)
