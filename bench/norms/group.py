"""Normalizations over one image: group, instance and layer.

Source: Wu & He 2018, https://arxiv.org/abs/1803.08494. Layer normalization is one group, instance
normalization one channel per group, each with a learned scale and shift per channel (RNA paper,
section 3.1).
"""

from __future__ import annotations

from torch import nn


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
