"""PGD: projected gradient ascent from random starts.

Source: Madry et al. 2018, section 2.1, https://arxiv.org/abs/1706.06083. The gradient is that of
each image's own loss, so an image is attacked alike in any batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from bench.attacks.base import Attack, Budget
from bench.attacks.params import Count, Positive
from bench.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.attacks.common import Best
    from bench.oracle import Loss, Oracle


class StepParams(Spec):
    """Parameters of every attack that takes steps along the gradient.

    Attributes:
        n_iter: Steps, at least 1.
        alpha: Step size in pixel units, > 0; ``None`` is ``2.5 * eps / n_iter``, which is eps / 4
            for 10 steps. With a radius per channel it is the step of the channel with the largest
            radius, and the others' steps shrink with their radii.
    """

    n_iter: Count = 10
    alpha: Positive | None = None


class PGDParams(StepParams):
    """Parameters of PGD.

    Attributes:
        n_iter: Steps of each run, at least 1.
        random_start: Starts at a uniformly random point of the ball, otherwise at x.
        n_restarts: Runs, at least 1, each from a start of its own; the best of them is returned.
        keep: ``best`` returns the best of all iterates: the one that is wrong on the most draws,
            then the one with the highest loss. ``last`` returns the last iterate of a run. The
            best is chosen on the draws the attack saw: on a stochastic model with few draws
            (``eot_iter``) it is also the luckiest, and ``last`` may be stronger. Where the attack
            sees a mean-field surrogate, that compares the iterates of a run, and fresh draws of the
            model the runs.
        loss: What is climbed: cross-entropy, difference of logits ratio, or margin of logits.
        early_stop: Leaves an image alone once it is broken, where the model is deterministic and
            images are independent. It changes no verdict and saves passes; what it finds has a
            lower loss, so it is weaker under protocol ``transfer``. For ``keep`` best.
    """

    n_iter: Count = 20
    random_start: bool = True
    n_restarts: Count = 1
    keep: Literal["best", "last"] = "best"
    loss: Literal["ce", "dlr", "margin"] = "ce"
    early_stop: bool = False

    @model_validator(mode="after")
    def _restarts_differ(self) -> PGDParams:
        if self.n_restarts > 1 and not self.random_start:
            raise ValueError("n_restarts above 1 needs random_start, or all runs are the same")
        if self.early_stop and self.keep == "last":
            raise ValueError("early_stop needs keep best: a broken image is left where it broke")
        return self


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns images (b, c, h, w) in ball and box with a high loss; the caller verifies them."""
    import torch

    from bench.attacks.common import Best, harm, random_start
    from bench.attacks.search.images import appraise, decides, whole_batch
    from bench.oracle import LOSSES

    assert isinstance(params, PGDParams)
    generator = torch.Generator().manual_seed(seed)
    if params.early_stop and decides(oracle):
        return _until_broken(oracle, x, y, budget, params, generator)
    best, of_runs = Best(x, oracle.coupled), Best(x, oracle.coupled)
    by_runs = oracle.mean_field and params.n_restarts > 1
    x_adv = x
    for _ in range(params.n_restarts):
        start = random_start(x, budget, generator) if params.random_start else x
        seen = best if params.keep == "best" else None
        loss = LOSSES[params.loss]
        trail = ("pgd", seed, params.keep, params.random_start) if params.n_restarts == 1 else None
        x_adv = climb(oracle, x, y, budget, params, loss=loss, start=start, seen=seen, trail=trail)
        if _compares(params):
            best.offer(x_adv, harm(oracle, oracle.query(x_adv, y, loss, grad=False)))
        if by_runs:
            found = appraise(oracle, whole_batch(x, y), best.x_adv)
            of_runs.offer(found.x_adv, found.score)
            best = Best(x, oracle.coupled)
    best = of_runs if by_runs else best
    return best.x_adv if _compares(params) else x_adv


def _until_broken(
    oracle: Oracle,
    x: Tensor,
    y: Tensor,
    budget: Budget,
    params: PGDParams,
    generator: torch.Generator,
) -> Tensor:
    """Returns what ``run`` does, but leaves each image alone once it is broken."""
    import torch

    from bench.attacks.common import Best, ascent_direction, harm, project, random_start
    from bench.oracle import LOSSES

    best, alpha = Best(x, coupled=False), step_size(params, budget, x)
    left = torch.arange(len(x), device=x.device)
    for _ in range(params.n_restarts):
        x_adv = (random_start(x, budget, generator) if params.random_start else x)[left]
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
            ahead = ascent_direction(answer.grad[going], budget).mul_(alpha).add_(x_adv)
            x_adv = project(ahead, x[left], budget, spend=True)
        if not len(left):
            break
    return best.x_adv


def _compares(params: PGDParams) -> bool:
    """Says whether iterates are compared, which costs one more forward pass a run."""
    return params.keep == "best" or params.n_restarts > 1


def climb(
    oracle: Oracle,
    x: Tensor,
    y: Tensor,
    budget: Budget,
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
        oracle: What is attacked.
        x: Clean images (b, c, h, w).
        y: Labels (b,).
        budget: The ball.
        params: Number and size of the steps.
        loss: What is climbed.
        start: The first iterate (b, c, h, w).
        seen: Is offered every iterate but the last.
        follow: Turns each gradient, and what the step before followed (zero at first), into the
            vector that the step follows.
        trail: What determines the ascent beside model, batch, ball, loss and step size. One that is
            longer than another of the same trail goes on from where that ended.
    """
    import torch

    from bench.attacks.common import ascent_direction, harm, project
    from bench.oracle import AscentState

    alpha = step_size(params, budget, x)
    x_adv, followed, done = start, torch.zeros_like(x), 0
    ascents = None if trail is None else oracle.ascents
    key = (trail, loss, budget, *alpha.flatten().tolist(), *y.tolist())
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
        ahead = ascent_direction(followed, budget).mul_(alpha).add_(x_adv)
        x_adv = project(ahead, x, budget, spend=True)
    if ascents is not None and (known is None or known.n_iter < params.n_iter):
        best = None if seen is None else (seen.x_adv.clone(), seen.score)
        ascents[key] = AscentState(params.n_iter, x_adv, followed, best, oracle.spent())
    return x_adv


def step_size(params: StepParams, budget: Budget, x: Tensor) -> Tensor:
    """Returns the step size per channel (1, c, 1, 1) in pixel units."""
    from bench.attacks.common import weights

    eps = max(budget.eps) if budget.norm == "linf" else min(budget.eps)
    alpha = 2.5 * eps / params.n_iter if params.alpha is None else params.alpha
    return alpha * weights(x, budget)


def passes(params: Spec) -> float:
    """Returns the passes per image."""
    assert isinstance(params, PGDParams)
    return params.n_restarts * (2.0 * params.n_iter + _compares(params))


PGD = Attack(
    name="pgd",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=PGDParams,
    run=run,
    summary="projected gradient ascent from random starts",
    url="https://arxiv.org/abs/1706.06083",
    passes=passes,
    extends=True,
)
