"""Probes gradients: are they there, and do they match finite differences?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.attacks.ball import ball_of
from bench.attacks.base import Budget
from bench.attacks.randomness import reseed
from bench.oracle import cross_entropy, margin
from bench.probe.forward import REPEATS
from bench.probe.subject import Subject, deviation, held, paths_to_hold, scale_of

DIRECTIONS, SLOPE_IMAGES = 3, 8
"""Random directions, and images, for finite differences, the most expensive part."""

STEP = {torch.float64: 1e-5, torch.float32: 2e-3}
"""Length of a small step in each pixel: short of most kinks, beyond rounding."""

BIG_STEP = 0.05
"""Length of a step in each pixel that crosses the steps of a quantized layer."""

MOVED = 1e-3
"""Change of the logits after a big step, relative to their scale, that counts as a reaction."""

OFF_SLOPE = 0.2
"""Distance between gradient and finite difference, relative to the sum of their sizes, that counts
as a disagreement."""

KEPT = 0.3
"""Share of a gradient's promise that a step inside the ball must keep."""

LOST = 1e-7
"""Size of the cross-entropy's gradient, relative to the margin's, below which it is lost to
rounding: in float32 the true class then has probability 1, and the rest is noise."""


@dataclass(frozen=True)
class GradientProbe:
    """Properties of the gradient; the shares are those of ``ProbeResult``."""

    differentiable: bool
    problem: str = ""
    nonfinite: float = 0.0
    zero: float = 0.0
    masked: float = 0.0
    saturated: float = 0.0
    error: float | None = None


