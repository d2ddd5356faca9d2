"""Augmentation of a whole batch at once, on the device that holds it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.train.recipe import Augment


def augment_batch(x: Tensor, spec: Augment, generator: torch.Generator) -> Tensor:
    """Crops and flips each image (b, c, h, w) at random; same shape and dtype out."""
    b, c, h, w = x.shape
    if spec.pad:
        padded = F.pad(x, (spec.pad,) * 4)
        offsets = torch.randint(2 * spec.pad + 1, (2, b), generator=generator).to(x.device)
        rows = (offsets[0, :, None] + torch.arange(h, device=x.device)).view(b, 1, h, 1)
        columns = (offsets[1, :, None] + torch.arange(w, device=x.device)).view(b, 1, 1, w)
        sample = torch.arange(b, device=x.device).view(b, 1, 1, 1)
        channel = torch.arange(c, device=x.device).view(1, c, 1, 1)
        x = padded[sample, channel, rows, columns]
    if spec.flip:
        flipped = (torch.rand(b, generator=generator) < 0.5).to(x.device).view(b, 1, 1, 1)
        x = torch.where(flipped, x.flip(3), x)
    return x
