"""Norms that compute statistics over the batch: bn, bgn and rn, with a choice at inference.

Sources: batch normalization, Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167; Batch Group
Normalization, Zhou et al. 2020, https://arxiv.org/abs/2012.02782; RobustNorm, and the choice of
statistics at inference, https://arxiv.org/abs/2006.11007, equations 1 to 6.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.core.norm_spec import FAMILIES


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization of (b, c, h, w) whose inference statistics can be chosen.

    Attributes:
        stats: In eval mode, ``"population"`` uses the tracked mean and variance; ``"batch"`` uses
            those of the current batch and does not update the tracked ones.
    """

    stats_choices = FAMILIES["bn"].stats

    def __init__(self, channels: int, stats: str = "population") -> None:
        super().__init__(channels)
        self.stats = stats

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes each channel over batch and space; same shape out."""
        if self.training or self.stats == "population":
            return super().forward(x)
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)

    def inference_affine(self) -> tuple[Tensor, Tensor] | None:
        """Returns scale and shift (c,) on population statistics."""
        return batch_norm_affine(self) if self.stats == "population" else None


def batch_norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor] | None:
    """Returns scale and shift (c,) of a layer in eval mode, if it tracks statistics."""
    if norm.running_mean is None or norm.running_var is None:
        return None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else norm.weight * scale
    return scale, (0 if norm.bias is None else norm.bias) - norm.running_mean * scale


class BatchGroupNorm(nn.Module):
    """Batch statistics shared by the channels of a group, tracked for inference.

    Channel i belongs to group ``floor(i * groups / channels)`` (RNA paper, equation 3, where
    batch normalization is the case of one channel per group).

    Attributes:
        stats: As for ``BatchNorm``.
    """

    stats_choices = FAMILIES["bgn"].stats
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, groups: int, stats: str = "population") -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels do not divide into {groups} groups")
        self.groups, self.stats, self.eps, self.momentum = groups, stats, 1e-5, 0.1
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(groups))
        self.register_buffer("running_var", torch.ones(groups))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes each group of channels over batch, group and space; same shape out."""
        b, c, h, w = x.shape
        size = c // self.groups
        if not self.training and self.stats == "population":
            mean = self.running_mean.repeat_interleave(size)
            var = self.running_var.repeat_interleave(size)
            return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        grouped = x.reshape(b, self.groups, size * h, w)
        mean_to, var_to = (self.running_mean, self.running_var) if self.training else (None, None)
        y = F.batch_norm(grouped, mean_to, var_to, None, None, True, self.momentum, self.eps)
        y = y.reshape(b, c, h, w)
        return y * self.weight.view(1, c, 1, 1) + self.bias.view(1, c, 1, 1)

    def inference_affine(self) -> tuple[Tensor, Tensor] | None:
        """Returns scale and shift (c,) on population statistics."""
        if self.stats != "population":
            return None
        size = len(self.weight) // self.groups
        scale = self.weight * (self.running_var + self.eps).rsqrt().repeat_interleave(size)
        return scale, self.bias - self.running_mean.repeat_interleave(size) * scale


class RobustNorm(nn.Module):
    """Subtracts the mean and divides by a power of the range: ``(x - mean) / range**p``.

    Mean and range are per channel, over batch and space. Training uses those of the batch and
    tracks both with a moving average. Source: RobustNorm paper, equation 6.

    Attributes:
        stats: At inference, ``"batch"``: mean and range of the batch; ``"tracked-mean"``: tracked
            mean, range of the batch; ``"population"``: both tracked.
    """

    stats_choices = FAMILIES["rn"].stats
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
        # Half precision would lose the small eps; float64 stays, for gradcheck.
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
