"""What cells on the same model and batch share, in one process."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from bench.core.cell import CellSpec, Surrogate
from bench.oracle import Memo

N_BATCHES, LARGEST = 64, 4_000_000
"""Batches that are remembered, and pixels of the largest: some hundred megabytes at worst."""

_MEMOS: OrderedDict[tuple[object, ...], Memo] = OrderedDict()


def memo_of(model: CellSpec | Surrogate, spec: CellSpec, x: Tensor, number: int) -> Memo | None:
    """Returns what is remembered of a batch and a model.

    A cell's rows are the same with it and without: passes that another cell made count here too.

    Args:
        model: What the cell's attack is crafted on, or what is scored.
        spec: The cell.
        x: The batch (b, c, h, w).
        number: Its number in the cell's slice.
    """
    if x.numel() > LARGEST:
        return None
    key = (model.sha256, model.stats, spec.data_hash, spec.batch_size, number, str(x.device))
    memo = _MEMOS.setdefault(key, Memo())
    _MEMOS.move_to_end(key)
    while len(_MEMOS) > N_BATCHES:
        _MEMOS.popitem(last=False)
    return memo
