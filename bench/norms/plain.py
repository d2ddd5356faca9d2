"""Norms without batch statistics: none, fixup, gn, in and ln.

Sources: Fixup, Zhang, Dauphin & Ma 2019, https://arxiv.org/abs/1901.09321; group normalization, Wu
& He 2018, https://arxiv.org/abs/1803.08494. Layer normalization is one group and instance
normalization one channel per group, each with a learned scale and shift per channel (RNA paper,
section 3.1).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


class NoNorm(nn.Module):
    """No normalization: only the learned shift per channel that the other norms have too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Adds the shift to (b, c, h, w)."""
        return x + self.bias.view(1, -1, 1, 1).to(x.dtype)

    def inference_affine(self) -> tuple[Tensor, Tensor]:
        """Returns scale and shift (c,)."""
        return torch.ones_like(self.bias), self.bias


class FixupScale(nn.Module):
    """Fixup's scalar multiplier and bias, in the place of a normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``scale * x + bias``."""
        return x * self.scale.to(x.dtype) + self.bias.to(x.dtype)

    def inference_affine(self) -> tuple[Tensor, Tensor]:
        """Returns scale and shift (1,)."""
        return self.scale, self.bias


class FixupBias(nn.Module):
    """Fixup's scalar bias, placed before a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``x + bias``."""
        return x + self.bias.to(x.dtype)


def fixup_init(model: nn.Module) -> int:
    """Applies Fixup's initialization to every residual branch; returns how many there are.

    A residual branch is a module with convolutions ``conv1``, ``conv2`` and perhaps more that
    contains no other such module, like the blocks of torchvision and of this project. With L
    branches of m convolutions each (2 in a basic block, 3 in a bottleneck), all but the last
    convolution are He-initialized and scaled by ``L ** (-1 / (2m - 2))``; the last convolution and
    the classifier start at zero (Fixup paper, section 3, rules 1 and 2).
    """
    chains = {m: convs for m in model.modules() if len(convs := _convolutions(m)) > 1}
    # A network whose stem has several convolutions contains branches and is none itself.
    branches = [
        convs for m, convs in chains.items() if not any(n in chains for n in m.modules() if n != m)
    ]
    for *scaled, last in branches:
        scale = len(branches) ** (-1 / (2 * len(scaled)))
        for conv in scaled:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            with torch.no_grad():
                conv.weight.mul_(scale)
        nn.init.zeros_(last.weight)
    heads = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if branches and heads:
        nn.init.zeros_(heads[-1].weight)
        nn.init.zeros_(heads[-1].bias)
    return len(branches)


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """Returns a module's ``conv1``, ``conv2`` and so on, up to the first missing number."""
    numbered = (getattr(module, f"conv{i}", None) for i in itertools.count(1))
    return [conv for conv in itertools.takewhile(bool, numbered) if isinstance(conv, nn.Conv2d)]


class GroupNorm(nn.GroupNorm):
    """Group normalization of (b, c, h, w) with ``channels`` in ``groups`` groups."""

    def __init__(self, channels: int, groups: int) -> None:
        if channels % groups:
            raise ValueError(f"{channels} channels do not divide into {groups} groups")
        super().__init__(groups, channels)


def instance_norm(channels: int) -> GroupNorm:
    """Returns instance normalization: one channel per group, affine."""
    return GroupNorm(channels, channels)


def layer_norm(channels: int) -> GroupNorm:
    """Returns layer normalization over (c, h, w): one group, affine per channel."""
    return GroupNorm(channels, 1)
