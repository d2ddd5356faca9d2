"""What an attack spends."""

from __future__ import annotations

import torch
from torch import Tensor

PENDING = 256
"""Counts that are put together before they are added up."""


class Passes:
    """Passes spent on each image of the batch: float64 tensors (b,), whole for native attacks.

    They are counted where the images are, so that a GPU need not wait for each count; and many at
    a time, as each would otherwise take as long as a layer of a small network.
    """

    def __init__(self, batch: int, device: torch.device | None = None) -> None:
        zeros = torch.zeros(batch, dtype=torch.float64, device=device)
        self._counts = {"forwards": zeros, "backwards": zeros.clone()}
        self._pending: dict[str, list[tuple[Tensor, int]]] = {"forwards": [], "backwards": []}

    @property
    def forwards(self) -> Tensor:
        """Forward passes (b,)."""
        return self._added_up("forwards")

    @forwards.setter
    def forwards(self, counts: Tensor) -> None:
        self._counts["forwards"] = counts

    @property
    def backwards(self) -> Tensor:
        """Backward passes (b,)."""
        return self._added_up("backwards")

    @backwards.setter
    def backwards(self, counts: Tensor) -> None:
        self._counts["backwards"] = counts

    def add(self, kind: str, rows: Tensor | None, n: int) -> None:
        """Counts n passes for each of ``rows`` of the batch; without rows, n spread evenly.

        Nobody may write into ``rows`` afterwards.
        """
        if rows is None:
            counts = self._added_up(kind)
            counts += n / len(counts)
            return
        pending = self._pending[kind]
        pending.append((rows, n))
        if len(pending) >= PENDING:
            self._added_up(kind)

    def _added_up(self, kind: str) -> Tensor:
        """Returns the counts of a kind once what is pending is in them."""
        counts, pending = self._counts[kind], self._pending[kind]
        for n in {n for _, n in pending}:
            rows = torch.cat([rows for rows, each in pending if each == n])
            counts.index_add_(0, rows, counts.new_full(rows.shape, n))
        pending.clear()
        return counts
