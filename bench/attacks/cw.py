"""Carlini & Wagner: the nearest misclassified image in l2.

Source: Carlini & Wagner 2017, sections V and VI.A, objective f6, https://arxiv.org/abs/1608.04644.
``cw_linf`` is the bounded attack that goes by the same name: PGD on f6, as in Madry et al. 2018,
section 5, https://arxiv.org/abs/1706.06083.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.attacks import pgd
from bench.attacks.base import Attack, Budget
from bench.attacks.params import Count, NotNegative, Positive
from bench.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.attacks.common import Best
    from bench.oracle import Evaluation, Loss, Oracle

MARGIN = 0.1
"""How far tanh space reaches beyond the box on either side. In the paper it ends at the box, where
its slope is 0, so that black and white pixels never move. Here they do; the variable is held where
pixels are in the box."""

C_MAX = 1e9
"""Largest weight that the search tries."""

BETA = (0.9, 0.999)
"""Decay of Adam's two moments (https://arxiv.org/abs/1412.6980, algorithm 1), which is written out
below: torch's own takes many seconds to import."""


class CWParams(Spec):
    """Parameters of CW.

    Attributes:
        c: First weight of the misclassification term; the search goes on from there.
        binary_search_steps: Weights tried for each image.
        n_iter: Steps of Adam for each weight.
        lr: Its learning rate, in tanh space.
        kappa: Confidence: by how much the margin of logits must be won.
    """

    c: Positive = 0.01
    binary_search_steps: Count = 5
    n_iter: Count = 100
    lr: Positive = 0.01
    kappa: NotNegative = 0.0


class CWLinfParams(pgd.StepParams):
    """Parameters of CW linf: those of PGD, but for the loss.

    Attributes:
        n_iter: Steps from each start, at least 1.
        n_restarts: Random starts, at least 1, of which the best result is returned.
    """

    n_iter: Count = 30
    n_restarts: Count = 1

    def as_pgd(self) -> pgd.PGDParams:
        """Returns the parameters of the same attack as PGD."""
        return pgd.PGDParams(**self.model_dump(), loss="margin")


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns the nearest misclassified images (b, c, h, w) found; the caller verifies them.

    An image that is wrong already, or never becomes wrong, is returned as it is. Nothing is random
    but the model. The search over c is each image's own. Where images share statistics they share
    c, which rises until all are wrong at once, and the whole batch with the most wrong is kept.
    """
    import torch

    from bench.attacks.common import Best, broken, closeness, confirmed

    assert isinstance(params, CWParams)
    done = broken(oracle.query(x, y, _goal(params), grad=False))
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
    """Minimizes squared distance minus c times the goal, from x on; offers what it passes.

    Says (n,) which of the images (n, c, h, w), the batch's ``rows``, were ever won.
    """
    import torch

    from bench.attacks.common import closeness, confirmed

    reach = 1 + 2 * MARGIN
    edge = math.atanh(1 / reach)
    w = torch.atanh((2 * x - 1) / reach)
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    won = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for n in range(1, params.n_iter + 1):
        x_adv = (0.5 + reach / 2 * w.tanh()).clamp(0, 1)
        answer = oracle.query(x_adv, y, _goal(params), rows=rows)
        assert answer.grad is not None
        distance = (x_adv - x).flatten(1).norm(dim=1) / x[0].numel() ** 0.5
        success = _succeeds(answer, y, params)
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


def _goal(params: CWParams) -> Loss:
    """Returns the margin of logits up to kappa, beyond which nothing is gained: f6, negated."""
    from bench.oracle import margin

    return lambda logits, y, y_target: margin(logits, y, y_target).clamp(max=params.kappa)


def _succeeds(answer: Evaluation, y: Tensor, params: CWParams) -> Tensor:
    """Says (n,) where most draws are wrong and, if asked for, the mean margin reaches kappa."""
    from bench.attacks.common import broken
    from bench.oracle import margin

    success = broken(answer)
    return success & (margin(answer.logits, y) >= params.kappa) if params.kappa else success


def run_linf(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Returns images (b, c, h, w) in the linf ball; see ``bench.attacks.pgd.run``."""
    assert isinstance(params, CWLinfParams)
    return pgd.run(oracle, x, y, budget, params.as_pgd(), seed)


def passes(params: Spec) -> float:
    """Returns the passes per image that is right at first."""
    assert isinstance(params, CWParams)
    return 1 + 2.0 * params.n_iter * params.binary_search_steps


def passes_linf(params: Spec) -> float:
    """Returns the passes per image."""
    assert isinstance(params, CWLinfParams)
    return pgd.passes(params.as_pgd())


CW = Attack(
    name="cw",
    version=1,
    kind="minimum-norm",
    norms=("linf", "l2"),
    params=CWParams,
    run=run,
    summary="Carlini and Wagner: minimizes the l2 distance, with a search over c",
    url="https://arxiv.org/abs/1608.04644",
    passes=passes,
)
CW_LINF = Attack(
    name="cw_linf",
    version=1,
    kind="bounded",
    norms=("linf",),
    params=CWLinfParams,
    run=run_linf,
    summary="PGD on Carlini and Wagner's margin of logits",
    url="https://arxiv.org/abs/1706.06083",
    passes=passes_linf,
)
