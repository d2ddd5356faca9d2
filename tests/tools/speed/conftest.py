"""A tiny arena: a small network, and images that it classifies rightly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bench.data.slice import Slice, hash_images
from bench.evaluation.model import Target
from tools.speed.arena import Arena


class TinyNet(nn.Module):
    """A convolution, a kink, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.line = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 36, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(torch.relu(self.conv(x)).flatten(1))


@pytest.fixture
def arena() -> Arena:
    generator = torch.Generator().manual_seed(0)
    model = TinyNet().eval()
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.5
    x = torch.rand(24, 1, 6, 6, generator=generator)
    y = model(x).argmax(1)
    pixels, labels = x.numpy(), y.numpy()
    data = Slice(pixels, labels, np.arange(24), hash_images(pixels, labels))
    target = Target(model, (1.0,), 10)
    return Arena("tiny", target, data, eps=0.05, eps_l2=0.3, batch_size=10)
