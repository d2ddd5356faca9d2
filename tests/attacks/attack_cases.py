"""What the tests of attacks share by name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from bench.attacks.registry import DECLARED

NATIVE = [name for name, attack in DECLARED.items() if not attack.library]

SEARCHES = ("apgd", "apgd_t", "fab_t", "square", "autoattack", "auto")
"""Native attacks with tests of their own; any other is picked up by its traits."""


@dataclass(frozen=True)
class Case:
    """A model with images (b, c, h, w) and labels (b,)."""

    model: nn.Module
    x: Tensor
    y: Tensor
    n_classes: int
