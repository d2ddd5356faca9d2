"""A model that counts and times its passes, for attacks that call it themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tools.speed.clock import Stopwatch


class CountedModel(nn.Module):
    """A model that counts the images in its forward and backward passes, and times both.

    A backward pass is timed from the logits to the images. Every backward pass through one forward
    pass counts. Logits and gradients are those of the model.

    Args:
        model: Maps images (b, c, h, w) to logits (b, classes); in eval mode.
        watch: Adds up the time of the passes.
    """

    def __init__(self, model: nn.Module, watch: Stopwatch) -> None:
        super().__init__()
        self.model = model
        self.forwards, self.backwards = 0, 0
        self._watch = watch
        self._open = False
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the model's logits."""
        self.forwards += len(x)
        self.close()  # a backward pass that ended before it reached the images
        differentiated = torch.is_grad_enabled() and x.requires_grad
        if differentiated:
            x = torch.as_tensor(_AtImages.apply(x, self))
        with self._watch.running():
            z = torch.as_tensor(self.model(x))
        return torch.as_tensor(_AtLogits.apply(z, self)) if differentiated else z

    def open(self, n: int) -> None:
        """Records the start of a backward pass over n images."""
        self.close()
        self.backwards += n
        self._open = True
        self._watch.begin()

    def close(self) -> None:
        """Records the end of the current backward pass, if any."""
        if self._open:
            self._open = False
            self._watch.end()


class _AtImages(torch.autograd.Function):
    """The identity on images; a backward pass ends here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counted: CountedModel) -> Tensor:
        ctx.counted = counted
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        ctx.counted.close()
        return grads[0], None


class _AtLogits(torch.autograd.Function):
    """A copy of logits, which attacks may write to; a backward pass begins here."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, counted: CountedModel) -> Tensor:
        ctx.counted = counted
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        ctx.counted.open(len(grads[0]))
        return grads[0], None
