"""Models and attacks whose outcome is known in closed form, for tests of ``evaluate()``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

N = 12
DECLARED: dict[str, Any] = {"stochastic": False, "batch_dependent": False, "probe": False}
"""What spares a deterministic model the probe."""
QUICK: dict[str, Any] = {**DECLARED, "sentinel": False, "progress": False}


class Brightness(nn.Module):
    """Class 1 where the mean of an image is above 0.5; its margin is known in closed form."""

    def __init__(self, slope: float = 20.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x: Tensor) -> Tensor:
        z = (x.mean((1, 2, 3)) - 0.5) * self.slope
        return torch.stack([-z, z], 1)


def images(n: int = N) -> tuple[Tensor, Tensor]:
    """Images whose mean lies 0.02, 0.04, ... from 0.5, on both sides in turn."""
    distance = 0.02 * torch.arange(1, n + 1)
    y = torch.arange(n) % 2
    level = 0.5 + distance * (2 * y - 1)
    return level.view(-1, 1, 1, 1).expand(n, 3, 8, 8).clone(), y


def sign_step(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """FGSM: the optimal attack on ``Brightness`` in linf."""
    x = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(x), y)
    (slope,) = torch.autograd.grad(loss, x)
    return (x + eps * slope.sign()).clamp(0, 1)
