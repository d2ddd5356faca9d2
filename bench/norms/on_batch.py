"""Batch statistics in the normalization of any network, as it stands: in force, or put there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core.norm_spec import uses_batch


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


def stats_in_force(model: nn.Module) -> tuple[str, ...]:
    """Returns the inference statistics of this project's layers, each once, sorted."""
    found = (getattr(module, "stats", None) for module in model.modules())
    return tuple(sorted({stats for stats in found if isinstance(stats, str)}))


def shares_statistics(model: nn.Module) -> bool:
    """Returns whether a layer of this project computes statistics over the batch, as now set."""
    return any(uses_batch(stats) for stats in stats_in_force(model))


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
