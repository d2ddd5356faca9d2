"""What the tests of attacks share by name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """A model with images (b, c, h, w) and labels (b,)."""

    model: nn.Module
    x: Tensor
    y: Tensor
    n_classes: int
