"""What an attack sees of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Passes:
    """Counts of model passes, in samples: a forward pass of a batch of 8 counts 8."""

    def __init__(self) -> None:
        self.forwards = 0
        self.backwards = 0


class _CountBackward(torch.autograd.Function):
    """The identity on logits; counts the samples of each backward pass through it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, passes: Passes) -> Tensor:
        ctx.passes = passes
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        ctx.passes.backwards += grads[0].shape[0]
        return grads[0], None


class Oracle:
    """The only door between an attack and a model.

    It knows how many classes there are, counts every pass, and keeps the model's parameters out
    of the gradient. A stochastic model draws a fresh path in each pass, unless one is pinned.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, n_classes); in eval mode.
        n_classes: Number of classes.
    """

    def __init__(self, model: nn.Module, n_classes: int) -> None:
        self._model = model
        self.n_classes = n_classes
        self.passes = Passes()

    def logits(self, x: Tensor) -> Tensor:
        """Returns logits (b, n_classes) for images (b, c, h, w), differentiable in x."""
        self.passes.forwards += x.shape[0]
        logits: Tensor = self._model(x)
        return _CountBackward.apply(logits, self.passes) if logits.requires_grad else logits

    def module(self) -> OracleModule:
        """Returns an ``nn.Module`` view for third-party attacks."""
        return OracleModule(self)


class OracleModule(nn.Module):
    """An oracle as a module in eval mode. Its own mode says nothing about the model's."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self._oracle = (oracle,)  # in a tuple, so that train() and buffers() do not reach in
        device = next((p.device for p in oracle._model.parameters()), torch.device("cpu"))
        self.anchor = nn.Parameter(torch.zeros((), device=device), requires_grad=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Returns the oracle's logits."""
        return self._oracle[0].logits(x)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keeps parameters out of the gradient while the context lasts, then restores each flag."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
