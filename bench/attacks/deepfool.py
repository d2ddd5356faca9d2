"""DeepFool: steps to the nearest linearized boundary.

Source: Moosavi-Dezfooli et al. 2016, algorithm 2 and section 3.3 (linf),
https://arxiv.org/abs/1511.04599. Two things are added. Where the nearest point of a linearized
boundary inside the box is near, the step goes there: with steps that are clipped after the fact, an
image with many black or white pixels approaches the boundary and never crosses it. And each step
goes at least ``SLACK`` beyond the boundary, as in the authors' code, lest the last ones vanish in
rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.attacks.base import Attack, Budget
from bench.attacks.params import Count, NotNegative
from bench.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle

SLACK = 1e-4
"""Least distance by which a step crosses the linearized boundary, in pixel units."""

ROUNDS = 50
"""Most times that pixels which reach the box are taken out of a step; a few are enough."""

FAR = 2.0
"""Times as long as the step without a box that one inside it may be: farther off, the linearization
says nothing, and the image would be lost."""


class DeepFoolParams(Spec):
    """Parameters of DeepFool.

    Attributes:
        n_iter: Largest number of steps per image.
        overshoot: Share of the perturbation that is added to cross the boundary.
    """

    n_iter: Count = 50
    overshoot: NotNegative = 0.02


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns nearby misclassified images (b, c, h, w); the caller verifies them.

    Distances are in the budget's norm. With a radius per channel, the linf distance counts each
    channel in units of its radius. An image that is wrong already, or never becomes wrong, is
    returned as it is. Where images share statistics, images that are still right take steps
    together, and the whole batch with the most successes is kept. Nothing is random but the model.
    """
    import torch

    from bench.attacks.common import Best, broken, closeness, confirmed, weights
    from bench.oracle import margin

    assert isinstance(params, DeepFoolParams)
    scale = weights(x, budget)
    best = Best(x, oracle.coupled)
    x_adv = x.clone()
    rows = torch.arange(len(x), device=x.device)
    for n in range(params.n_iter + 1):
        done = torch.ones(len(x), dtype=torch.bool, device=x.device)
        seen = broken(oracle.query(x_adv[rows], y[rows], margin, grad=False, rows=rows))
        done[rows] = confirmed(oracle, x_adv[rows], y[rows], rows, seen)
        best.offer(x_adv, closeness(oracle, done, _size(x_adv - x, budget, scale)))
        rows = rows if oracle.coupled else rows[~done[rows]]
        if bool(done.all()) or n == params.n_iter:
            break
        logits, jacobian = oracle.jacobian(x_adv[rows], rows)
        step = _step(x_adv[rows], y[rows], logits, jacobian, budget, params.overshoot)
        step[done[rows]] = 0
        x_adv[rows] = (x_adv[rows] + step).clamp(0, 1)
    return best.x_adv


def _step(
    x: Tensor, y: Tensor, logits: Tensor, jacobian: Tensor, budget: Budget, overshoot: float
) -> Tensor:
    """Returns the overshot step (n, c, h, w) beyond the nearest linearized boundary in the box.

    A boundary that lies beyond the box, or too far off in it, is approached by the paper's step,
    cut to the box.
    """
    import torch

    from bench.attacks.common import weights

    slopes = jacobian.flatten(2)
    own = y[:, None]
    w = slopes - slopes.take_along_dim(own[..., None], 1)
    unit = w.abs().amax(2, keepdim=True)
    unit = torch.where(unit > 0, unit, 1)  # or small slopes would vanish when squared
    w = w / unit
    scale = weights(x, budget).expand_as(x).flatten(1)[:, None]
    along = w if budget.norm == "l2" else w.sign() * scale
    dual = (w * along).sum(2) if budget.norm == "linf" else w.norm(dim=2)
    need = (logits - logits.gather(1, own)).abs() / unit[..., 0] + SLACK * dual
    # Scaled by 1 + overshoot, the step still has to end in the box.
    flat = x.flatten(1)[:, None]
    low, high = -flat / (1 + overshoot), (1 - flat) / (1 + overshoot)
    steps = _to_plane(w, need, along, low, high)
    gained = (w * steps).sum(2)
    size = steps.norm(dim=2) if budget.norm == "l2" else (steps.abs() / scale).amax(2)
    straight = (need / (dual if budget.norm == "linf" else dual.square())).nan_to_num(posinf=0)
    straight = straight[..., None] * along
    short = straight.norm(dim=2) if budget.norm == "l2" else (straight.abs() / scale).amax(2)
    reached = (gained >= 0.999 * need) & (size <= FAR * short)
    steps = torch.where(reached[..., None], steps, straight.clamp(low, high))
    cost = torch.where(dual > 0, torch.where(reached, size, short), torch.inf)
    nearest = cost.scatter(1, own, torch.inf).argmin(1)
    step = steps[torch.arange(len(x), device=x.device), nearest]
    return (1 + overshoot) * step.view_as(x)


def _to_plane(w: Tensor, need: Tensor, along: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Returns the least multiple of a direction, cut to a box, whose product with w is ``need``.

    Pixels that reach the edge of the box stay there, and the others make up for them. As the
    multiple only grows from round to round, a pixel at the edge never comes back.

    Args:
        w: Slopes (n, k, m) of k linear functions of m pixels.
        need: What each has to rise by (n, k), at least 0.
        along: Directions (n, k, m), of the slopes' signs.
        low: Lower ends of the box (n, 1, m), at most 0.
        high: Upper ends, at least 0.
    """
    import torch

    far = 1e30  # cuts every pixel that moves at all: the corner of the box
    free = along != 0
    fixed = torch.zeros_like(need)
    step: Tensor = torch.zeros_like(w)
    for _ in range(ROUNDS):
        slope = (w * along).masked_fill(~free, 0).sum(2)
        multiple = torch.where(slope > 0, (need - fixed) / slope, far).clamp(0, far)
        wanted = multiple[..., None] * along
        step = wanted.clamp(low, high)
        still_free = free & (wanted == step)
        if torch.equal(still_free, free):
            break
        free = still_free
        fixed = (w * step).masked_fill(free, 0).sum(2)
    return step


def _size(delta: Tensor, budget: Budget, scale: Tensor) -> Tensor:
    """Returns the size (b,) of perturbations (b, c, h, w), 1 for the diameter of the box."""
    import torch

    if budget.norm == "linf":
        return (delta.abs() / scale).flatten(1).amax(1)
    return torch.div(delta.flatten(1).norm(dim=1), delta[0].numel() ** 0.5)


def passes(params: Spec) -> float:
    """Returns rough passes per image for ten classes: an image rarely takes ten steps."""
    assert isinstance(params, DeepFoolParams)
    return 1 + 12.0 * min(10, params.n_iter)


DEEPFOOL = Attack(
    name="deepfool",
    version=2,
    kind="minimum-norm",
    norms=("linf", "l2"),
    params=DeepFoolParams,
    run=run,
    summary="DeepFool: steps to the nearest linearized boundary inside the box, in l2 or linf",
    url="https://arxiv.org/abs/1511.04599",
    passes=passes,
)