class Replay:
    """Repeatable passes: before each one, generators are seeded and a path is pinned.

    Args:
        subject: The model.
        seed: Of the generators.
        times: Passes by which ``repeats`` decides.
    """

    def __init__(self, subject: Subject, seed: int, times: int = REPEATS) -> None:
        self._subject, self._seed, self._times = subject, seed, times
        self._path = paths_to_hold(subject.model, seed)[-1]

    def logits(self, x: Tensor) -> Tensor:
        """Returns detached logits (b, classes)."""
        reseed(self._seed)
        with held(self._subject.model, self._path):
            return self._subject.run(x)

    def repeats(self, x: Tensor, z: Tensor) -> bool:
        """Says whether passes over images give the logits z again.

        Not where a model draws from a generator of its own, which no seed reaches: what two of its
        passes differ by says nothing about gradients. One pass may be equal by chance.
        """
        scale = scale_of(z)
        return all(deviation(self.logits(x), z, scale) == 0 for _ in range(self._times))

    def gradient(self, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Returns the gradient (b, c, h, w) of a summed loss of the logits; ``None`` if detached.

        Raises:
            RuntimeError: When the backward pass fails.
        """
        reseed(self._seed)
        x = x.detach().clone().requires_grad_()
        with held(self._subject.model, self._path):
            value = loss(self._subject.attached(x)).sum()
        if not value.requires_grad:
            return None
        return torch.autograd.grad(value, x, allow_unused=True)[0]


def probe_gradient(
    subject: Subject, x: Tensor, *, per_sample: bool, seed: int, times: int = REPEATS
) -> GradientProbe:
    """Probes the gradients of a model's losses, with its own predictions as labels.

    Args:
        subject: The model.
        x: Images (b, c, h, w), pixels in [0, 1].
        per_sample: Whether images are independent, so that each has its own slope.
        seed: Seeds the directions and the model's draws.
        times: Passes that show whether passes repeat.
    """
    replay = Replay(subject, seed, times)
    z = replay.logits(x)
    y = z.argmax(1)
    shaken = (x + BIG_STEP * _signs(x, seed)).clamp(0, 1)
    try:
        at_margin = replay.gradient(x, lambda z: margin(z, y))
        at_loss = replay.gradient(x, lambda z: cross_entropy(z, y))
        # Images as after an attack's first step: black pixels are often the only ones with a NaN
        # gradient, and sometimes the only ones without.
        nearby = replay.gradient(shaken, lambda z: cross_entropy(z, y))
        if at_margin is None or at_loss is None or nearby is None:
            return GradientProbe(False, "no gradient reaches the input")
        error = _slope_error(subject, x, per_sample, seed, times)
    except RuntimeError as failure:
        return GradientProbe(False, f"the backward pass fails ({failure})")
    gradients = [g.flatten(1) for g in (at_margin, at_loss, nearby)]
    finite = torch.stack([g.isfinite().all(1) for g in gradients]).all(0)
    size, loss_size, near_size = (g.double().norm(dim=1) for g in gradients)
    zero, alike = finite & (size == 0), replay.repeats(x, z)
    if not alike:  # then one draw may be flat, but not all three
        zero = zero & (loss_size == 0) & (near_size == 0)
    moved = (replay.logits(shaken) - z).abs().amax(1) > MOVED * scale_of(z)
    return GradientProbe(
        differentiable=True,
        nonfinite=_share(~finite),
        zero=_share(zero),
        masked=_share(zero & moved) if alike else 0.0,
        saturated=_share(finite & ~zero & (loss_size < LOST * size)) if alike else 0.0,
        error=error,
    )


def _slope_error(
    subject: Subject, x: Tensor, per_sample: bool, seed: int, times: int
) -> float | None:
    """Returns the share of images whose gradient differs from finite differences.

    The images are moved off the edges of the box, where a model that clips has a kink, and shaken
    a little, as equal pixels of a background are ties for max pooling.
    """
    exact = subject.in_float64(x)
    subject, x = (subject, x) if exact is None else (exact, x.double())
    x, h = _inside(x, seed), STEP.get(x.dtype, STEP[torch.float32])
    x = x[:SLOPE_IMAGES] if per_sample else x
    replay = Replay(subject, seed, times)
    z = replay.logits(x)
    scale = scale_of(z)
    if subject.rounding or not replay.repeats(x, z):
        return None
    weights = torch.randn(z.shape[1], generator=torch.Generator().manual_seed(seed)).to(z)
    gradient = replay.gradient(x, lambda z: z @ weights)
    if gradient is None:
        return None
    measured, promised = [], []
    for k in range(DIRECTIONS):
        d = _signs(x, seed + 1 + k)
        measured.append((replay.logits(x + h * d) - replay.logits(x - h * d)) @ weights / (2 * h))
        promised.append((gradient * d).flatten(1).sum(1))
    slopes = torch.stack([torch.stack(measured), torch.stack(promised)])
    slopes = slopes if per_sample else slopes.sum(2, keepdim=True)
    off, sizes = (slopes[0] - slopes[1]).norm(dim=0), slopes.norm(dim=1).sum(0)
    rounding = 100 * torch.finfo(z.dtype).eps * scale * float(weights.norm()) / h
    return _share(off > OFF_SLOPE * sizes + rounding)


def probe_inside(
    subject: Subject,
    x: Tensor,
    budget: Budget,
    *,
    per_sample: bool,
    seed: int,
    times: int = REPEATS,
) -> float | None:
    """Returns the share of images on which a step inside the ball keeps little of its promise.

    At a random point of the ball, the margin's change over a step along its steepest direction, an
    eighth of the radius from end to end, is held against what the gradient promises. It counts
    where less than ``KEPT`` is kept, or where there is no gradient at all.

    Args:
        subject: The model.
        x: Images (b, c, h, w), pixels in [0, 1].
        budget: The ball of the threat model.
        per_sample: Whether images are independent; if not, the batch counts as one.
        seed: Seeds points and the model's draws.
        times: Passes that show whether passes repeat.

    Returns:
        ``None`` where passes cannot be repeated, there is no gradient to ask for, or half
        precision hides what a small step changes.
    """
    exact = subject.in_float64(x)
    subject, x = (subject, x) if exact is None else (exact, x.double())
    if subject.rounding:
        return None
    x, ball, replay = (
        _inside(x[:SLOPE_IMAGES] if per_sample else x, seed),
        ball_of(budget),
        Replay(subject, seed, times),
    )
    z = replay.logits(x)
    y, scale = z.argmax(1), scale_of(z)
    point = ball.random_point(x, torch.Generator().manual_seed(seed))
    if not replay.repeats(point, replay.logits(point)):
        return None
    try:
        gradient = replay.gradient(point, lambda z: margin(z, y))
    except RuntimeError:
        return None
    if gradient is None or not bool(gradient.isfinite().all()):
        return None
    step = ball.ascent_direction(gradient) * ball.surface_step(point) / 16
    high, low = (point + step).clamp(0, 1), (point - step).clamp(0, 1)
    kept = margin(replay.logits(high), y) - margin(replay.logits(low), y)
    promised = (gradient * (high - low)).flatten(1).sum(1)
    if not per_sample:
        kept, promised = kept.sum(0, keepdim=True), promised.sum(0, keepdim=True)
    return _share(kept < KEPT * promised.clamp(min=torch.finfo(z.dtype).eps * scale))


def _inside(x: Tensor, seed: int) -> Tensor:
    """Returns images moved off the edges of the box and shaken by up to a hundredth."""
    return (
        0.96 * x
        + 0.02
        + 0.01 * (torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)).to(x) * 2 - 1)
    )


def _signs(x: Tensor, seed: int) -> Tensor:
    """Returns a random corner of the cube: -1 or 1 in each pixel of images (b, c, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, x.shape, generator=generator).to(x) * 2 - 1


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())
