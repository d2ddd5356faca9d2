"""How candidates of native attacks compare: scores for ``bench.attacks.common.Best``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.attacks.base import Budget
from bench.attacks.common import radius
from bench.oracle import Evaluation, Oracle, margin

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
