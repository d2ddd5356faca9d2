"""Models that draw at random, or whose images share statistics of the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.selftest.exact import N_CLASSES, template_images
from bench.selftest.models import Planted


class LabelNoise(Planted):
    """Answers with another class in a share of the draws, whatever the image.

    Args:
        accuracy: Share of the draws in which the answer stays.
    """

    def __init__(self, accuracy: float) -> None:
        super().__init__()
        self.accuracy = accuracy

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits, each image's moved on by a class in some draws."""
        z = super().forward(x)
        wrong = torch.rand(len(x), 1, device=x.device) >= self.accuracy
        return torch.where(wrong, z.roll(1, dims=1), z)


class Lottery(Planted):
    """Is right by a margin of 1 in most draws, and wrong by 100 in the others.

    Its mean logits are those of another model, which is always wrong.

    Args:
        accuracy: Share of the draws in which the template's answer stays.
    """

    def __init__(self, accuracy: float) -> None:
        super().__init__()
        self.accuracy = accuracy

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits of two heights, with a little of the template's for a slope."""
        z = super().forward(x)
        answer = F.one_hot(z.argmax(1), N_CLASSES).to(z)
        wrong = torch.rand(len(x), 1, device=x.device) >= self.accuracy
        return torch.where(wrong, 100 * answer.roll(1, dims=1), answer) + 1e-3 * z


class NoisySlope(Planted):
    """Multiplies each pixel's distance from grey by a random factor.

    The gradient of one draw often points the wrong way.

    Args:
        spread: Standard deviation of the factors around 1.
    """

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to noisy logits."""
        gain = 1 + self.spread * torch.randn_like(x)
        return super().forward(gain * (x - 0.5) + 0.5)


class SharedDraw(Planted):
    """Throws one coin a pass: either every image of the batch gets its answer, or none does."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits, all of them moved on by a class in half of the draws."""
        z = super().forward(x)
        return z.roll(1, dims=1) if float(torch.rand(())) < 0.5 else z


class CentredOnBatch(Planted):
    """Compares each image with the mean of its batch, as layers on batch statistics do."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", template_images().x.mean(0, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits that depend on the other images."""
        return super().forward(x - x.mean(0, keepdim=True) + self.centre)
