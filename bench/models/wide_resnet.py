"""Wide residual networks. Source: Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.norms import NormFactory
from bench.norms.plain import FixupBias


class PreActBlock(nn.Module):
    """Twice norm, ReLU and convolution, with a shortcut around them."""

    def __init__(self, c_in: int, c_out: int, stride: int, norm: NormFactory, fixup: bool) -> None:
        super().__init__()
        bias = FixupBias if fixup else nn.Identity
        self.pre1, self.pre2 = bias(), bias()
        self.norm1 = norm(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm2 = norm(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        same = stride == 1 and c_in == c_out
        self.shortcut = None if same else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, c_in, h, w) to (b, c_out, h / stride, w / stride)."""
        y = F.relu(self.norm1(x))
        around = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(self.pre1(y))
        y = self.conv2(self.pre2(F.relu(self.norm2(y))))
        return torch.as_tensor(y + around)


class WideResNet(nn.Module):
    """Three stages of ``n`` pre-activation blocks, ``widen`` times as wide as the ResNet.

    The RNA paper's "WideResNet-32" has n = 5 and widen = 10, usually called 34-10.
    """

    def __init__(
        self, n: int, widen: int, norm: NormFactory, channels: int, classes: int, fixup: bool
    ) -> None:
        super().__init__()
        widths = [16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        stages, c_in = [], 16
        for i, width in enumerate(widths):
            stage = []
            for j in range(n):
                stage.append(PreActBlock(c_in, width, 2 if i and not j else 1, norm, fixup))
                c_in = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.norm1 = norm(widths[-1])
        self.fc = nn.Linear(widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalized images (b, c, h, w) to logits (b, classes)."""
        x = F.relu(self.norm1(self.stages(self.conv1(x))))
        return torch.as_tensor(self.fc(x.mean((2, 3))))
