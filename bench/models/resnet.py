"""Residual networks: the CIFAR family of 6n+2 layers, ResNet-18 and ImageNet's ResNet-50.

Source: He et al. 2016, https://arxiv.org/abs/1512.03385, sections 4.1 and 4.2.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.norms import NormFactory
from bench.norms.plain import FixupBias


class PadShortcut(nn.Module):
    """The parameter-free shortcut (option A): strided identity, new channels filled with zeros."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = c_out - c_in, stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, c_in, h, w) to (b, c_out, h / stride, w / stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))


def _shortcut(c_in: int, c_out: int, stride: int, norm: NormFactory, projection: bool) -> nn.Module:
    """Returns the shortcut that maps a block's input to the shape of its output."""
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    if projection:
        return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), norm(c_out))
    return PadShortcut(c_in, c_out, stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them.

    With Fixup, a scalar bias precedes each convolution (Fixup paper, figure 1).

    Attributes:
        expansion: Output channels per channel of the stage's width.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self, c_in: int, c_out: int, stride: int, norm: NormFactory, fixup: bool, projection: bool
    ) -> None:
        super().__init__()
        bias = FixupBias if fixup else nn.Identity
        self.pre1, self.pre2 = bias(), bias()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = norm(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = norm(c_out)
        self.shortcut = _shortcut(c_in, c_out, stride, norm, projection)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, c_in, h, w) to (b, c_out, h / stride, w / stride)."""
        y = F.relu(self.norm1(self.conv1(self.pre1(x))))
        y = self.norm2(self.conv2(self.pre2(y)))
        return F.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, four times as wide at the end, with a shortcut around them.

    The stride is in the 3x3 convolution, as in torchvision ("v1.5"), so that no position is
    skipped; in the paper it is in the first 1x1. With Fixup, a scalar bias precedes each
    convolution.

    Attributes:
        expansion: Output channels per channel of the stage's width.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self, c_in: int, width: int, stride: int, norm: NormFactory, fixup: bool, projection: bool
    ) -> None:
        super().__init__()
        bias = FixupBias if fixup else nn.Identity
        c_out = width * self.expansion
        self.pre1, self.pre2, self.pre3 = bias(), bias(), bias()
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm2 = norm(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.norm3 = norm(c_out)
        self.shortcut = _shortcut(c_in, c_out, stride, norm, projection)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, c_in, h, w) to (b, 4 width, h / stride, w / stride)."""
        y = F.relu(self.norm1(self.conv1(self.pre1(x))))
        y = F.relu(self.norm2(self.conv2(self.pre2(y))))
        y = self.norm3(self.conv3(self.pre3(y)))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network of one kind of block.

    Args:
        blocks: Blocks per stage.
        widths: Channels per stage, before the block's expansion; every stage after the first
            halves height and width.
        norm: Makes the normalization layers.
        channels: Input channels.
        classes: Number of classes.
        fixup: Whether the blocks have Fixup's biases.
        projection: 1x1 convolutions in the shortcuts instead of zero padding.
        large: A 7x7 stem with stride 2 and max pooling, for 224-pixel images.
        block: The kind of block.
    """

    def __init__(
        self,
        blocks: list[int],
        widths: list[int],
        norm: NormFactory,
        channels: int,
        classes: int,
        fixup: bool,
        projection: bool,
        large: bool,
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock,
    ) -> None:
        super().__init__()
        kernel, stride = (7, 2) if large else (3, 1)
        self.conv1 = nn.Conv2d(channels, widths[0], kernel, stride, kernel // 2, bias=False)
        self.norm1 = norm(widths[0])
        self.pool: nn.Module = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        stages, c_in = [], widths[0]
        for i, (n, width) in enumerate(zip(blocks, widths, strict=True)):
            stage = []
            for j in range(n):
                step = 2 if i and not j else 1
                stage.append(block(c_in, width, step, norm, fixup, projection))
                c_in = width * block.expansion
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.fc_bias: nn.Module = FixupBias() if fixup else nn.Identity()
        self.fc = nn.Linear(c_in, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalized images (b, c, h, w) to logits (b, classes)."""
        x = self.stages(self.pool(F.relu(self.norm1(self.conv1(x)))))
        return torch.as_tensor(self.fc(self.fc_bias(x.mean((2, 3)))))
