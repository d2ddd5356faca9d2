"""Deterministic models that hide, or misreport, what the template classifier really does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.selftest.exact import Images, Template, bounds, template_images, worst_margins

SATURATING = 2.0**14
"""A power of 2: it saturates the softmax and changes no prediction, not even by rounding."""

LEVELS = 8
"""Steps between black and white that the quantized model tells apart."""


class Planted(nn.Module):
    """A model around the template classifier, in eval mode."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.net = Template(scale)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (b, 1, 28, 28) to logits (b, 10)."""
        return torch.as_tensor(self.net(x))


class Probabilities(Planted):
    """Returns the softmax where logits are expected; no prediction changes.

    Args:
        scale: Of the logits, so that most probabilities are close to 0 or 1.
    """

    def __init__(self, scale: float = 64.0) -> None:
        super().__init__(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to probabilities."""
        return super().forward(x).softmax(1)


class Detached(Planted):
    """Cuts the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits that know nothing of them."""
        return super().forward(x.detach())


class Quantized(Planted):
    """Rounds pixels to a few levels, so that the gradient is zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits that are constant almost everywhere."""
        return super().forward(quantize(x))


def quantize(x: Tensor) -> Tensor:
    """Rounds pixels to the nearest level."""
    return (x * LEVELS).round() / LEVELS


def exact_quantized(model: Quantized, data: Images, eps: float) -> float:
    """Returns the exact robust accuracy: rounding is monotone, so it maps a range to a range."""
    low, high = (quantize(end.float()) for end in bounds(data.x, eps))
    return float((worst_margins(model.net, data.y, low, high) > 0).double().mean())


class _Backwards(torch.autograd.Function):
    """The identity with a gradient that is not its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


class WrongGradient(Planted):
    """Replaces the gradient by its opposite."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits whose gradient points the wrong way."""
        return super().forward(torch.as_tensor(_Backwards.apply(x)))


class NaNGradient(Planted):
    """Goes through a square root, whose slope at a black pixel is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the template's logits up to rounding; their gradient is NaN."""
        return super().forward(x.sqrt().square())


class _OnGrid(torch.autograd.Function):
    """The identity whose gradient is zero for images with a pixel off the 8-bit grid."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        off = ((x * 255).round() - x * 255).abs().flatten(1).amax(1)
        ctx.save_for_backward((off < 1e-3).to(x).view(-1, 1, 1, 1))
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (on_grid,) = ctx.saved_tensors
        return torch.as_tensor(grads[0] * on_grid)


class GradientAtDataOnly(Planted):
    """Has a gradient at 8-bit images, and none a random step away from them."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the template's logits."""
        return super().forward(torch.as_tensor(_OnGrid.apply(x)))


class Restoring(Planted):
    """Knows the images it is tested on, and restores those that are farther than ``reach``.

    Args:
        known: Images (n, c, h, w).
        reach: Distance in linf up to which an image is taken as it is.
    """

    known: Tensor

    def __init__(self, known: Tensor, reach: float) -> None:
        super().__init__()
        self.register_buffer("known", known.clone())
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits; far ones to those of the known image that is nearest."""
        nearest = self.known[torch.cdist(x.flatten(1), self.known.flatten(1)).argmin(1)]
        far = (x - nearest).abs().flatten(1).amax(1) > self.reach + 1e-6
        return super().forward(torch.where(far.view(-1, 1, 1, 1), nearest, x))


class PathOutside(Planted):
    """Holds two branches; which of them runs is set from outside, by ``draw``."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        other = Template()
        other.weight.add_(0.05 * torch.randn(other.weight.shape, generator=generator))
        self.branches = nn.ModuleList([self.net, other])
        self.path = 0

    def draw(self, generator: torch.Generator) -> None:
        """Draws the branch of the passes to come."""
        self.path = int(torch.randint(2, (), generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the logits of the branch that was set last."""
        return torch.as_tensor(self.branches[self.path](x))


class Remembering(Planted):
    """Corrects the brightness by a running mean that every forward pass moves."""

    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", template_images().x.mean())
        self.register_buffer("target", self.level.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits, and changes a buffer."""
        with torch.no_grad():
            self.level.lerp_(x.mean(), 0.1)
        return super().forward(x - self.level + torch.as_tensor(self.target))


class Purifying(Planted):
    """Steps towards a more likely image before it classifies, by a gradient of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the logits of what they are purified to."""
        with torch.enable_grad():
            copy = x.detach().clone().requires_grad_()
            (grad,) = torch.autograd.grad(super().forward(copy).logsumexp(1).sum(), copy)
        return super().forward((x + 0.05 * grad.sign()).clamp(0, 1))
