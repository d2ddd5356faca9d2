"""Attacks that take steps of a fixed size up a loss, and the two controls beside them.

- FGSM: one step of size eps. Goodfellow, Shlens & Szegedy 2015, section 4,
  https://arxiv.org/abs/1412.6572.
- BIM: small steps from x. Kurakin, Goodfellow & Bengio 2017, section 2.2,
  https://arxiv.org/abs/1607.02533.
- PGD: BIM from random starts. Madry et al. 2018, section 2.1, https://arxiv.org/abs/1706.06083.
- MIM: BIM with momentum. Dong et al. 2018, algorithm 1 and equation 10,
  https://arxiv.org/abs/1710.06081. Where the paper takes steps of eps / n_iter, the default here is
  that of the other iterative attacks.
- CW linf: PGD on the margin of logits, as in Madry et al., section 5.
- natural: the clean image, for the column of clean accuracy.
- noise: random points on the ball's surface, the control without gradients. A white-box attack that
  does no better has learnt nothing from the gradients: Athalye et al. 2018, section 3.1,
  https://arxiv.org/abs/1802.00420.

The gradient is that of each image's own loss, so an image is attacked alike in any batch. All
return images (b, c, h, w) in ball and box, which the caller verifies.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.attacks.ball import Ball, ball_of
from bench.attacks.base import Budget
from bench.attacks.common import Best, harm
from bench.attacks.declared import CWLinfParams, MIMParams, NoiseParams, PGDParams, StepParams
from bench.attacks.search.lanes import appraise, decides, whole_batch
from bench.core.spec import Spec
from bench.oracle import LOSSES, AscentState, Loss, Oracle, cross_entropy


def natural(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Returns a copy of x without asking the oracle anything."""
    return x.clone()


def noise(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: NoiseParams, seed: int
) -> Tensor:
    """Returns the best of some random corners of the ball (linf) or points of the sphere (l2).

    The signs of a Gaussian are fair coins, and its direction is uniform.
    """
    generator = torch.Generator().manual_seed(seed)
    best, ball = Best(x, oracle.coupled), ball_of(budget)
    for _ in range(params.n_trials):
        gauss = torch.randn(x.shape, generator=generator).to(x)
        x_adv = ball.project(x + ball.surface_step(x) * ball.ascent_direction(gauss), x)
        with oracle.real_draws():  # it only compares candidates
            best.offer(x_adv, harm(oracle, oracle.query(x_adv, y, cross_entropy, grad=False)))
    return best.x_adv


