"""Counts the forward and backward passes that an attack spends on each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PENDING = 256
"""Counts that are collected before they are added up."""


_LISTENERS: list[Callable[[float], None]] = []


@contextmanager
def listening(heard: Callable[[float], None]) -> Iterator[None]:
    """Calls a function with the number of image passes whenever some are made, in this process."""
    _LISTENERS.append(heard)
    try:
        yield
    finally:
        _LISTENERS.remove(heard)


@dataclass(frozen=True)
class Spent:
    """Forward and backward passes (b,) on the images of a batch."""

    forwards: Tensor
    backwards: Tensor


class Passes:
    """Passes spent on each image of the batch: float64 tensors (b,), whole for native attacks.

    Counts are kept on the device of the images, so that a GPU is not synchronized for each of them,
    and are added up many at a time: a single addition takes as long as a layer of a small network.
    """

    def __init__(self, batch: int, device: torch.device | None = None) -> None:
        zeros = torch.zeros(batch, dtype=torch.float64, device=device)
        self._counts = {"forwards": zeros, "backwards": zeros.clone()}
        self._pending: dict[str, list[tuple[Tensor, int]]] = {"forwards": [], "backwards": []}

    @property
    def forwards(self) -> Tensor:
        """Forward passes (b,)."""
        return self._total("forwards")

    @forwards.setter
    def forwards(self, counts: Tensor) -> None:
        self._counts["forwards"] = counts

    @property
    def backwards(self) -> Tensor:
        """Backward passes (b,)."""
        return self._total("backwards")

    @backwards.setter
    def backwards(self, counts: Tensor) -> None:
        self._counts["backwards"] = counts

    def add(self, kind: str, rows: Tensor | None, n: int) -> None:
        """Counts n passes for each of ``rows`` of the batch; without rows, n spread evenly.

        ``rows`` must not be modified afterwards.
        """
        for heard in _LISTENERS:
            heard(n if rows is None else n * len(rows))
        if rows is None:
            counts = self._total(kind)
            counts += n / len(counts)
            return
        pending = self._pending[kind]
        pending.append((rows, n))
        if len(pending) >= PENDING:
            self._total(kind)

    def _total(self, kind: str) -> Tensor:
        """Adds the pending counts of a kind; returns all of them."""
        counts, pending = self._counts[kind], self._pending[kind]
        for n in {n for _, n in pending}:
            rows = torch.cat([rows for rows, each in pending if each == n])
            counts.index_add_(0, rows, counts.new_full(rows.shape, n))
        pending.clear()
        return counts


def counting_backward(z: Tensor, passes: Passes, rows: Tensor | None, n: int) -> Tensor:
    """Returns logits z unchanged; each backward pass through them counts n for each of ``rows``."""
    return torch.as_tensor(_CountBackward.apply(z, passes, rows, n))


class _CountBackward(torch.autograd.Function):
    """The identity; counts the backward passes through it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, passes: Passes, rows: Tensor | None, n: int) -> Tensor:
        ctx.passes, ctx.rows, ctx.n = passes, rows, n
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.passes.add("backwards", ctx.rows, ctx.n)
        return grads[0], None, None, None
