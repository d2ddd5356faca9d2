"""What this process knows of a model already, so that it is not found out again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

from bench.core.spec import digest
from bench.models.network_hash import network_hash, settings_hash

T = TypeVar("T")

MOST = 16
"""Findings that are kept of a model."""

_KEPT: WeakKeyDictionary[nn.Module, OrderedDict[Hashable, Any]] = WeakKeyDictionary()


class Memory:
    """Findings about one model, valid as long as it stays what it is.

    A model is told by the object, by the hash of all tensors that it can reach, and by its code,
    modes and plain values. Of one that cannot be told so, nothing is kept.

    Args:
        model: As it comes from the caller, in its own modes.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        weights = network_hash(model)
        self._told = None if weights is None else digest([weights, settings_hash(model)], 64)
        if weights is not None:
            self._kept = _KEPT.setdefault(model, self._kept)

    @property
    def told(self) -> str | None:
        """The hash of the model with its code, modes and plain values; ``None`` of no tensors."""
        return self._told

    def recall(self, key: Hashable, kind: type[T]) -> T | None:
        """Returns what was kept under a key of the model as it is now; else ``None``."""
        found = self._kept.get((self._told, key)) if self._told is not None else None
        return found if isinstance(found, kind) else None

    def keep(self, key: Hashable, found: object) -> None:
        """Keeps a finding, in place of the oldest where there are many."""
        if self._told is None:
            return
        self._kept[self._told, key] = found
        self._kept.move_to_end((self._told, key))
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
