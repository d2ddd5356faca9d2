"""Where and in which arithmetic a recipe is trained, and the layout that is fastest there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn

from bench.core.host import has_bfloat16, race
from bench.norms import RandomNormAggregation

N_ROUNDS = 3
"""Times that a step is timed in each layout."""

LONG = 1200.0
"""Seconds of training from which it is worth finding out whether compiling pays, on a CPU: to
compile takes one or two minutes there."""

PAYS = 1.1
"""Times faster that compiled steps must be to be taken, on a CPU."""


@dataclass(frozen=True)
class Compute:
    """What a training may use.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        compiled: Whether to use ``torch.compile``; ``None`` for always on a GPU, and on a CPU where
            it is found to pay.
        exact: Whether to train in float32, whatever is faster.
    """

    device: str = "cpu"
    compiled: bool | None = None
    exact: bool = False

    def on(self, device: str) -> Compute:
        """Returns the same on another device."""
        return replace(self, device=device)

    def describe(self, layout: Layout) -> str:
        """Says for a card where and how a training ran."""
        if self.device.startswith("cuda"):
            return f"{torch.cuda.get_device_name(self.device)}, {layout}"
        return f"CPU, {torch.get_num_threads()} threads, {layout}"


@dataclass(frozen=True)
class Layout:
    """How the passes of a training are run.

    Attributes:
        dtype: Of convolutions and products; autocast where it is not float32.
        channels_last: Whether kernels and images are held channels-last.
        side_by_side: Whether the threads of a CPU each take a part of the batch, wherever images do
            not share statistics, instead of a part of each operation.
        compiled: Whether passes go through ``torch.compile``.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    side_by_side: bool = False
    compiled: bool = False

    def autocast(self, device: torch.device) -> torch.autocast:
        """Returns the context in which passes are made."""
        low = self.dtype != torch.float32
        return torch.autocast(device.type, torch.bfloat16, enabled=low)

    @property
    def memory_format(self) -> torch.memory_format:
        """Of kernels and images."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        """Says it for a card."""
        flags = {
            "channels-last": self.channels_last,
            "images side by side": self.side_by_side,
            "compiled": self.compiled,
        }
        precision = "float32" if self.dtype == torch.float32 else "bf16 autocast"
        return ", ".join([precision, *(flag for flag, on in flags.items() if on)])


def layouts(compute: Compute) -> list[Layout]:
    """Returns the layouts that may be fastest on a device."""
    on_gpu = compute.device.startswith("cuda")
    if on_gpu:
        dtype = torch.float32 if compute.exact else torch.bfloat16
        return [Layout(dtype, channels_last=True, compiled=compute.compiled is not False)]
    dtypes = [torch.float32]
    if not compute.exact and has_bfloat16():
        dtypes.append(torch.bfloat16)
    apart = (False, True) if torch.get_num_threads() > 1 and not compute.compiled else (False,)
    return [
        Layout(dtype, last, side_by_side, bool(compute.compiled))
        for dtype in dtypes
        for last in (False, True)
        for side_by_side in apart
    ]


def fastest_layout(
    compute: Compute, stepper: Callable[[Layout], Callable[[], object]], n_steps: int
) -> Layout:
    """Returns the layout in which a training step takes the least time, found by timing some.

    Args:
        compute: What the training may use.
        stepper: Returns what takes a step of the recipe in a layout, on a model of its own.
        n_steps: Steps of the whole training.
    """
    candidates = layouts(compute)
    if len(candidates) == 1:
        return candidates[0]
    times = race({layout: stepper(layout) for layout in candidates}, N_ROUNDS)
    best = min(times, key=lambda layout: times[layout])
    tried = compute.compiled is None and best.dtype != torch.float32
    if tried and n_steps * times[best] > LONG:
        compiled = replace(best, compiled=True, side_by_side=False)
        times = race({way: stepper(way) for way in (best, compiled)}, N_ROUNDS)
        best = compiled if times[compiled] * PAYS < times[best] else best
    return best


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
