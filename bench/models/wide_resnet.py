"""Networks of pre-activation blocks: wide residual networks, and pre-activation ResNets.

Sources: Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146; He et al. 2016,
https://arxiv.org/abs/1603.05027.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.norms import NormFactory
from bench.norms.plain import FixupBias


class PreActBlock(nn.Module):
    """Twice norm, ReLU and convolution, with a shortcut around them.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: Of the first convolution.
        norm: Makes the normalization layers.
        fixup: Whether scalar biases precede the convolutions.
        from_input: Whether a shortcut's convolution takes the block's input, not its activation.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        norm: NormFactory,
        fixup: bool,
        from_input: bool = False,
    ) -> None:
        super().__init__()
        self.from_input = from_input
        bias = FixupBias if fixup else nn.Identity
        self.pre1, self.pre2 = bias(), bias()
        self.norm1 = norm(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm2 = norm(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        same = stride == 1 and c_in == c_out
        self.shortcut: nn.Module | None
        self.shortcut = None if same else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (b, c_in, h, w) to (b, c_out, h / stride, w / stride)."""
        y = F.relu(self.norm1(x))
        around = x if self.shortcut is None else self.shortcut(x if self.from_input else y)
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


class PreActResNet(nn.Module):
    """A ResNet of four stages of pre-activation blocks, 64 to 512 channels wide.

    Args:
        blocks: Blocks per stage.
        norm: Makes the normalization layers.
        channels: Input channels.
        classes: Number of classes.
        fixup: Whether the blocks have Fixup's biases.
        final: Whether a norm and a ReLU precede the classifier, as in the paper.
        from_input: As in ``PreActBlock``.
        large: A 7x7 stem with stride 2 and max pooling, for 224-pixel images.
    """

    def __init__(
        self,
        blocks: list[int],
        norm: NormFactory,
        channels: int,
        classes: int,
        fixup: bool,
        final: bool,
        from_input: bool,
        large: bool,
    ) -> None:
        super().__init__()
        kernel, stride = (7, 2) if large else (3, 1)
        self.conv1 = nn.Conv2d(channels, 64, kernel, stride, kernel // 2, bias=False)
        self.pool: nn.Module = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        stages, c_in = [], 64
        for i, n in enumerate(blocks):
            stage, width = [], 64 * 2**i
            for j in range(n):
                step = 2 if i and not j else 1
                block = PreActBlock(c_in, width, step, norm, fixup, from_input)
                if block.shortcut is not None:  # in a container, as in public implementations
                    block.shortcut = nn.Sequential(block.shortcut)
                stage.append(block)
                c_in = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.norm: nn.Module | None = norm(c_in) if final else None
        self.fc = nn.Linear(c_in, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalized images (b, c, h, w) to logits (b, classes)."""
        x = self.stages(self.pool(self.conv1(x)))
        if self.norm is not None:
            x = F.relu(self.norm(x))
        return torch.as_tensor(self.fc(x.mean((2, 3))))
