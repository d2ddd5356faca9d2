"""What cells on the same model and batch share, in one process."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from bench.core.cell import CellSpec, Surrogate
from bench.oracle import Memo

PIXELS = 4_000_000
"""Of all batches that are remembered: a memo keeps a few tensors of its batch's size, of 4 bytes a
pixel."""

_MEMOS: OrderedDict[tuple[object, ...], tuple[int, Memo]] = OrderedDict()


def memo_of(model: CellSpec | Surrogate, spec: CellSpec, x: Tensor, number: int) -> Memo | None:
    """Returns what is remembered of a batch and a model.

    A cell's rows are the same with it and without: passes that another cell made count here too.

    Args:
        model: What the cell's attack is crafted on, or what is scored.
        spec: The cell.
        x: The batch (b, c, h, w).
        number: Its number in the cell's slice.
    """
    if x.numel() > PIXELS:
        return None
    key = (model.sha256, model.stats, spec.data_hash, spec.batch_size, number, str(x.device))
    _, memo = _MEMOS.setdefault(key, (x.numel(), Memo()))
    _MEMOS.move_to_end(key)
    while sum(pixels for pixels, _ in _MEMOS.values()) > PIXELS:
        _MEMOS.popitem(last=False)
    return memo
