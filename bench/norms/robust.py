"""RobustNorm. Source: https://arxiv.org/abs/2006.11007, equation 6."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RobustNorm(nn.Module):
    """Centres by the mean and divides by a power of the range: ``(x - mean) / range**p``.

    Mean and range are taken per channel over batch and space. Training uses the batch's and
    tracks both with a moving average.

    Attributes:
        stats: At inference, ``"batch"``: mean and range of the batch; ``"tracked-mean"``: tracked
            mean, range of the batch; ``"population"``: both tracked.
    """

    running_mean: Tensor
    running_range: Tensor

    def __init__(self, channels: int, power: float = 0.2, stats: str = "batch") -> None:
        super().__init__()
        self.power, self.stats, self.eps, self.momentum = power, stats, 1e-5, 0.1
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_range", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes (b, c, h, w); same shape out."""
        use_batch_mean = self.training or self.stats == "batch"
        use_batch_range = self.training or self.stats != "population"
        mean = x.mean((0, 2, 3)) if use_batch_mean else self.running_mean
        extent = x.amax((0, 2, 3)) - x.amin((0, 2, 3)) if use_batch_range else self.running_range
        if self.training:
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_range.lerp_(extent.to(self.running_range.dtype), self.momentum)
        # Half precision would lose the small eps; float64 stays as it is, for checks by gradcheck.
        wide = torch.promote_types(x.dtype, torch.float32)
        scale = self.weight / (extent.to(wide) + self.eps) ** self.power
        shift = self.bias - mean.to(wide) * scale
        shape = (1, -1, 1, 1)
        return x * scale.view(shape).to(x.dtype) + shift.view(shape).to(x.dtype)

    def inference_affine(self) -> tuple[Tensor, Tensor] | None:
        """Returns scale and shift (c,) on population statistics."""
        if self.stats != "population":
            return None
        scale = self.weight / (self.running_range + self.eps) ** self.power
        return scale, self.bias - self.running_mean * scale
