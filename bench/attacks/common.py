"""What gradient attacks share: the ball, its geometry, and the best candidate so far."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.attacks.base import Budget
from bench.oracle import Evaluation, Oracle, margin


def radius(budget: Budget, x: Tensor) -> Tensor:
    """Returns the radius per channel as (1, c, 1, 1), on the device of images (b, c, h, w)."""
    return _radius(budget.eps, x.shape[1], x.dtype, x.device)


@lru_cache(maxsize=64)
def _radius(
    eps: tuple[float, ...], channels: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Returns the same, once: every step of every attack asks for it. Nobody writes into it."""
    values = torch.tensor(eps, dtype=dtype, device=device).view(1, -1, 1, 1)
    return values.expand(1, channels, 1, 1)


def rim(budget: Budget, x: Tensor) -> Tensor | float:
    """Returns how far along ``ascent_direction`` the ball around images (b, c, h, w) ends.

    Under linf each channel has a radius of its own, (1, c, 1, 1). Under l2 the channels share one
    length, so there is one radius; were they given several, the smallest holds for all. A radius
    that all channels share is a number.
    """
    if budget.norm != "linf":
        return min(budget.eps)
    return radius(budget, x) if budget.scalar is None else budget.scalar


def project(x_adv: Tensor, x: Tensor, budget: Budget, *, spend: bool = False) -> Tensor:
    """Returns the nearest point in the ball around x, clipped to the box [0, 1].

    Clipping to the box never leaves the ball, as x is inside the box.

    Args:
        x_adv: Points (n, c, h, w).
        x: Centres (n, c, h, w).
        budget: The ball.
        spend: Whether x_adv may be written over, which saves the memory for another.
    """
    delta = x_adv.sub_(x) if spend else x_adv - x
    if budget.norm == "linf":
        delta = _within(delta, budget)
    else:
        # Of many pixels, a sum of squares in float32 is off by more than the verifier lets pass.
        length = delta.flatten(1).norm(dim=1, dtype=torch.float64).clamp(min=1e-12)
        shrink = (min(budget.eps) / length).clamp(max=1).view(-1, 1, 1, 1)
        delta = (delta * shrink).to(delta.dtype)
    return delta.add_(x).clamp_(0, 1)


def _within(delta: Tensor, budget: Budget) -> Tensor:
    """Clamps perturbations (b, c, h, w), in place, to the radius in each channel."""
    if budget.scalar is not None:
        return delta.clamp_(-budget.scalar, budget.scalar)
    eps = radius(budget, delta)
    return delta.clamp_(-eps, eps)


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


def put_rows(where: Tensor, *pairs: tuple[Tensor, Tensor]) -> None:
    """Copies images into others of the same shape (n, c, h, w), in place, by mask (n,).

    A search improves some of its images at a time, and the others need not be touched.

    Args:
        where: Which images.
        pairs: What is written into, and what is copied.
    """
    if where.device.type == "cpu":
        at = where.nonzero()[:, 0]
        for kept, new in pairs if len(at) else ():
            kept.index_copy_(0, at, new.index_select(0, at))
        return
    for kept, new in pairs:  # a GPU would have to wait to learn how many there are
        kept.copy_(torch.where(where.view(-1, 1, 1, 1), new, kept))


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
            put_rows(better, (self.x_adv, x_adv))
            self.score = torch.where(better, score, self.score)
        else:
            at = better.nonzero()[:, 0]
            self.x_adv.index_copy_(0, rows[at], x_adv[at])
            self.score = self.score.index_copy(0, rows[at], score[at])


CHECKS = 3
"""Times that a success on a stochastic model has to repeat itself."""


def harm(oracle: Oracle, answer: Evaluation) -> Tensor:
    """Returns a score (b,) that is higher for more wrong draws, then for a higher loss.

    The loss alone would not do: of two candidates the right one may have the higher cross-entropy.
    It is squashed into (-1, 1), so that it never outweighs one draw: one of an image, or one of
    the whole batch where the mean score of batches is compared.
    """
    draws = oracle.n_draws * (oracle.batch if oracle.coupled else 1)
    return 3.0 * draws * (1 - answer.correct) + F.softsign(answer.loss)


def broken(answer: Evaluation) -> Tensor:
    """Says (n,) which candidates are predicted right on less than half of the draws."""
    return answer.correct < 0.5


def confirmed(oracle: Oracle, x_adv: Tensor, y: Tensor, rows: Tensor, success: Tensor) -> Tensor:
    """Returns success (n,) where it also holds on fresh draws; says yes to a deterministic model.

    A minimum-norm attack passes hundreds of candidates and keeps the nearest success, so without
    this it would keep one that was merely lucky with its draws.

    Args:
        oracle: What is attacked.
        x_adv: Candidates (n, c, h, w).
        y: Labels (n,).
        rows: Positions (n,) in the batch.
        success: Where the draws that the attack saw were mostly wrong.
    """
    if not oracle.access.stochastic:
        return success
    with oracle.real_draws():
        for _ in range(CHECKS):
            asked = torch.ones_like(success) if oracle.coupled else success
            if not bool(success.any()):
                break
            fresh = oracle.query(x_adv[asked], y[asked], margin, grad=False, rows=rows[asked])
            success = success.masked_scatter(asked, success[asked] & broken(fresh))
    return success


def closeness(oracle: Oracle, success: Tensor, distance: Tensor) -> Tensor:
    """Returns a score (b,) for minimum-norm attacks: higher for a smaller distance.

    A candidate without success scores minus infinity. Where only whole batches may be kept, one
    with more successes is better, and among equals one with the smaller mean distance.

    Args:
        oracle: Says whether the images of the batch are coupled.
        success: (b,) bool.
        distance: (b,), in [0, 1].
    """
    if oracle.coupled:
        return 2.0 * oracle.batch * success - distance
    return torch.where(success, -distance, -torch.inf)


def weights(x: Tensor, budget: Budget) -> Tensor:
    """Returns the radii relative to the largest, (1, c, 1, 1); all 1 for norm l2."""
    eps = radius(budget, x)
    return eps / eps.max() if budget.norm == "linf" else torch.ones_like(eps)
