"""Networks of one precision or of one batch size, made to take float32 images in any number."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

FEW = (2, 3, 4, 1)
"""Batch sizes that a network is tried with; one that takes two of them takes any."""

USUAL = (
    5,
    6,
    7,
    8,
    9,
    10,
    12,
    16,
    20,
    24,
    25,
    32,
    40,
    48,
    50,
    64,
    100,
    128,
    200,
    250,
    256,
    500,
    512,
)
"""Batch sizes that people build into networks, tried on one that takes no other."""

LARGEST = 2**24
"""Pixels of the largest batch that is tried."""


TWO_LOGITS = (
    "wrap it into a model of two logits, whose forward returns "
    "torch.cat([torch.zeros_like(z), z], 1), with z (n, 1) the output before the sigmoid, or "
    "torch.logit of it"
)
"""How to evaluate a model of a single output: a sigmoid is the softmax of its logit and 0."""


class Fitted(nn.Module):
    """A network behind a cast of its images, in batches of the one size that it takes.

    What a batch lacks is filled up with copies of its images, whose logits are dropped.

    Args:
        net: Maps images (b, c, h, w) to logits (b, classes).
        dtype: Of the images that it takes; ``None`` for float32.
        batch: Images that it takes at a time; ``None`` for any number.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype | None, batch: int | None) -> None:
        super().__init__()
        self.net, self.dtype, self.batch = net, dtype, batch
        self.training = net.training

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (b, c, h, w) to logits (b, classes)."""
        x = x if self.dtype is None else x.to(self.dtype)
        if self.batch is None:
            return torch.as_tensor(self.net(x))
        return torch.cat([self._padded(part, self.batch) for part in torch.split(x, self.batch)])

    def _padded(self, x: Tensor, batch: int) -> Tensor:
        n = len(x)
        x = x if n == batch else x[torch.arange(batch, device=x.device) % n]
        return torch.as_tensor(self.net(x))[:n]


def fitted(net: nn.Module, image: Tensor, sizes: Iterable[int] = ()) -> nn.Module:
    """Returns a network that takes float32 images in any number: the given one, if it does.

    Args:
        net: In eval mode.
        image: One image (1, c, h, w), float32.
        sizes: Batch sizes to try first where it does not take any.

    Raises:
        Exception: What the network raised on two images, if it takes images of no precision in no
            number.
    """
    first: Exception | None = None
    kinds = dict.fromkeys((None, own_dtype(net)))
    for tried in (FEW, (*sizes, *USUAL)):
        for dtype in kinds:
            taken = []
            for n in dict.fromkeys(tried):
                error = _refusal(net, image, n, dtype)
                first = first or error
                taken += [n] if error is None else []
                if len(taken) > 1:
                    return net if dtype is None else Fitted(net, dtype, None)
                if taken and tried is not FEW:
                    break
            if taken:
                return Fitted(net, dtype, taken[0])
    assert first is not None
    raise first


def own_dtype(net: nn.Module) -> torch.dtype | None:
    """Returns the precision of a network's weights; ``None`` for float32, or without weights."""
    kinds = (weight.dtype for weight in net.parameters() if weight.is_floating_point())
    return next((kind for kind in kinds if kind != torch.float32), None)


def _refusal(net: nn.Module, image: Tensor, n: int, dtype: torch.dtype | None) -> Exception | None:
    """Returns what is wrong with a pass over n images; ``None`` if nothing is."""
    if n > 2 and n * image.numel() > LARGEST:
        return ValueError(f"{n} images of {image.numel()} pixels were not tried")
    x = image.expand(n, *image.shape[1:]).clone()
    try:
        with torch.no_grad():
            z = net(x if dtype is None else x.to(dtype))
    except Exception as error:  # foreign code: whatever it raises is its refusal
        return error
    wrong = isinstance(z, Tensor) and z.ndim == 2 and len(z) != n
    return ValueError(f"found {len(z)} rows of logits for {n} images") if wrong else None
