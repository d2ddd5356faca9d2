"""The way in which a device runs a model fastest; what a search finds is confirmed in float32."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bench.norms import find_paths
from bench.norms.affine import folds

DOUBT = 0.05
"""Share of the largest logit within which a margin in low precision decides nothing. bfloat16 keeps
8 bits: over the layers of a ResNet-20 the margin was seen to move by up to half of this."""

GAIN = 1.15
"""Times faster that low precision must be to be used: below that, confirming eats the gain."""

N_TIMED, LARGE = 32, 64
"""Images that a model is timed with; 2 of more than 64 x 64 pixels."""

N_ROUNDS = 4
"""Times that an engine is timed."""

COMPILE_SECONDS = 180.0
"""Search that must lie ahead before a model is compiled, which itself takes up to a minute."""

COMPILED_BATCH = 64
"""Images in a compiled pass, which is made for one shape; what is left over is run uncompiled."""


@dataclass(frozen=True)
class Engine:
    """How a model's passes are run. The default is exact: float32, as the model is.

    Attributes:
        dtype: Of convolutions and products.
        channels_last: Whether kernels are held channels-last, which spares convolutions in low
            precision a copy and costs some normalizations more than that.
        folded: Whether norms that only scale and shift are folded into convolutions.
        compiled: Whether whole batches go through ``torch.compile``.
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
        compiled: Runs whole batches, where the engine says so.
    """

    engine: Engine
    copy: nn.Module | None = None
    seconds: float = 0.0
    compiled: Callable[[Tensor], Tensor] | None = None

    def __call__(self, model: nn.Module, x: Tensor) -> Tensor:
        """Returns logits of images (b, c, h, w), in the engine's precision."""
        run: Callable[[Tensor], Tensor] = self.copy or model
        if self.compiled is not None and len(x) == COMPILED_BATCH:
            run = self.compiled
        with self.engine.precision(x.device):
            return torch.as_tensor(run(x))


Run = Callable[[Twin, Tensor], Tensor]
"""Passes images through a model as a twin runs it, to logits."""

_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Twin]] = WeakKeyDictionary()
"""What was found out for each model, by the shape and the device of its images."""


def choose_twin(model: nn.Module, x: Tensor, run: Run, passes_ahead: float) -> Twin:
    """Returns how a model is attacked fastest, compiled where so long a search lies ahead.

    Args:
        model: In eval mode.
        x: Images (b, c, h, w) on the device.
        run: Passes images through the model.
        passes_ahead: Forward or backward passes of single images.
    """
    twin = fastest_twin(model, x, run)
    # Two passes, there and back, took ``seconds``.
    worth = passes_ahead / 2 * twin.seconds >= COMPILE_SECONDS
    if worth and len(x) >= COMPILED_BATCH and not twin.engine.exact:
        return compiled_twin(model, twin, x, run)
    return twin


def fastest_twin(model: nn.Module, x: Tensor, run: Run) -> Twin:
    """Returns how a model is attacked fastest on a device.

    Found out by timing a few forward and backward passes in each engine, in turns, once for each
    model and process; again when its weights have changed.

    Args:
        model: In eval mode.
        x: Images (b, c, h, w) on the device; the first few are used.
        run: Passes images through a twin, to logits.
    """
    known = _KNOWN.setdefault(model, {})
    key = (tuple(x.shape[1:]), x.device, _state(model))
    if key not in known:
        known.clear()
        few = x[: N_TIMED if max(x.shape[2:]) <= LARGE else 2]
        exact, *others = _race(_candidates(model, few), few, run) or [Twin(EXACT)]
        best = min([exact, *others], key=lambda twin: twin.seconds)
        known[key] = best if best.seconds * GAIN < exact.seconds else exact
    return known[key]


def compiled_twin(model: nn.Module, twin: Twin, x: Tensor, run: Run) -> Twin:
    """Returns a twin with ``torch.compile``, tried out and faster; the twin itself where it is not.

    Args:
        model: The model whose twin it is.
        twin: What ``fastest_twin`` returned.
        x: At least ``COMPILED_BATCH`` images.
        run: As for ``fastest_twin``.
    """
    if twin.engine.compiled or find_paths(model) is not None:
        return twin
    few = x[:COMPILED_BATCH]
    try:
        laid_out = twin.copy or _copy(model)
        function = torch.compile(laid_out, dynamic=False)
        engine = replace(twin.engine, compiled=True)
        compiled = replace(twin, engine=engine, copy=laid_out, compiled=function)
        with torch.no_grad():
            run(compiled, few)
    except Exception:  # no compiler, or a model that it cannot take
        return twin
    raced = _race([twin, compiled], few, run)
    if len(raced) < 2 or raced[1].seconds * GAIN >= raced[0].seconds:
        return twin
    known = _KNOWN.get(model, {})
    known.update({key: raced[1] for key, value in known.items() if value is twin})
    return raced[1]


def _candidates(model: nn.Module, x: Tensor) -> list[Twin]:
    """Returns twins of a model in every engine, as far as it can be laid out for them."""
    twins = []
    for engine in ENGINES:
        try:
            twins.append(_twin(model, engine, x))
        except Exception:  # foreign code that cannot be copied
            continue
    return [twin for twin in twins if twin is not None]


def _race(twins: list[Twin], x: Tensor, run: Run) -> list[Twin]:
    """Returns twins with the shortest time that a pass over an image took, there and back.

    They take turns, so that a moment in which the machine is busy strikes them all. Those that
    fail are left out, all of them where the first one does: that is for the attack to meet.
    """
    running = dict(enumerate(twins))
    times: dict[int, list[float]] = {number: [] for number in running}
    for _ in range(1 + N_ROUNDS):
        for number, twin in list(running.items()):
            try:
                times[number].append(_timed(twin, x, run))
            except Exception:  # foreign code, or a device, that knows no low precision
                del running[number]
        if 0 not in running:
            return []
    # The first round made ready what each needs.
    return [replace(t, seconds=min(times[i][1:]) / len(x)) for i, t in running.items()]


def _twin(model: nn.Module, engine: Engine, x: Tensor) -> Twin | None:
    """Returns the model as an engine holds it, or ``None`` where nothing can be folded."""
    if not engine.folded and not engine.channels_last:
        return Twin(engine)
    if engine.folded and find_paths(model) is not None:
        return None
    laid_out = _copy(model)
    if engine.folded and not folds(laid_out, model, x):
        return None
    if engine.channels_last:
        laid_out = laid_out.to(memory_format=torch.channels_last)
    return Twin(engine, laid_out)


def _copy(model: nn.Module) -> nn.Module:
    paths = find_paths(model)
    memo = {} if paths is None else {id(paths): paths}
    return copy.deepcopy(model, memo).requires_grad_(False)


def _state(model: nn.Module) -> tuple[object, ...]:
    """Returns what changes when a weight or buffer does."""
    tensors = [*model.parameters(), *model.buffers()]
    sums = [t.detach().double().sum() for t in tensors]
    total = torch.stack([s.cpu() for s in sums]).tolist() if sums else []
    modes = tuple(module.training for module in model.modules())
    return (*total, *(t._version for t in tensors), modes)


def _timed(twin: Twin, x: Tensor, run: Run) -> float:
    started = time.perf_counter()
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        z = run(twin, x)
    if z.requires_grad:
        torch.autograd.grad(z.float().sum(), x)
    float(z.detach().sum())  # waits for a GPU
    return time.perf_counter() - started
