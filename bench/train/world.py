"""One process or several: what a training under ``torchrun`` has to know of its siblings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that train one model together.

    Attributes:
        rank: This process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, rows: Tensor) -> Tensor:
        """Returns this process's part of a batch's rows; all parts are equally long.

        Where the batch cannot be divided, its first rows are taken twice, as PyTorch's
        ``DistributedSampler`` does.
        """
        short = -len(rows) % self.size
        padded = torch.cat([rows, rows[:short]]) if short else rows
        return padded[self.rank :: self.size]

    def wrap(self, model: nn.Module, branches: bool) -> nn.Module:
        """Returns the model so that a backward pass leaves the mean of all gradients.

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
        """Returns in every process what the first one finds out."""
        found = [find_out() if self.rank == 0 else None]
        if self.size > 1:
            dist.broadcast_object_list(found)
        return cast(T, found[0])

    def average_buffers(self, model: nn.Module) -> None:
        """Gives every process the mean of all tracked statistics."""
        if self.size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.mean(buffer))

    def mean(self, values: Tensor) -> Tensor:
        """Returns the mean over all processes of a tensor of the same shape in each."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size


@contextmanager
def joined(device: str) -> Iterator[tuple[World, str]]:
    """Joins the processes that ``torchrun`` started; yields the world and this process's device.

    Without ``torchrun`` this is a world of one, and the device stays as given.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), device
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield World(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
