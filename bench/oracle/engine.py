"""The ways in which a model's passes can be run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.core.cell import Adversary, Eot


@dataclass(frozen=True)
class Access:
    """How an oracle may be asked, and how it answers.

    Attributes:
        stochastic: Whether passes draw at random.
        batch_dependent: Whether images of a batch share statistics.
        eot_iter: Draws over which losses and gradients are averaged, at least 1.
        eot: How, see ``bench.core.cell``; other than ``plain`` for a model with RNA layers only.
        adversary: Of a batch-dependent model, see ``bench.core.cell``.
        max_pass: Most images in one pass; larger queries are cut, which never changes a result.
            Passes are smaller where that is faster, or where memory does not suffice.
        seed: Of the draws.
        fast: Whether queries may run in a lower precision where the device gains by it.
        passes_ahead: Passes that the search may take in all, over all its images: many are worth
            a compilation.
    """

    stochastic: bool = False
    batch_dependent: bool = False
    eot_iter: int = 1
    eot: Eot = "plain"
    adversary: Adversary = "joint"
    max_pass: int = 1024
    seed: int = 0
    fast: bool = False
    passes_ahead: float = 0.0


DOUBT = {torch.bfloat16: 0.05, torch.float32: 2.3e-5}
"""Share of the largest logit within which a margin on an engine decides nothing. bfloat16 keeps 8
bits: over the layers of a ResNet-20 the margin was seen to move by up to half of this. In float32
another layout moves it by the last bits: this is twice the largest move on 1,024 images, half of
them noisy, of each of the 20 checkpoints shipped on 2026-11-30, 1.1e-5 (fmnist-resnet20-gn)."""


@dataclass(frozen=True)
class Engine:
    """How a model's passes are run. The default is exact: float32, as the model is.

    Attributes:
        dtype: Of convolutions and products.
        channels_last: Whether kernels are held channels-last, which spares convolutions a copy and
            costs some normalizations more than that.
        folded: Whether norms that only scale and shift are folded into convolutions.
        side_by_side: Whether each thread of a CPU takes images of its own, see
            ``bench.oracle.side_by_side``, instead of a part of each operation.
        compiled: Whether passes go through ``torch.compile``.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    folded: bool = False
    side_by_side: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        flags = {
            "channels-last": self.channels_last,
            "folded": self.folded,
            "images side by side": self.side_by_side,
            "compiled": self.compiled,
        }
        return ", ".join([name, *(flag for flag, on in flags.items() if on)])

    @property
    def low(self) -> bool:
        """Whether passes are in less than float32."""
        return self.dtype != torch.float32

    @property
    def exact(self) -> bool:
        """Whether passes are the model's own, so that nothing needs to be confirmed."""
        return not (self.low or self.channels_last or self.folded or self.compiled)

    @property
    def doubt(self) -> float:
        """Share of the largest logit within which a margin decides nothing."""
        return 0.0 if self.exact else DOUBT[self.dtype]

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Returns the context in which passes are run."""
        return torch.autocast(device.type, self.dtype) if self.low else nullcontext()


EXACT = Engine()
ENGINES = tuple(
    Engine(dtype, channels_last, folded)
    for dtype in (torch.float32, torch.bfloat16)
    for folded in (False, True)
    for channels_last in (False, True)
)


@dataclass(frozen=True)
class Twin:
    """How a model is run in a search: by which engine, and on which copy of it.

    Attributes:
        engine: How it is run.
        copy: What is run in place of the model; ``None`` for the model itself. It shares the paths
            of an RNA model.
        seconds: What a forward and backward pass over an image took when the engine was chosen.
        fits: Images in a pass of a thread, as many as are fastest; ``None`` where that was not
            tried out.
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


def out_of_memory(error: BaseException) -> bool:
    """Says whether an error means that memory did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def give_back(device: torch.device) -> None:
    """Returns memory that is held but not used to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
