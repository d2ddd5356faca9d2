"""How an oracle may be queried, and the ways to run a model's passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from bench.core.cell import Adversary, Eot


@dataclass(frozen=True)
class QueryRules:
    """What the model is, and how queries are answered.

    Attributes:
        stochastic: Whether passes draw at random.
        batch_dependent: Whether images of a batch share statistics.
        eot_iter: Draws over which losses and gradients are averaged, at least 1.
        eot: How draws are chosen, see ``bench.core.cell``; anything but ``plain`` needs RNA layers.
        adversary: For a batch-dependent model, see ``bench.core.cell``.
        max_pass: Most images in one pass. Larger queries are split, which never changes a result;
            passes are smaller where that is faster, or where memory runs out.
        seed: Seeds the draws.
        fast: Whether queries may run in a lower precision where the device gains by it.
        passes_ahead: Expected passes of the whole search; decides whether ``torch.compile`` pays.
        targeted: Whether the labels of queries are classes to bring images to. Losses are then
            negated, and an answer is ``correct`` where the prediction is not the target: what an
            untargeted attack raises and breaks is what leads to the target.
        index: Positions of the batch's images in their split, if known.
        cell_seed: Seed of the cell, which its batches share.
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
    targeted: bool = False
    index: tuple[int, ...] = ()
    cell_seed: int = 0


DOUBT = {torch.bfloat16: 0.05, torch.float32: 2.3e-5}
"""Margins smaller than this share of the largest logit are confirmed on the exact model. bfloat16
has 8 significant bits: through the layers of a ResNet-20, margins moved by up to half of this. In
float32 another layout changes the last bits: this is twice the largest move on 1,024 images, half
of them noisy, of each of the 20 checkpoints shipped on 2026-11-30, 1.1e-5 (fmnist-resnet20-gn)."""


@dataclass(frozen=True)
class Engine:
    """A way to run a model's passes. The default is exact: float32, the model as it is.

    Attributes:
        dtype: Precision of convolutions and matrix products.
        channels_last: Whether kernels are stored channels-last, which saves convolutions a copy but
            slows some normalizations down by more.
        folded: Whether norms that only scale and shift are folded into convolutions.
        side_by_side: Whether each CPU thread runs images of its own (``bench.oracle.side_by_side``)
            rather than a part of each operation.
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
        """Whether the precision is below float32."""
        return self.dtype != torch.float32

    @property
    def exact(self) -> bool:
        """Whether passes are those of the model itself, so that nothing needs confirming."""
        return not (self.low or self.channels_last or self.folded or self.compiled)

    @property
    def doubt(self) -> float:
        """Share of the largest logit below which a margin is confirmed."""
        return 0.0 if self.exact else DOUBT[self.dtype]

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Returns the autocast context in which passes run."""
        return torch.autocast(device.type, self.dtype) if self.low else nullcontext()


EXACT = Engine()
ENGINES = tuple(
    Engine(dtype, channels_last, folded)
    for dtype in (torch.float32, torch.bfloat16)
    for folded in (False, True)
    for channels_last in (False, True)
)


@dataclass(frozen=True)
class PreparedModel:
    """A model prepared for one engine: the engine, and the folded or low-precision copy it runs.

    Attributes:
        engine: How passes are run.
        copy: Runs in place of the model, and shares its RNA paths; ``None`` for the model itself.
        seconds: Time of a forward and backward pass over one image when the engine was chosen.
        fits: Images per pass and thread at which passes are fastest; ``None`` if not measured.
        compiled: Runs passes of two or more images where the engine is compiled. A single image
            would trigger a compilation of its own, which does not pay.
    """

    engine: Engine
    copy: nn.Module | None = None
    seconds: float = 0.0
    fits: int | None = None
    compiled: Callable[[Tensor], Tensor] | None = None

    def __call__(self, model: nn.Module, x: Tensor) -> Tensor:
        """Returns the logits of images (b, c, h, w), in the engine's precision."""
        run: Callable[[Tensor], Tensor] = self.copy or model
        if self.compiled is not None and len(x) > 1:
            run = self.compiled
        with self.engine.precision(x.device):
            return torch.as_tensor(run(x))


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Turns off gradients of a model's parameters in this context, then restores each flag."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    for parameter, _ in flags:  # requires_grad_ of a module fails for scripts
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def input_kept(model: nn.Module) -> Iterator[None]:
    """Has passes of a model, and of copies made in this context, see copies of their images.

    So a forward pass that writes into its input changes no image but its own.
    """

    def copied(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        first = args[0].clone() if args and isinstance(args[0], Tensor) else None
        return args if first is None else (first, *args[1:])

    if isinstance(model, torch.jit.ScriptModule):  # takes no hook of its own

        def of_scripts(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            return copied(module, args) if isinstance(module, torch.jit.ScriptModule) else None

        handle = register_module_forward_pre_hook(of_scripts)  # type: ignore[arg-type]
    else:
        handle = model.register_forward_pre_hook(copied, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that memory ran out, on a GPU or in RAM."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def release_cached_memory(device: torch.device) -> None:
    """Returns memory that PyTorch caches but does not use to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
