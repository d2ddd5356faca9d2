"""Batch statistics in the batch normalization of any network, as it stands."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Returns a network's batch normalization layers, of whatever dimension or subclass."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def use_batch_statistics(model: nn.Module) -> int:
    """Lets every batch normalization layer use the batch's statistics in eval mode, in place.

    What the layers have tracked stays as it is. Layers of this project are told so; those of others
    keep whatever else their ``forward`` does.

    Returns:
        The number of layers.
    """
    layers = batch_norms(model)
    for layer in layers:
        if not isinstance(getattr(layer, "stats", None), str):
            layer.__class__ = _on_batch(type(layer))  # type: ignore[arg-type]
        setattr(layer, "stats", "batch")  # noqa: B010 - mypy cannot see the attribute
    return len(layers)


@lru_cache(maxsize=64)
def _on_batch(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    """Returns a layer's class whose ``forward`` does not see the tracked statistics."""

    def forward(self: Any, x: Tensor) -> Any:
        if self.training or self.stats != "batch":
            return kind.forward(self, x)
        kept = self.running_mean, self.running_var
        # PyTorch's own rule, which subclasses follow: what is not tracked is computed.
        self.running_mean = self.running_var = None
        try:
            return kind.forward(self, x)
        finally:
            self.running_mean, self.running_var = kept

    return type(f"{kind.__name__}OnBatch", (kind,), {"forward": forward})
