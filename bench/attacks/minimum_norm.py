"""Attacks that look for the nearest misclassified image, and know no eps.

- CW minimizes the l2 distance. Carlini & Wagner 2017, sections V and VI.A, objective f6,
  https://arxiv.org/abs/1608.04644.
- DeepFool steps to the nearest linearized boundary. Moosavi-Dezfooli et al. 2016, algorithm 2 and
  section 3.3 (linf), https://arxiv.org/abs/1511.04599. Two things are added. Where the nearest
  point of a linearized boundary inside the box is near, the step goes there: with steps that are
  clipped after the fact, an image with many black or white pixels approaches the boundary and never
  crosses it. And each step goes at least ``SLACK`` beyond the boundary, as in the authors' code, or
  the last ones would vanish in rounding.

An image that is wrong already, or never becomes wrong, is returned as it is. Nothing is random but
the model. The caller verifies what is returned.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from bench.attacks.ball import Ball, ball_of
from bench.attacks.base import Budget
from bench.attacks.common import Best, boundaries, broken, closeness, closer, confirmed
from bench.attacks.declared import CWParams, DeepFoolParams
from bench.attacks.planes import fill
from bench.oracle import Evaluation, Loss, Oracle, margin

MARGIN = 0.1
"""How far tanh space reaches beyond the box on either side. In the paper it ends at the box, where
its slope is 0, so that black and white pixels never move. Here they do; the variable is held where
pixels are in the box."""

C_MAX = 1e9
"""Largest weight that the search tries."""

BETA = (0.9, 0.999)
"""Decay of Adam's two moments (https://arxiv.org/abs/1412.6980, algorithm 1), which is written out
below: torch's own takes many seconds to import."""


def cw(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: CWParams, seed: int) -> Tensor:
    """Returns the nearest misclassified images (b, c, h, w) found.

    The search over c is each image's own. Where images share statistics they share c, which rises
    until all are wrong at once, and the whole batch with the most wrong is kept.
    """
    done = broken(oracle.query(x, y, _goal(oracle, params), grad=False))
    if oracle.mean_field:
        done = confirmed(oracle, x, y, torch.arange(len(x), device=x.device), done)
    rows = torch.arange(len(x), device=x.device)
    rows = rows if oracle.coupled else rows[~done]
    if bool(done.all()):
        return x.clone()
    best = Best(x[rows], oracle.coupled)
    best.offer(x[rows], closeness(oracle, done[rows], torch.zeros(len(rows), device=x.device)))
    low = torch.zeros(len(rows), device=x.device)
    high, c = torch.full_like(low, torch.inf), torch.full_like(low, params.c)
    for _ in range(params.binary_search_steps):
        won = _minimize(oracle, x[rows], y[rows], rows, c, params, best)
        low, high = torch.where(won, low, c), torch.where(won, c, high)
        c = torch.where(high.isinf(), (10 * c).clamp(max=C_MAX), (low + high) / 2)
    return x.index_copy(0, rows, best.x_adv)


def _minimize(
    oracle: Oracle, x: Tensor, y: Tensor, rows: Tensor, c: Tensor, params: CWParams, best: Best
) -> Tensor:
    """Minimizes squared distance minus c times the goal, starting from x; offers every iterate.

    Says (n,) which of the images (n, c, h, w), the batch's ``rows``, were ever won.
    """
    reach = 1 + 2 * MARGIN
    edge = math.atanh(1 / reach)
    w = torch.atanh((2 * x - 1) / reach)
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    won = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for n in range(1, params.n_iter + 1):
        x_adv = (0.5 + reach / 2 * w.tanh()).clamp(0, 1)
        answer = oracle.query(x_adv, y, _goal(oracle, params), rows=rows)
        assert answer.grad is not None
        distance = (x_adv - x).flatten(1).norm(dim=1) / x[0].numel() ** 0.5
        success = _succeeds(oracle, answer, y, params)
        if not oracle.coupled:  # what would change nothing needs no confirmation
            success &= ~won | (-distance > best.score)
        success = confirmed(oracle, x_adv, y, rows, success)
        best.offer(x_adv, closeness(oracle, success, distance))
        won |= success.all() if oracle.coupled else success
        slope = reach / 2 * (1 - w.tanh() ** 2)
        grad = (2 * (x_adv - x) - c.view(-1, 1, 1, 1) * answer.grad) * slope
        mean, square = mean.lerp(grad, 1 - BETA[0]), square.lerp(grad**2, 1 - BETA[1])
        spread = (square / (1 - BETA[1] ** n)).sqrt() + 1e-8
        w = (w - params.lr * mean / (1 - BETA[0] ** n) / spread).clamp(-edge, edge)
    return won


def _goal(oracle: Oracle, params: CWParams) -> Loss:
    """Returns the margin of logits up to kappa, beyond which nothing is gained: f6, negated.

    A targeted oracle negates what it is given, so that there the margin is bounded below.
    """
    if oracle.rules.targeted:
        return lambda logits, y, y_target: margin(logits, y, y_target).clamp(min=-params.kappa)
    return lambda logits, y, y_target: margin(logits, y, y_target).clamp(max=params.kappa)


def _succeeds(oracle: Oracle, answer: Evaluation, y: Tensor, params: CWParams) -> Tensor:
    """Says (n,) where most draws are wrong and, if asked for, the mean margin reaches kappa."""
    success = broken(answer)
    if not params.kappa:
        return success
    lead = margin(answer.logits, y)
    return success & ((-lead if oracle.rules.targeted else lead) >= params.kappa)


