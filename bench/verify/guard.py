"""Detects and undoes changes that an attack makes to the model itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ModelGuard:
    """Remembers a model's weights, buffers, per-layer modes and statistics choices.

    Args:
        model: The model as it must stay.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._modes = [(name, module, module.training) for name, module in model.named_modules()]
        self._stats = [
            (name, module, module.stats)
            for name, module in model.named_modules()
            if isinstance(getattr(module, "stats", None), str)
        ]
        self._tensors: list[tuple[str, nn.Module, str, Tensor, Tensor]] = [
            (f"{name}.{key}".lstrip("."), module, key, tensor, tensor.detach().clone())
            for name, module in model.named_modules()
            for tensors in (module.named_parameters, module.named_buffers)
            for key, tensor in tensors(recurse=False)
        ]

    def changes(self) -> list[str]:
        """Describes all differences from the remembered state, and restores it."""
        found: list[str] = []
        for name, module, training in self._modes:
            if module.training != training:
                found.append(f"mode of {name or 'the model'}")
                module.training = training
        for name, module, stats in self._stats:
            if getattr(module, "stats", None) != stats:
                found.append(f"statistics of {name}")
                setattr(module, "stats", stats)  # noqa: B010 - mypy cannot see the attribute
        with torch.no_grad():
            for name, module, key, tensor, before in self._tensors:
                replaced = getattr(module, key, None) is not tensor
                if replaced or not torch.equal(tensor, before):
                    found.append(f"values of {name}")
                    tensor.copy_(before)
                if replaced:
                    setattr(module, key, tensor)
        return found
