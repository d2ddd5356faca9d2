"""What gradient attacks share: the ball, its geometry, and the best candidate so far."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.attacks.base import Budget


def radius(budget: Budget, x: Tensor) -> Tensor:
    """Returns the radius per channel as (1, c, 1, 1), on the device of images (b, c, h, w)."""
    eps = torch.tensor(budget.eps, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
    return eps.expand(1, x.shape[1], 1, 1)


def rim(budget: Budget, x: Tensor) -> Tensor | float:
    """Returns how far along ``ascent_direction`` the ball around images (b, c, h, w) ends.

    Under linf each channel has a radius of its own, (1, c, 1, 1). Under l2 the channels share one
    length, so there is one radius; were they given several, the smallest holds for all.
    """
    return radius(budget, x) if budget.norm == "linf" else min(budget.eps)


def project(x_adv: Tensor, x: Tensor, budget: Budget) -> Tensor:
    """Returns the nearest point in the ball around x, clipped to the box [0, 1].

    Clipping to the box never leaves the ball, as x is inside the box.
    """
    delta = x_adv - x
    if budget.norm == "linf":
        eps = radius(budget, x)
        delta = torch.clamp(delta, -eps, eps)
    else:
        # Of many pixels, a sum of squares in float32 is off by more than the verifier lets pass.
        length = delta.flatten(1).norm(dim=1, dtype=torch.float64).clamp(min=1e-12)
        shrink = (min(budget.eps) / length).clamp(max=1).view(-1, 1, 1, 1)
        delta = (delta * shrink).to(delta.dtype)
    return torch.clamp(x + delta, 0, 1)


def ascent_direction(grad: Tensor, budget: Budget) -> Tensor:
    """Returns the unit direction of steepest ascent: the sign (linf), or grad / its norm (l2)."""
    if budget.norm == "linf":
        return torch.sign(grad)
    # Scaled first: the squares of gradients of saturated logits would vanish.
    largest = grad.abs().flatten(1).amax(1).view(-1, 1, 1, 1)
    grad = grad / torch.where(largest > 0, largest, 1)
    length = grad.flatten(1).norm(dim=1).clamp(min=1e-12)
    return torch.div(grad, length.view(-1, 1, 1, 1))


def random_start(x: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
    """Returns a uniform point of the ball around each image, clipped to the box."""
    noise = torch.rand(x.shape, generator=generator).to(x) * 2 - 1
    if budget.norm == "linf":
        return project(x + noise * radius(budget, x), x, budget)
    gauss = torch.randn(x.shape, generator=generator).to(x)
    n = gauss[0].numel()
    length = torch.rand(len(x), generator=generator).to(x) ** (1 / n)
    unit = gauss / gauss.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    return project(x + unit * (length * min(budget.eps)).view(-1, 1, 1, 1), x, budget)


class Best:
    """The candidate with the highest score so far, image by image.

    Where images of a batch share statistics, candidates of different steps cannot be mixed (the
    mixture was never evaluated), so the best whole batch by mean score is kept.

    Args:
        x: What is kept until something better is offered.
        coupled: ``oracle.coupled``.
    """

    def __init__(self, x: Tensor, coupled: bool) -> None:
        self.x_adv = x.clone()
        self.score = torch.full((len(x),), -torch.inf, device=x.device)
        self._coupled = coupled

    def offer(self, x_adv: Tensor, score: Tensor, rows: Tensor | None = None) -> None:
        """Takes over each candidate (n, c, h, w) whose score (n,) is higher than the best.

        Args:
            x_adv: Candidates.
            score: Their scores.
            rows: Which images (n,) they are of; ``None`` for all, in order.
        """
        if self._coupled:
            better = (score.mean() > self.score.mean()).expand(len(score))
        else:
            better = score > (self.score if rows is None else self.score[rows])
        if rows is None:
            self.x_adv = torch.where(better.view(-1, 1, 1, 1), x_adv, self.x_adv)
            self.score = torch.where(better, score, self.score)
        else:
            self.x_adv = self.x_adv.index_copy(0, rows[better], x_adv[better])
            self.score = self.score.index_copy(0, rows[better], score[better])
