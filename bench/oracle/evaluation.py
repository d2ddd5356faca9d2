"""What an oracle answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """What one query returned, per sample of the query (n of them).

    Attributes:
        loss: (n,), mean over draws.
        grad: (n, c, h, w), the gradient of that mean; ``None`` if it was not asked for.
        correct: (n,), fraction of the draws that predict y.
        logits: (n, n_classes), mean over draws. The mean's prediction is not that of a stochastic
            model: ``correct`` is.
    """

    loss: Tensor
    grad: Tensor | None
    correct: Tensor
    logits: Tensor

    def clone(self) -> Evaluation:
        """Returns the same in tensors of its own."""
        grad = None if self.grad is None else self.grad.clone()
        return Evaluation(self.loss.clone(), grad, self.correct.clone(), self.logits.clone())


def mean_over_draws(parts: Sequence[tuple[Tensor, Evaluation]], n: int, k: int) -> Evaluation:
    """Puts the answers of several passes together.

    Args:
        parts: The candidates (m,) of each pass, and its answers. Every candidate occurs k times;
            once, in order, if k is 1.
        n: Number of candidates.
        k: Number of draws.
    """
    answers = [answer for _, answer in parts]
    if k == 1 and len(parts) == 1:
        return answers[0]
    where = torch.cat([i for i, _ in parts])

    def mean(values: list[Tensor]) -> Tensor:
        joined = torch.cat(values)
        if k == 1:
            return joined
        return joined.new_zeros(n, *joined.shape[1:]).index_add_(0, where, joined) / k

    slopes = [answer.grad for answer in answers if answer.grad is not None]
    return Evaluation(
        mean([answer.loss for answer in answers]),
        mean(slopes) if slopes else None,
        mean([answer.correct for answer in answers]),
        mean([answer.logits for answer in answers]),
    )


@dataclass(frozen=True)
class Spent:
    """Forward and backward passes (b,) on the images of a batch."""

    forwards: Tensor
    backwards: Tensor


@dataclass(frozen=True)
class Trail:
    """How far an ascent came, so that a longer one need not begin anew.

    Attributes:
        n_iter: Steps taken.
        x_adv: Where it is (b, c, h, w).
        followed: What the last step followed.
        best: The best iterate so far (b, c, h, w) and its score (b,), if it was asked for.
        spent: Passes up to here.
    """

    n_iter: int
    x_adv: Tensor
    followed: Tensor
    best: tuple[Tensor, Tensor] | None
    spent: Spent


@dataclass
class Memo:
    """What several attacks on a model may share about one batch.

    Attributes:
        answers: Of a deterministic model about the clean images, with what they cost.
        trails: Of ascents on it, by how the oracle answers; each under all that determines it but
            its length.
        predictions: Of the clean images, each under the draws that they were made on.
    """

    answers: dict[tuple[object, ...], tuple[Evaluation, Spent]] = field(default_factory=dict)
    trails: dict[tuple[object, ...], dict[tuple[object, ...], Trail]] = field(default_factory=dict)
    predictions: dict[object, Tensor] = field(default_factory=dict)
