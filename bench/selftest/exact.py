"""A classifier with a closed form for its exact robust accuracy, and its images.

Most planted models wrap this one in something that hides the answer without changing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from bench.core.cell import DataSpec
from bench.data.slice import take_slice

N_IMAGES = 64
"""Number of images in most cases."""

EPS = 0.1
"""Radius in most cases: the exact answer is then neither 0 nor the clean accuracy."""

N_CLASSES = 10

TEMPERATURE = 8.0
"""Divides the logits, so that the softmax does not saturate; a power of 2 changes no prediction."""

_TEMPLATE_IMAGES = DataSpec(name="fashion-mnist", limit=2000, offset=1000)


@dataclass(frozen=True, eq=False)
class Images:
    """Images (n, 1, 28, 28) with pixels in [0, 1], and labels (n,)."""

    x: Tensor
    y: Tensor

    def where(self, mask: Tensor) -> Images:
        """Returns the images selected by a mask (n,)."""
        return Images(self.x[mask], self.y[mask])

    def first(self, n: int) -> Images:
        """Returns the first n images."""
        return Images(self.x[:n], self.y[:n])


def images(n: int = N_IMAGES) -> Images:
    """Returns the first n images of the bundled Fashion-MNIST test split."""
    return _load(DataSpec(name="fashion-mnist", limit=n))


def template_images() -> Images:
    """Returns other images of the split, from which small models are made without training."""
    return _load(_TEMPLATE_IMAGES)


@cache
def _load(spec: DataSpec) -> Images:
    data = take_slice(spec)
    return Images(torch.from_numpy(data.x), torch.from_numpy(data.y))


class Template(nn.Linear):
    """Predicts the class of the nearest mean: logits ``(2 m_c . x - |m_c|^2) / temperature``.

    Args:
        scale: Multiplies the logits.
    """

    def __init__(self, scale: float = 1.0) -> None:
        data = template_images()
        means = torch.stack([data.x[data.y == c].mean(0) for c in range(N_CLASSES)]).flatten(1)
        super().__init__(means.shape[1], N_CLASSES)
        factor = scale / TEMPERATURE
        self.weight = nn.Parameter(2 * means * factor, requires_grad=False)
        self.bias = nn.Parameter(-means.square().sum(1) * factor, requires_grad=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (b, 1, 28, 28) to logits (b, 10)."""
        return super().forward(x.flatten(1))


def split(x: Tensor, size: int) -> list[Tensor]:
    """Splits a tensor (n, ...) into parts of ``size``; the last may be shorter."""
    return [x[start : start + size] for start in range(0, len(x), size)]


def bounds(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Returns the range of each pixel (n, c, h, w) in the linf ball and the box."""
    x = x.double()
    return (x - eps).clamp(min=0), (x + eps).clamp(max=1)


def worst_margins(net: nn.Linear, y: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Returns the smallest reachable margin (n,) of each image, in float64.

    The margin to another class is linear in the pixels, which are independent, so each pixel goes
    to the end of its range that lowers the margin.

    Args:
        net: The classifier of flattened images.
        y: Labels (n,).
        low: Lowest value of each pixel (n, c, h, w).
        high: Highest value.

    Returns:
        Positive if no reachable image is misclassified.
    """
    weight, bias = net.weight.double(), net.bias.double()
    low, high = low.double().flatten(1), high.double().flatten(1)
    margins = torch.full((len(y), len(bias)), torch.inf, dtype=torch.float64)
    for other in range(len(bias)):
        slope = weight[y] - weight[other]
        least = (slope.clamp(min=0) * low + slope.clamp(max=0) * high).sum(1)
        margins[:, other] = least + bias[y] - bias[other]
    margins.scatter_(1, y[:, None], torch.inf)
    return margins.amin(1)


def exact_robust(net: Template, data: Images, eps: float = EPS) -> Tensor:
    """Returns the mask (n,) of images that no perturbation within linf eps can break."""
    return worst_margins(net, data.y, *bounds(data.x, eps)) > 0


def exact_accuracy(net: Template, data: Images, eps: float = EPS) -> float:
    """Returns the exact robust accuracy under linf eps, in [0, 1]."""
    return float(exact_robust(net, data, eps).double().mean())


def worst_images(net: Template, data: Images, eps: float = EPS) -> Tensor:
    """Returns for each image the reachable image (n, c, h, w) with the smallest margin."""
    low, high = bounds(data.x, eps)
    best, found = torch.full((len(data.y),), torch.inf, dtype=torch.float64), data.x.clone()
    for other in range(N_CLASSES):
        slope = (net.weight[data.y] - net.weight[other]).view_as(data.x)
        candidate = torch.where(slope > 0, low, torch.where(slope < 0, high, data.x.double()))
        z = candidate.flatten(1) @ net.weight.double().T + net.bias.double()
        margin = z.gather(1, data.y[:, None])[:, 0] - z[:, other]
        better = (margin < best) & (data.y != other)
        best = torch.where(better, margin, best)
        found = torch.where(better.view(-1, 1, 1, 1), candidate.float(), found)
    return found
