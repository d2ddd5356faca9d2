"""What an attack spends."""

from __future__ import annotations

import torch
from torch import Tensor


class Passes:
    """Passes spent on each image of the batch: float64 tensors (b,), whole for native attacks."""

    def __init__(self, batch: int) -> None:
        self.forwards = torch.zeros(batch, dtype=torch.float64)
        self.backwards = torch.zeros(batch, dtype=torch.float64)

    def add(self, kind: str, rows: Tensor | None, n: int) -> None:
        """Counts n passes for each of ``rows`` of the batch; without rows, n spread evenly."""
        counts: Tensor = getattr(self, kind)
        if rows is None:
            counts += n / len(counts)
        else:
            counts.index_add_(0, rows.cpu(), torch.full((len(rows),), n, dtype=torch.float64))
