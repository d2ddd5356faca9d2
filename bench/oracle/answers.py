"""Losses, and an oracle's answers to queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.oracle.passes import Spent

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``loss(logits, y, y_target) -> (b,)`` for logits (b, n_classes) and labels (b,). ``y_target``
(b,) is the target class, or ``None`` for an untargeted loss."""


def cross_entropy(logits: Tensor, y: Tensor, y_target: Tensor | None = None) -> Tensor:
    """Returns the cross-entropy of y or, if targeted, the negated cross-entropy of the target."""
    if y_target is not None:
        return -F.cross_entropy(logits, y_target, reduction="none")
    return F.cross_entropy(logits, y, reduction="none")


def _others(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the largest logit among the classes other than y (b, 1)."""
    return logits.scatter(1, y, -torch.inf).amax(1)


def margin(logits: Tensor, y: Tensor, y_target: Tensor | None = None) -> Tensor:
    """Returns the largest other logit (or the target's) minus that of y: positive if misclassified.

    Source: Carlini & Wagner 2017, https://arxiv.org/abs/1608.04644, f6.
    """
    label = y[:, None]
    own = logits.gather(1, label)[:, 0]
    if y_target is None:
        return _others(logits, label) - own
    return logits.gather(1, y_target[:, None])[:, 0] - own


def dlr(logits: Tensor, y: Tensor, y_target: Tensor | None = None) -> Tensor:
    """Returns the difference-of-logits-ratio loss, which is invariant to scaling of the logits.

    Source: Croce & Hein 2020, https://arxiv.org/abs/2003.01690, equations 6 and 7 (targeted),
    which need 3 and 4 classes. With fewer, the ratio can be constant and its gradient 0, so the
    plain margin is returned.
    """
    n_ranked = 3 if y_target is None else 4
    if logits.shape[1] < n_ranked:
        return margin(logits, y, y_target)
    ranked = logits.topk(n_ranked, dim=1).values
    scale = ranked[:, 0] - ranked[:, 2:].mean(1)
    return margin(logits, y, y_target) / (scale + 1e-12)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dlr": dlr, "margin": margin}


@dataclass(frozen=True)
class Evaluation:
    """The answer to one query, for each of its n candidates.

    Attributes:
        loss: (n,), mean over draws.
        grad: (n, c, h, w), gradient of that mean; ``None`` if not requested.
        correct: (n,), fraction of the draws that predict y.
        logits: (n, n_classes), mean over draws. A stochastic model's accuracy is ``correct``, not
            the accuracy of these mean logits.
    """

    loss: Tensor
    grad: Tensor | None
    correct: Tensor
    logits: Tensor

    def clone(self) -> Evaluation:
        """Returns a copy that shares no tensor."""
        grad = None if self.grad is None else self.grad.clone()
        return Evaluation(self.loss.clone(), grad, self.correct.clone(), self.logits.clone())


def mean_over_draws(parts: Sequence[tuple[Tensor, Evaluation]], n: int, k: int) -> Evaluation:
    """Combines the answers of several passes over n candidates and k draws.

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
class AscentState:
    """State of a finished PGD run, from which a run with more iterations resumes.

    Attributes:
        n_iter: Steps taken.
        x_adv: The last iterate (b, c, h, w).
        followed: The direction that the last step followed.
        best: The best iterate so far (b, c, h, w) and its score (b,), if tracked.
        spent: Passes up to here.
    """

    n_iter: int
    x_adv: Tensor
    followed: Tensor
    best: tuple[Tensor, Tensor] | None
    spent: Spent


@dataclass
class Memo:
    """Answers about one batch that several attacks on the same model share.

    Attributes:
        answers: A deterministic model's answers about the clean images, with their cost.
        ascents: States of PGD runs, by the oracle's cache key, then by everything that determines
            a run except its length.
        predictions: Predictions on the clean images, by the draws they were made on.
    """

    answers: dict[tuple[object, ...], tuple[Evaluation, Spent]] = field(default_factory=dict)
    ascents: dict[tuple[object, ...], dict[tuple[object, ...], AscentState]] = field(
        default_factory=dict
    )
    predictions: dict[object, Tensor] = field(default_factory=dict)
