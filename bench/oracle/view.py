"""An oracle as an ``nn.Module``, for attacks that know of nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from bench.oracle.oracle import Oracle
    from bench.oracle.passes import Passes


def counted(z: Tensor, passes: Passes, rows: Tensor | None, n: int) -> Tensor:
    """Returns logits z, with n backward passes counted for each of ``rows`` at each one."""
    return torch.as_tensor(_CountBackward.apply(z, passes, rows, n))


class _CountBackward(torch.autograd.Function):
    """The identity on logits; counts the backward passes through it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, passes: Passes, rows: Tensor | None, n: int) -> Tensor:
        ctx.passes, ctx.rows, ctx.n = passes, rows, n
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.passes.add("backwards", ctx.rows, ctx.n)
        return grads[0], None, None, None


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


class OracleModule(nn.Module):
    """An oracle as a module in eval mode. Its own mode says nothing about the model's.

    It returns the mean of the logits over the draws. The gradient of a loss of that mean is not
    the gradient of the mean loss, which native attacks climb; scoring is on the model itself, so
    this costs strength at most.
    """

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self._oracle = (oracle,)  # in a tuple, so that train() and buffers() do not reach in
        device = oracle.x.device
        self.anchor = nn.Parameter(torch.zeros((), device=device), requires_grad=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Returns the oracle's logits."""
        return self._oracle[0].logits(x)
