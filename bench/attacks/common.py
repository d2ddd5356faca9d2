"""What attacks share: the best candidate so far, scores, and confirmation of successes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.oracle import Evaluation, Oracle, margin


def put_rows(where: Tensor, *pairs: tuple[Tensor, Tensor]) -> None:
    """Copies images into others of the same shape (n, c, h, w), in place, by mask (n,).

    A search improves some of its images at a time, and the others need not be touched.

    Args:
        where: Images to copy.
        pairs: Each a destination and a source.
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
        x: Images (b, c, h, w) that are kept until something better is offered.
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
            rows: Positions (n,) of their images; ``None`` for all, in order.
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
"""Fresh evaluations that a success on a stochastic model has to pass."""


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
    """Returns the successes (n,) that also hold on fresh draws; all of a deterministic model.

    A minimum-norm attack passes hundreds of candidates and keeps the nearest success, so without
    this check it would keep one that was merely lucky with its draws.

    Args:
        oracle: The oracle of the attacked model.
        x_adv: Candidates (n, c, h, w).
        y: Labels (n,).
        rows: Positions (n,) in the batch.
        success: Where the draws that the attack saw were mostly wrong.
    """
    if not oracle.rules.stochastic:
        return success
    with oracle.real_draws():
        for _ in range(CHECKS):
            asked = torch.ones_like(success) if oracle.coupled else success
            if not bool(success.any()):
                break
            fresh = oracle.query(x_adv[asked], y[asked], margin, grad=False, rows=rows[asked])
            success = success.masked_scatter(asked, success[asked] & broken(fresh))
    return success


SLOPES = 2**24
"""Most numbers in the gradients that are held at once; more classes are asked about in turns. An
attack makes about eight tensors of that size, so that this is half a GiB."""


def boundaries(
    oracle: Oracle, x: Tensor, y: Tensor, rows: Tensor, classes: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields the linearized boundaries to some classes after the other, as memory allows.

    Args:
        oracle: The oracle of the attacked model.
        x: Points (n, c, h, w).
        y: Labels (n,).
        rows: Positions (n,) in the batch.
        classes: The classes (n, k) of each point, its label among them; ``None`` for all.

    Yields:
        Classes (n, m), their logits less the label's (n, m), and the gradients of these
        (n, m, c, h, w); of the label itself, zeros.
    """
    own, every = y[:, None], torch.arange(oracle.n_classes, device=x.device)
    if classes is None:
        classes = every.expand(len(x), -1)
    at_once = max(1, SLOPES // x.numel())
    if classes.shape[1] <= at_once:
        whole = classes.shape[1] == oracle.n_classes
        logits, slopes = oracle.jacobian(x, rows, None if whole else classes)
        place = (classes == own).long().argmax(1)
        i = torch.arange(len(x), device=x.device)
        w = slopes - slopes[i, place][:, None]
        yield classes, logits.gather(1, classes) - logits.gather(1, own), w
        return
    _, mine = oracle.jacobian(x, rows, own)
    for some in torch.split(classes, at_once, dim=1):
        logits, slopes = oracle.jacobian(x, rows, some)
        yield some, logits.gather(1, some) - logits.gather(1, own), slopes.sub_(mine)


def closer(new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> Any:
    """Returns, image by image (n,), the one of two findings whose first value is less."""
    nearer = new[0] < old[0]
    return tuple(
        torch.where(nearer.view(-1, *(1,) * (a.ndim - 1)), a, b)
        for a, b in zip(new, old, strict=True)
    )


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
