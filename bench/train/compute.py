"""Where and in which arithmetic a recipe is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from bench.norms import RandomNormAggregation


@dataclass(frozen=True)
class Compute:
    """How to train.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        compiled: Whether to use ``torch.compile``.
        exact: Whether to train in float32, not under bfloat16 autocast.
    """

    device: str = "cpu"
    compiled: bool = True
    exact: bool = False

    def on(self, device: str) -> Compute:
        """Returns the same on another device."""
        return Compute(device, self.compiled, self.exact)

    def autocast(self) -> torch.autocast:
        """Returns the context in which passes are made."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=not self.exact)

    def __str__(self) -> str:
        """Says it for a card."""
        precision = "float32" if self.exact else "bf16 autocast"
        if self.device.startswith("cuda"):
            return f"{torch.cuda.get_device_name(self.device)}, {precision}"
        return f"CPU, {torch.get_num_threads()} threads, {precision}"


def compile_model(model: nn.Module) -> nn.Module:
    """Compiles the whole model, or, as RNA's graph changes each pass, its branches one by one."""
    layers = [m for m in model.modules() if isinstance(m, RandomNormAggregation)]
    if not layers:
        return cast(nn.Module, torch.compile(model))
    branches = [branch for layer in layers for branch in layer.branches]
    # Branches of one class (PyTorch's own norms: all) are to it versions of one function, of which
    # it compiles eight by default and runs the rest uncompiled. A branch needs three at most:
    # trained, attacked, and for a last, short batch.
    dynamo = torch._dynamo.config
    versions = 3 * len(branches)
    dynamo.recompile_limit = max(dynamo.recompile_limit, versions)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, versions)
    for branch in branches:
        branch.compile()
    return model
