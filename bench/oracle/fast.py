"""The way in which a device runs a model fastest; what a search finds is confirmed in float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

DOUBT = 0.05
"""Share of the largest logit within which a margin in low precision decides nothing. bfloat16 keeps
8 bits: over the layers of a ResNet-20 the margin was seen to move by up to half of this."""

GAIN = 1.15
"""Times faster that low precision must be to be used: below that, confirming eats the gain."""

N_TIMED, LARGE = 32, 64
"""Images that a model is timed with; 2 of more than 64 x 64 pixels."""


@dataclass(frozen=True)
class Engine:
    """How a model's passes are run. The default is exact: float32, as the model is.

    Attributes:
        dtype: Of convolutions and products.
        channels_last: Whether kernels are held channels-last, which spares convolutions in low
            precision a copy and costs some normalizations more than that.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name}, channels-last" if self.channels_last else name

    @property
    def exact(self) -> bool:
        """Whether passes are in float32."""
        return self.dtype == torch.float32

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Returns the context in which passes are run."""
        return nullcontext() if self.exact else torch.autocast(device.type, self.dtype)

    @contextmanager
    def layout(self, model: nn.Module) -> Iterator[None]:
        """Holds a model's kernels as this engine has them; afterwards as they were.

        No value changes.
        """
        kernels = [p for p in model.parameters() if p.dim() == 4 and self.channels_last]
        before = [kernel.data for kernel in kernels]
        for kernel in kernels:
            kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
        try:
            yield
        finally:
            for kernel, data in zip(kernels, before, strict=True):
                kernel.data = data


EXACT = Engine()
ENGINES = (EXACT, Engine(torch.bfloat16), Engine(torch.bfloat16, channels_last=True))

_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Engine]] = WeakKeyDictionary()
"""What was found out for each model, by the shape and the device of its images."""


def fastest_engine(model: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> Engine:
    """Returns the engine that a model is attacked fastest with on a device.

    Found out by timing two forward and backward passes in each, once for each model and process.

    Args:
        model: In eval mode.
        x: Images (b, c, h, w) on the device; the first few are used.
        run: Passes images through the model, to logits.
    """
    known = _KNOWN.setdefault(model, {})
    key = (tuple(x.shape[1:]), x.device)
    if key not in known:
        few = x[: N_TIMED if max(x.shape[2:]) <= LARGE else 2]
        times = {engine: _seconds(engine, model, few, run) for engine in ENGINES}
        best = min(ENGINES, key=lambda engine: times[engine])
        known[key] = best if times[best] * GAIN < times[EXACT] else EXACT
    return known[key]


def _seconds(engine: Engine, model: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> float:
    """Returns the shorter time of two passes there and back; infinite if the engine fails."""
    try:
        with engine.layout(model):
            return min([_timed(engine, x, run) for _ in range(3)][1:])
    except Exception:  # foreign code, or a device, that knows no low precision: then it is not used
        return float("inf")


def _timed(engine: Engine, x: Tensor, run: Callable[[Tensor], Tensor]) -> float:
    started = time.perf_counter()
    x = x.detach().requires_grad_()
    with torch.enable_grad(), engine.precision(x.device):
        z = run(x)
    if z.requires_grad:
        torch.autograd.grad(z.float().sum(), x)
    float(z.detach().sum())  # waits for a GPU
    return time.perf_counter() - started