SLACK = 1e-4
"""Least distance by which a step of DeepFool crosses the linearized boundary, in pixel units."""

ROUNDS = 50
"""Most times that pixels which reach the box are taken out of a step; a few are enough."""

FAR = 2.0
"""Longest step inside the box, in lengths of the step without a box: where the boundary is farther
off, the linearization says nothing, and the image would be lost."""


def deepfool(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: DeepFoolParams, seed: int
) -> Tensor:
    """Returns nearby misclassified images (b, c, h, w).

    Distances are in the budget's norm. With a radius per channel, the linf distance counts each
    channel in units of its radius. Where images share statistics, images that are still right take
    steps together, and the whole batch with the most successes is kept.
    """
    ball = ball_of(budget)
    radii, diameter = ball.radii(x), ball.facts.diameter(x[0].numel())
    best = Best(x, oracle.coupled)
    x_adv = x.clone()
    rows = torch.arange(len(x), device=x.device)
    classes: Tensor | None = None
    for n in range(params.n_iter + 1):
        done = torch.ones(len(x), dtype=torch.bool, device=x.device)
        first = oracle.query(x_adv[rows], y[rows], margin, grad=False, rows=rows)
        seen = broken(first)
        done[rows] = confirmed(oracle, x_adv[rows], y[rows], rows, seen)
        distance = ball.size((x_adv - x).flatten(1), radii) / diameter
        best.offer(x_adv, closeness(oracle, done, distance))
        rows = rows if oracle.coupled else rows[~done[rows]]
        if bool(done.all()) or n == params.n_iter:
            break
        if classes is None:
            classes = _candidates(first.logits, y, params.n_candidates)
        step = _nearest_step(oracle, x_adv[rows], y[rows], rows, classes, ball, params.overshoot)
        step[done[rows]] = 0
        x_adv[rows] = (x_adv[rows] + step).clamp(0, 1)
    return best.x_adv


def _candidates(logits: Tensor, y: Tensor, n: int) -> Tensor:
    """Returns the label and the likeliest n - 1 other classes (b, n) by logits, in ascending order.

    As in the authors' code they are chosen once, on the clean image.
    """
    likeliest = logits.scatter(1, y[:, None], torch.inf).topk(min(n, logits.shape[1]), dim=1)
    return likeliest.indices.sort(1).values


def _nearest_step(
    oracle: Oracle,
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    classes: Tensor,
    ball: Ball,
    overshoot: float,
) -> Tensor:
    """Returns the overshot step (n, c, h, w) beyond the nearest linearized boundary in the box.

    Args:
        oracle: The oracle of the attacked model.
        x: Where the search is (n, c, h, w).
        y: Labels (n,).
        rows: Positions (n,) in the batch.
        classes: Candidates (b, k) of the whole batch.
        ball: The norm that is minimized.
        overshoot: Share that is added to a step.
    """
    best: tuple[Tensor, Tensor] | None = None
    for some, f, w in boundaries(oracle, x, y, rows, classes[rows]):
        found = _step(x, f, w.flatten(2), some == y[:, None], ball, overshoot)
        best = found if best is None else closer(found, best)
    assert best is not None
    return best[1]


def _step(
    x: Tensor, f: Tensor, w: Tensor, own: Tensor, ball: Ball, overshoot: float
) -> tuple[Tensor, Tensor]:
    """Returns the length (n,) of the step to the nearest of k boundaries, and the overshot step.

    A boundary that lies beyond the box, or too far off in it, is approached by the paper's step,
    cut to the box.

    Args:
        x: Images (n, c, h, w).
        f: Logits less that of the label (n, k).
        w: Their gradients (n, k, m).
        own: Which of them is the label's own (n, k).
        ball: The norm that is minimized.
        overshoot: Share that is added.
    """
    unit = w.abs().amax(2, keepdim=True)
    unit = torch.where(unit > 0, unit, 1)  # or small slopes would vanish when squared
    w = w / unit
    radii = ball.radii(x)
    along, dual = ball.along(w, radii), ball.dual_norm(w, radii)
    need = f.abs() / unit[..., 0] + SLACK * dual
    # Scaled by 1 + overshoot, the step still has to end in the box.
    flat = x.flatten(1)[:, None]
    low, high = -flat / (1 + overshoot), (1 - flat) / (1 + overshoot)
    find = fill if ball.sparse else partial(_to_plane, along=along)
    steps = find(w, need, low=low, high=high)
    gained = (w * steps).sum(2)
    size = ball.size(steps, radii)
    straight = (need / ball.rise(dual)).nan_to_num(posinf=0)[..., None] * along
    short = ball.size(straight, radii)
    # Where few pixels make the shortest step, the step without a box is one pixel's, which is none.
    reached = (gained >= 0.999 * need) & (ball.sparse | (size <= FAR * short))
    steps = torch.where(reached[..., None], steps, straight.clamp(low, high))
    cost = torch.where(dual > 0, torch.where(reached, size, short), torch.inf)
    nearest = cost.masked_fill(own, torch.inf).argmin(1)
    i = torch.arange(len(x), device=x.device)
    return cost[i, nearest], (1 + overshoot) * steps[i, nearest].view_as(x)


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
