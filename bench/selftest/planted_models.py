"""Models around the template classifier that mislead attacks, with their true robust accuracy.

Each predicts what the template predicts, or differs from it by a known amount, so that its robust
accuracy in the ball of ``EPS`` is known: in closed form, or between two ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.selftest.exact import (
    EPS,
    Images,
    Template,
    bounds,
    exact_robust,
    worst_margins,
)
from bench.selftest.model_cases import Planted


@dataclass(frozen=True)
class Truth:
    """What is known of a robust accuracy: it lies between two ends, in [0, 1]."""

    low: float
    high: float

    def holds(self, value: float, spread: float = 0.0) -> bool:
        """Says whether a measured accuracy is true, give or take ``spread``."""
        return self.low - spread - 1e-9 <= value <= self.high + spread + 1e-9

    def __str__(self) -> str:
        ends = dict.fromkeys(f"{100 * end:.1f}" for end in (self.low, self.high))
        return f"{' to '.join(ends)} %"


def between(robust: Tensor, perhaps: Tensor | None = None) -> Truth:
    """Returns the truth of scores (n,) that each image keeps at least, and at most."""
    low = float(robust.double().mean())
    return Truth(low, low if perhaps is None else float(perhaps.double().mean()))


def as_template(data: Images) -> Truth:
    """Returns the truth of a model with the template's predictions."""
    return between(exact_robust(Template(), data))


# --- under the first layer -------------------------------------------------------------------


class Thresholded(Planted):
    """Makes each pixel black or white; its gradient is zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (b, 1, 28, 28) to logits (b, 10)."""
        return super().forward(threshold(x))


def threshold(x: Tensor) -> Tensor:
    """Makes pixels above 0.55 white; no end of a range of 8-bit pixels and ``EPS`` lies there."""
    return (x - 0.05).round()


def truth_thresholded(data: Images) -> Truth:
    """Returns the exact truth: a threshold is monotone, so it maps a range to a range."""
    low, high = (threshold(end.float()) for end in bounds(data.x, EPS))
    return between(worst_margins(Template(), data.y, low, high) > 0)


