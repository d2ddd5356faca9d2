"""Models around the template classifier that draw at random, with their true robust accuracy.

Each answers another class in a tenth of its draws, so that the exact score of an image is known:
nine tenths if it is robust, and one more tenth if the other answer is right.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.selftest.exact import (
    EPS,
    N_CLASSES,
    Images,
    Template,
    bounds,
    exact_robust,
    worst_margins,
)
from bench.selftest.model_cases import Planted
from bench.selftest.planted_models import Truth, between

ERRORS = 0.1
"""Share of the draws in which another class is answered, whatever the image."""


class Dropped(Planted):
    """Applies dropout to whole images, also in eval mode: a dropped image is black."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits."""
        return super().forward(F.dropout2d(x, ERRORS, training=True))

    def truth(self, data: Images) -> Truth:
        """Returns the exact truth: what is kept is scaled, and a black image has one class."""
        low, high = (end / (1 - ERRORS) for end in bounds(data.x, EPS))
        kept = worst_margins(self.net, data.y, low, high) > 0
        black = data.y == self.net.bias.argmax()
        return between((1 - ERRORS) * kept.double() + ERRORS * black)


class Unreliable(Planted, ABC):
    """Answers class 0 in a share of the draws, whatever the image."""

    @abstractmethod
    def draw(self, x: Tensor) -> Tensor:
        """Returns a number (b,) in [0, 1) for each image (b, c, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits."""
        z = super().forward(x)
        wrong = self.draw(x.detach()).to(z.device) < ERRORS
        first = F.one_hot(torch.zeros_like(wrong, dtype=torch.int64), N_CLASSES).to(z)
        return torch.where(wrong.view(-1, 1), 2 * z.detach().abs().amax() * first, z)


class FromNumpy(Unreliable):
    """Draws from numpy's global generator."""

    def draw(self, x: Tensor) -> Tensor:
        """Returns a number for each image."""
        return torch.from_numpy(np.random.random(len(x)))


class FromPython(Unreliable):
    """Draws from Python's global generator."""

    def draw(self, x: Tensor) -> Tensor:
        """Returns a number for each image."""
        return torch.tensor([random.random() for _ in x])


class OwnTorch(Unreliable):
    """Draws from a torch generator of its own, which no global seed reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, x: Tensor) -> Tensor:
        """Returns a number for each image."""
        return torch.rand(len(x), generator=self.generator)


class OwnNumpy(Unreliable):
    """Draws from a numpy generator of its own, which no global seed reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(0)

    def draw(self, x: Tensor) -> Tensor:
        """Returns a number for each image."""
        return torch.from_numpy(self.generator.random(len(x)))


class OffGrid(Unreliable):
    """Draws for images off the grid of 8 bits only, and so for no clean one."""

    def draw(self, x: Tensor) -> Tensor:
        """Returns a number for each image."""
        off = ((x * 255).round() - x * 255).abs().flatten(1).amax(1) > 1e-3
        return torch.where(off, torch.rand(len(x)).to(x), 1.0)


def truth_unreliable(data: Images) -> Truth:
    """Returns the exact truth: a broken image is right where its class is 0, and by chance."""
    robust = exact_robust(Template(), data).double()
    return between((1 - ERRORS) * robust + ERRORS * (data.y == 0))


class SeededByImage(Unreliable):
    """Draws by the image itself: deterministic, and another number for the next image."""

    def draw(self, x: Tensor) -> Tensor:
        """Returns a number for each image."""
        bits = (x.flatten(1).double() * 2**24).round().long()
        factors = torch.arange(1, 2 * bits.shape[1], 2, device=x.device) * 7919
        return (bits * factors).sum(1) % 1009 / 1009


def truth_seeded_by_image(data: Images) -> Truth:
    """Returns the exact truth: one image in ten of any ball gets class 0."""
    return between(exact_robust(Template(), data) & (data.y == 0))
