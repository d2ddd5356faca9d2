"""Tiny models whose answers are known, or which watch what an attack does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attack_cases import Case
from torch import Tensor, nn


class Watch(nn.Module):
    """Passes images on to a model and keeps a copy of every batch it was asked about."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.batches: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(x.detach().clone())
        logits: Tensor = self.model(x)
        return logits


def make_linear(n_classes: int, b: int = 8, channels: int = 1, size: int = 8) -> Case:
    """A linear model, right on every image; pixels stay 0.2 away from the edges of the box."""
    generator = torch.Generator().manual_seed(n_classes)
    layer = nn.Linear(channels * size * size, n_classes)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        layer.bias.fill_(30.0)  # positive logits: torchattacks' CW takes 0 for the best other one
    x = 0.3 + 0.4 * torch.rand(b, channels, size, size, generator=generator)
    model = nn.Sequential(nn.Flatten(), layer).eval()
    return Case(model, x, model(x).argmax(1), n_classes)


def make_conv(n_classes: int = 10, b: int = 5, channels: int = 3, size: int = 8) -> Case:
    """A small conv net in mixed modes; its images' means rise, and the last label is wrong."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 1, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.0),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(128, n_classes),
        )
        noise = 0.1 * torch.rand(b, channels, size, size)
    model.eval()[3].train()
    x = noise + torch.linspace(0.1, 0.8, b).view(b, 1, 1, 1)
    y = model(x).argmax(1)
    y[-1] = (y[-1] + 1) % n_classes
    return Case(model, x, y, n_classes)


@pytest.fixture
def linear() -> Callable[..., Case]:
    return make_linear


@pytest.fixture
def conv() -> Callable[..., Case]:
    return make_conv


@pytest.fixture
def watch() -> type[Watch]:
    return Watch