class Sine(Planted):
    """Adds a sine to each pixel: its gradient is exact, and often points the wrong way.

    Args:
        wave_number: Of the sine, for pixels in [0, 1].
        height: Of the sine, in pixel units; above ``1 / wave_number``, so that each wave falls.
    """

    def __init__(self, wave_number: float, height: float) -> None:
        super().__init__()
        self.wave_number, self.height = wave_number, height

    def bend(self, x: Tensor) -> Tensor:
        """Returns the pixels with the sine added."""
        return x + self.height * (self.wave_number * x).sin()

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits."""
        return super().forward(self.bend(x))

    def truth(self, data: Images) -> Truth:
        """Returns the exact truth: the range of ``bend`` over each pixel's range is known."""
        low, high = bounds(data.x, EPS)
        least, most = self.range_of(low, high)
        return between(worst_margins(self.net, data.y, least, most) > 0)

    def range_of(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the lowest and highest values that ``bend`` takes between pixels.

        Each minimum lies higher than the one before it, so that the first in the range is the
        lowest; of the maxima it is the last. They lie where ``cos(k x) = -1 / (k height)``.
        """
        k = self.wave_number
        turn, whole = math.acos(-1 / (self.height * k)), 2 * math.pi
        first = (whole * ((k * low + turn) / whole).ceil() - turn) / k
        last = (whole * ((k * high - turn) / whole).floor() + turn) / k
        ends = self.bend(low), self.bend(high)
        dip, top = self.bend(first.minimum(high)), self.bend(last.maximum(low))
        return torch.minimum(*ends).minimum(dip), torch.maximum(*ends).maximum(top)


# --- on the logits ---------------------------------------------------------------------------


class Ripple(Planted):
    """Adds a small term of high frequency to each logit, whose gradient drowns the template's.

    Args:
        height: Most that it adds to a logit.
        steepness: Its frequency: the most that it adds to the gradient at a pixel, in units of
            ``height``.
    """

    signs: Tensor

    def __init__(self, height: float = 0.05, steepness: float = 20.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(2, self.net.weight.shape, generator=generator) * 2.0 - 1
        self.register_buffer("signs", signs)
        self.height, self.steepness = height, steepness

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits that differ from the template's by at most ``height``."""
        phase = self.steepness * (x.flatten(1) @ self.signs.to(x).T)
        return super().forward(x) + self.height * phase.sin()

    def truth(self, data: Images) -> Truth:
        """Returns the ends of the truth: the ripple moves a margin by at most twice its height."""
        margins = worst_margins(self.net, data.y, *bounds(data.x, EPS))
        return between(margins > 2 * self.height, margins > -2 * self.height)


class Hot(Planted):
    """Multiplies the logits by a power of 2 so large that the softmax has no gradient."""

    def __init__(self) -> None:
        super().__init__(2.0**20)


class HalfAttached(nn.Module):
    """A mean of five linear classifiers, of which some are detached.

    Each is the template plus a random part; the random parts sum to zero, so that the mean is the
    template up to rounding. The gradient is that of the others alone.

    Args:
        attached: Members whose gradient is kept.
        spread: Standard deviation of the random parts of the weights.
    """

    def __init__(self, attached: int, spread: float = 0.2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        template = Template()
        parts = spread * torch.randn((5, *template.weight.shape), generator=generator)
        parts -= parts.mean(0)
        self.members = nn.ModuleList([Template() for _ in parts])
        for member, part in zip(self.members, parts, strict=True):
            assert isinstance(member, Template)
            member.weight.add_(part)
        self.attached = attached
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits."""
        answers = [
            member(x if i < self.attached else x.detach()) for i, member in enumerate(self.members)
        ]
        return torch.stack(answers).mean(0)


# --- gradients that are cut --------------------------------------------------------------------


class CutBeyond(Planted):
    """Knows its test images, and has no gradient farther from them than ``reach``.

    Args:
        known: The test images (n, c, h, w).
        reach: Distance in linf up to which there is a gradient.
    """

    known: Tensor

    def __init__(self, known: Tensor, reach: float = EPS / 2) -> None:
        super().__init__()
        self.register_buffer("known", known.clone())
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the template's logits."""
        flat = x.detach().flatten(1)
        nearest = self.known[torch.cdist(flat, self.known.to(x).flatten(1)).argmin(1)]
        far = (flat - nearest.to(x).flatten(1)).abs().amax(1) > self.reach
        return super().forward(torch.where(far.view(-1, 1, 1, 1), x.detach(), x))


class Detector(Planted):
    """Detaches images with many pixels that are nearly black, as perturbed backgrounds are."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the template's logits."""
        dim = ((x > 0) & (x < DIM)).flatten(1).double().mean(1)
        return super().forward(torch.where((dim > DIM_SHARE).view(-1, 1, 1, 1), x.detach(), x))


DIM, DIM_SHARE = 0.12, 0.12
"""What counts as nearly black, and the share of such pixels from which a detector fires: one clean
image in 64 has it, and nearly all that are shaken by 0.1 in each pixel."""


# --- a state ---------------------------------------------------------------------------------


class Cache(Planted):
    """Answers an image as it answered the first one that looked like it, and keeps the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[bytes, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits, some of which are of another image."""
        z = super().forward(x)
        keys = (F.avg_pool2d(x.detach(), 7) * 4).round().to(torch.uint8).flatten(1).cpu().numpy()
        rows = zip(keys, z.detach(), strict=True)
        kept = [self.known.setdefault(key.tobytes(), row) for key, row in rows]
        return z + (torch.stack(kept).to(z) - z).detach()


class Counter(Planted):
    """Counts its passes in a plain number, and answers every third with the wrong class."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits, shifted by one class in every third pass."""
        self.passes += 1
        z = super().forward(x)
        return z if self.passes % 3 else z.roll(1, dims=1)
