"""What an attack spends."""

from __future__ import annotations

import torch
from torch import Tensor


class Passes:
    """Passes spent on each image of the batch: float64 tensors (b,), whole for native attacks.

    They are counted where the images are, so that a GPU need not wait for each count.
    """

    def __init__(self, batch: int, device: torch.device | None = None) -> None:
        self.forwards = torch.zeros(batch, dtype=torch.float64, device=device)
        self.backwards = torch.zeros_like(self.forwards)

    def add(self, kind: str, rows: Tensor | None, n: int) -> None:
        """Counts n passes for each of ``rows`` of the batch; without rows, n spread evenly."""
        counts: Tensor = getattr(self, kind)
        if rows is None:
            counts += n / len(counts)
        else:
            counts.index_add_(0, rows, counts.new_full(rows.shape, n))
