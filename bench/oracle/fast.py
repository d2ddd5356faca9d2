"""The precision in which a device searches fastest; what is found is confirmed in float32."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn

DOUBT = 0.05
"""Share of the largest logit within which a margin in low precision decides nothing. bfloat16 keeps
8 bits: over the layers of a ResNet-20 the margin was seen to move by up to half of this."""

GAIN = 1.3
"""Times faster that low precision must be to be used: below that, confirming eats the gain."""

_ROUNDS = 5


@lru_cache(maxsize=16)
def fast_dtype(device: torch.device) -> torch.dtype:
    """Returns bfloat16 where a device's convolutions gain by it, else float32.

    Found out by timing a forward and backward pass of a small stack in both, some milliseconds
    once for each process and device.
    """
    exact, fast = (_seconds(device, dtype) for dtype in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if fast * GAIN < exact else torch.float32


@contextmanager
def fast_layout(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Holds a model's kernels channels-last while the context lasts, if ``dtype`` is a low one.

    Convolutions in bfloat16 would otherwise reorder them at every pass. No value changes.
    """
    kernels = [p for p in model.parameters() if p.dim() == 4 and dtype != torch.float32]
    before = [kernel.data for kernel in kernels]
    for kernel in kernels:
        kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for kernel, data in zip(kernels, before, strict=True):
            kernel.data = data


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the median time of a pass in an autocast precision, infinite if that fails."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 16, 16, 16, generator=generator).to(device)
    weights = [0.1 * torch.randn(16, 16, 3, 3, generator=generator).to(device) for _ in range(4)]
    try:
        times = [_timed(x, weights, dtype) for _ in range(_ROUNDS + 1)]
    except (RuntimeError, NotImplementedError):  # the device has no such convolution
        return float("inf")
    return statistics.median(times[1:])


def _timed(x: Tensor, weights: list[Tensor], dtype: torch.dtype) -> float:
    started = time.perf_counter()
    x = x.detach().requires_grad_()
    low = dtype != torch.float32
    with torch.enable_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=low):
        z = x
        for weight in weights:
            z = nn.functional.relu(nn.functional.conv2d(z, weight, padding=1))
    (grad,) = torch.autograd.grad(z.float().sum(), x)
    float(grad.sum())  # waits for a GPU
    return time.perf_counter() - started