def fgsm(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns images one step up the cross-entropy, to the ball's surface. Nothing is random."""
    grad, ball = oracle.query(x, y, cross_entropy).grad, ball_of(budget)
    assert grad is not None
    return ball.project(x + ball.surface_step(x) * ball.ascent_direction(grad), x)


def bim(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: StepParams, seed: int
) -> Tensor:
    """Returns the last iterate of an ascent from x. Nothing is random."""
    ball = ball_of(budget)
    return climb(oracle, x, y, ball, params, loss=cross_entropy, start=x, trail=("bim",))


def mim(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: MIMParams, seed: int
) -> Tensor:
    """Returns the last iterate of an ascent from x with momentum. Nothing is random."""

    def follow(grad: Tensor, momentum: Tensor) -> Tensor:
        """Adds the gradient, scaled to l1 norm 1 image by image; a zero gradient adds nothing."""
        size = grad.abs().flatten(1).sum(1).view(-1, 1, 1, 1)
        return params.decay * momentum + grad / torch.where(size > 0, size, 1)

    return climb(
        oracle,
        x,
        y,
        ball_of(budget),
        params,
        loss=cross_entropy,
        start=x,
        follow=follow,
        trail=("mim", params.decay),
    )


def cw_linf(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: CWLinfParams, seed: int
) -> Tensor:
    """Returns the result of PGD on the margin of logits."""
    return pgd(oracle, x, y, budget, params.as_pgd(), seed)


def pgd(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: PGDParams, seed: int
) -> Tensor:
    """Returns images with a high loss: the best, or the last, iterate of one or more ascents.

    Iterates of a stochastic model are not compared: each was seen on its own draws, and the best
    of many noisy losses is the luckiest.
    """
    generator, ball = torch.Generator().manual_seed(seed), ball_of(budget)
    if params.early_stop and decides(oracle):
        return _until_broken(oracle, x, y, ball, params, generator)
    loss, noisy = LOSSES[params.loss], oracle.rules.stochastic
    iterates = params.keep == "best" and (oracle.mean_field or not noisy)
    of_runs = Best(x, oracle.coupled)
    for _ in range(params.n_restarts):
        start = ball.random_point(x, generator) if params.random_start else x
        best = Best(x, oracle.coupled)
        seen = best if iterates else None
        trail = ("pgd", seed, iterates, params.random_start) if params.n_restarts == 1 else None
        x_adv = climb(oracle, x, y, ball, params, loss=loss, start=start, seen=seen, trail=trail)
        if iterates:
            best.offer(x_adv, harm(oracle, oracle.query(x_adv, y, loss, grad=False)))
            x_adv = best.x_adv
        if params.n_restarts == 1:
            return x_adv
        if noisy:
            found = appraise(oracle, whole_batch(x, y), x_adv)
            of_runs.offer(found.x_adv, found.score)
        elif iterates:
            of_runs.offer(x_adv, best.score)
        else:
            of_runs.offer(x_adv, harm(oracle, oracle.query(x_adv, y, loss, grad=False)))
    return of_runs.x_adv


def _until_broken(
    oracle: Oracle,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    params: PGDParams,
    generator: torch.Generator,
) -> Tensor:
    """Runs ``pgd``, but stops attacking each image once it is broken."""
    best, alpha = Best(x, coupled=False), _step_size(params, ball, x)
    left = torch.arange(len(x), device=x.device)
    for _ in range(params.n_restarts):
        x_adv = (ball.random_point(x, generator) if params.random_start else x)[left]
        for step in range(params.n_iter + 1):
            last = step == params.n_iter
            answer = oracle.query(
                x_adv, y[left], LOSSES[params.loss], grad=not last, rows=left, confirm="wrong"
            )
            best.offer(x_adv, harm(oracle, answer), left)
            going = answer.correct > 0
            left, x_adv = left[going], x_adv[going]
            if last or not len(left):
                break
            assert answer.grad is not None
            ahead = ball.ascent_direction(answer.grad[going]).mul_(alpha).add_(x_adv)
            x_adv = ball.project(ahead, x[left], spend=True)
        if not len(left):
            break
    return best.x_adv


def climb(
    oracle: Oracle,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    params: StepParams,
    *,
    loss: Loss,
    start: Tensor,
    seen: Best | None = None,
    follow: Callable[[Tensor, Tensor], Tensor] | None = None,
    trail: tuple[object, ...] | None = None,
) -> Tensor:
    """Returns the last of ``n_iter`` projected steps up a loss.

    Args:
        oracle: The oracle of the attacked model.
        x: Clean images (b, c, h, w).
        y: Labels (b,).
        ball: The ball.
        params: Number and size of the steps.
        loss: Loss to climb.
        start: The first iterate (b, c, h, w).
        seen: Is offered every iterate but the last.
        follow: Maps each gradient, and the vector that the last step followed (zero at first), to
            the vector to follow.
        trail: What determines the ascent besides model, batch, ball, loss and step size. A longer
            ascent with the same trail continues where a shorter one ended.
    """
    alpha = _step_size(params, ball, x)
    x_adv, followed, done = start, torch.zeros_like(x), 0
    ascents = None if trail is None else oracle.ascents
    key = (trail, loss, ball, *alpha.flatten().tolist(), *y.tolist())
    known = None if ascents is None else ascents.get(key)
    if known is not None and known.n_iter <= params.n_iter:
        x_adv, followed, done = known.x_adv, known.followed, known.n_iter
        oracle.charge(known.spent)
        if seen is not None and known.best is not None:
            seen.offer(*known.best)
    for _ in range(done, params.n_iter):
        answer = oracle.query(x_adv, y, loss, confirm="wrong")
        assert answer.grad is not None
        if seen is not None:
            seen.offer(x_adv, harm(oracle, answer))
        followed = answer.grad if follow is None else follow(answer.grad, followed)
        ahead = ball.ascent_direction(followed).mul_(alpha).add_(x_adv)
        x_adv = ball.project(ahead, x, spend=True)
    if ascents is not None and (known is None or known.n_iter < params.n_iter):
        best = None if seen is None else (seen.x_adv.clone(), seen.score)
        ascents[key] = AscentState(params.n_iter, x_adv, followed, best, oracle.spent())
    return x_adv


def _step_size(params: StepParams, ball: Ball, x: Tensor) -> Tensor:
    """Returns the step size per channel (1, c, 1, 1) in pixel units."""
    alpha = 2.5 * ball.step_radius / params.n_iter if params.alpha is None else params.alpha
    return alpha * ball.relative_radii(x)
