"""Where and how a recipe is trained: device, processes, arithmetic, and the fastest layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from bench.core.host import has_bfloat16, race
from bench.norms import RandomNormAggregation

T = TypeVar("T")

N_ROUNDS = 3
"""Timings per layout."""

LONG = 1200.0
"""Seconds of training on a CPU from which compiling is tried: it takes one or two minutes there."""

PAYS = 1.1
"""Least speed-up of compiled steps on a CPU."""


@dataclass(frozen=True)
class Compute:
    """Device and arithmetic that a training may use.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        compiled: Whether to use ``torch.compile``; ``None``: always on a GPU, on a CPU if timing
            shows that it pays.
        exact: Whether to train in float32, even if bfloat16 is faster.
    """

    device: str = "cpu"
    compiled: bool | None = None
    exact: bool = False

    def on(self, device: str) -> Compute:
        """Returns a copy with another device."""
        return replace(self, device=device)

    def describe(self, layout: Layout) -> str:
        """Returns a description of device and layout, for a card."""
        if self.device.startswith("cuda"):
            return f"{torch.cuda.get_device_name(self.device)}, {layout}"
        return f"CPU, {torch.get_num_threads()} threads, {layout}"


@dataclass(frozen=True)
class Layout:
    """How the passes of a training are run.

    Attributes:
        dtype: Precision of convolutions and matrix products; autocast unless it is float32.
        channels_last: Whether kernels and images are stored channels-last.
        side_by_side: Whether each CPU thread runs a part of the batch rather than a part of each
            operation, wherever images do not share statistics.
        compiled: Whether passes go through ``torch.compile``.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    side_by_side: bool = False
    compiled: bool = False

    def autocast(self, device: torch.device) -> torch.autocast:
        """Returns the autocast context in which passes run."""
        low = self.dtype != torch.float32
        return torch.autocast(device.type, torch.bfloat16, enabled=low)

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of kernels and images."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        flags = {
            "channels-last": self.channels_last,
            "images side by side": self.side_by_side,
            "compiled": self.compiled,
        }
        precision = "float32" if self.dtype == torch.float32 else "bf16 autocast"
        return ", ".join([precision, *(flag for flag, on in flags.items() if on)])


def layouts(compute: Compute) -> list[Layout]:
    """Returns the candidate layouts for a device."""
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
    """Returns the layout in which a training step is fastest, by timing.

    Args:
        compute: What the training may use.
        stepper: Returns, for a layout, a function that takes one step on a model of its own.
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
        times = race({layout: stepper(layout) for layout in (best, compiled)}, N_ROUNDS)
        best = compiled if times[compiled] * PAYS < times[best] else best
    return best


def compile_model(model: nn.Module) -> nn.Module:
    """Compiles the whole model; for RNA, whose graph changes every pass, its branches instead."""
    layers = [m for m in model.modules() if isinstance(m, RandomNormAggregation)]
    if not layers:
        return cast(nn.Module, torch.compile(model))
    branches = [branch for layer in layers for branch in layer.branches]
    # Branches of one class (all of PyTorch's own norms) count as versions of one function, of which
    # dynamo compiles eight by default and runs the rest uncompiled. A branch needs three at most:
    # for training, for the attack, and for a last, short batch.
    dynamo = torch._dynamo.config
    versions = 3 * len(branches)
    dynamo.recompile_limit = max(dynamo.recompile_limit, versions)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, versions)
    for branch in branches:
        branch.compile()
    return model


@dataclass(frozen=True)
class Ranks:
    """The processes that train one model together under ``torchrun``.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    def share(self, rows: Tensor) -> Tensor:
        """Returns this process's part of a batch's rows; all parts have the same length.

        If the batch does not divide evenly, its first rows are used twice, as in PyTorch's
        ``DistributedSampler``.
        """
        short = -len(rows) % self.size
        padded = torch.cat([rows, rows[:short]]) if short else rows
        return padded[self.rank :: self.size]

    def wrap(self, model: nn.Module, branches: bool) -> nn.Module:
        """Wraps the model so that a backward pass averages gradients over processes.

        Args:
            model: The model, on its device.
            branches: Whether a pass may leave parameters unused, as a path of RNA does.
        """
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model, find_unused_parameters=branches, broadcast_buffers=False
        )

    def first(self, find_out: Callable[[], T]) -> T:
        """Calls a function in the first process; returns its result in all of them."""
        found = [find_out() if self.rank == 0 else None]
        if self.size > 1:
            dist.broadcast_object_list(found)
        return cast(T, found[0])

    def average_buffers(self, model: nn.Module) -> None:
        """Averages tracked statistics over processes."""
        if self.size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.mean(buffer))

    def mean(self, values: Tensor) -> Tensor:
        """Returns the mean of a tensor over processes."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """Joins the processes started by ``torchrun``; yields ranks and this process's device.

    Without ``torchrun`` there is one process, and the device stays as given.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(), device
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Ranks(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
