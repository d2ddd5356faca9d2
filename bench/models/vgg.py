"""VGG with one normalization after each convolution.

Source: Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556, configurations A (11 layers)
and D (16). The classifier is one linear layer, as is usual for small images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.norms import NormFactory

LAYERS: dict[int, list[int | str]] = {
    11: [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    16: [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"],
}


class VGG(nn.Module):
    """Convolutions, ReLU and max pooling, then global average pooling and one linear layer."""

    def __init__(self, depth: int, norm: NormFactory, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in = channels
        for entry in LAYERS[depth]:
            if isinstance(entry, str):
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
                continue
            conv = nn.Conv2d(c_in, entry, 3, 1, 1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            layers += [conv, norm(entry), nn.ReLU(inplace=True)]
            c_in = entry
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalized images (b, c, h, w) to logits (b, classes)."""
        return torch.as_tensor(self.fc(self.features(x).mean((2, 3))))
