"""The ways in which a model's passes can be run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

DOUBT = 0.05
"""Share of the largest logit within which a margin in low precision decides nothing. bfloat16 keeps
8 bits: over the layers of a ResNet-20 the margin was seen to move by up to half of this."""


@dataclass(frozen=True)
class Engine:
    """How a model's passes are run. The default is exact: float32, as the model is.

    Attributes:
        dtype: Of convolutions and products.
        channels_last: Whether kernels are held channels-last, which spares convolutions in low
            precision a copy and costs some normalizations more than that.
        folded: Whether norms that only scale and shift are folded into convolutions.
        compiled: Whether passes go through ``torch.compile``.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    folded: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        flags = {
            "channels-last": self.channels_last,
            "folded": self.folded,
            "compiled": self.compiled,
        }
        return ", ".join([name, *(flag for flag, on in flags.items() if on)])

    @property
    def exact(self) -> bool:
        """Whether passes are in float32."""
        return self.dtype == torch.float32

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Returns the context in which passes are run."""
        return nullcontext() if self.exact else torch.autocast(device.type, self.dtype)


EXACT = Engine()
_LOW = Engine(torch.bfloat16)
ENGINES = (
    EXACT,
    _LOW,
    replace(_LOW, channels_last=True),
    replace(_LOW, folded=True),
    replace(_LOW, channels_last=True, folded=True),
)


@dataclass(frozen=True)
class Twin:
    """How a model is run in a search: by which engine, and on which copy of it.

    Attributes:
        engine: How it is run.
        copy: What is run in place of the model; ``None`` for the model itself. It shares the paths
            of an RNA model.
        seconds: What a forward and backward pass over an image took when the engine was chosen.
        fits: Images in a pass, as many as are fastest; ``None`` where that was not tried out.
        compiled: Runs passes of two images and more, where the engine says so. A single image is
            a case of its own to the compiler, and not worth compiling for.
    """

    engine: Engine
    copy: nn.Module | None = None
    seconds: float = 0.0
    fits: int | None = None
    compiled: Callable[[Tensor], Tensor] | None = None

    def __call__(self, model: nn.Module, x: Tensor) -> Tensor:
        """Returns logits of images (b, c, h, w), in the engine's precision."""
        run: Callable[[Tensor], Tensor] = self.copy or model
        if self.compiled is not None and len(x) > 1:
            run = self.compiled
        with self.engine.precision(x.device):
            return torch.as_tensor(run(x))
