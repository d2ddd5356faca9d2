"""Lanes: images under attack, each at one target; queries about them; the candidates kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.attacks.ball import Ball
from bench.attacks.common import harm
from bench.core.attack import SELECTION_DRAWS
from bench.oracle import Confirm, Evaluation, Loss, Oracle, margin


@dataclass(frozen=True)
class Lanes:
    """Images under attack, n of them; an image with several targets occupies a lane for each.

    Attributes:
        x: Clean images (n, c, h, w).
        y: Labels (n,).
        rows: Positions (n,) in the oracle's batch.
        target: Classes aimed at (n,); ``None`` for an untargeted search.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    target: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def pick(self, which: Tensor) -> Lanes:
        """Returns some of the images, by mask (n,) or positions (m,)."""
        at = which.nonzero()[:, 0] if which.dtype == torch.bool else which
        target = None if self.target is None else self.target[at]
        return Lanes(self.x.index_select(0, at), self.y[at], self.rows[at], target)

    def repeated(self, times: int) -> Lanes:
        """Returns the images several times, one whole set after the other."""
        target = None if self.target is None else self.target.repeat(times)
        x, y, rows = self.x.repeat(times, 1, 1, 1), self.y.repeat(times), self.rows.repeat(times)
        return Lanes(x, y, rows, target)

    def aimed(self, targets: Tensor) -> Lanes:
        """Returns the images once for each of their targets (n, k): all at the first, and so on."""
        k = targets.shape[1]
        x = self.x.repeat(k, 1, 1, 1)
        return Lanes(x, self.y.repeat(k), self.rows.repeat(k), targets.T.reshape(-1))


def whole_batch(x: Tensor, y: Tensor) -> Lanes:
    """Returns all images of a batch."""
    return Lanes(x, y, torch.arange(len(x), device=x.device))


@dataclass
class Found:
    """The best candidate of a search for each of its n images.

    Attributes:
        x_adv: Candidates (n, c, h, w).
        score: (n,), ``bench.attacks.common.harm`` of each; -inf where none was evaluated.
        correct: (n,), fraction of draws that were right.
    """

    x_adv: Tensor
    score: Tensor
    correct: Tensor

    @staticmethod
    def nothing(x: Tensor) -> Found:
        """Returns the state before a search: the images (n, c, h, w) themselves."""
        none = torch.full((len(x),), -torch.inf, device=x.device)
        return Found(x.clone(), none, torch.ones_like(none))

    def split(self, n: int) -> list[Found]:
        """Cuts lanes, of n images at one target after the other, into one part a target."""
        cuts = [slice(i, i + n) for i in range(0, len(self.x_adv), n)]
        return [Found(self.x_adv[i], self.score[i], self.correct[i]) for i in cuts]

    def offer(self, other: Found, places: Tensor, coupled: bool) -> Tensor:
        """Takes over the candidates of another search at ``places`` (m,) where they are better.

        Where images share statistics, it is all or nothing, by the mean score.

        Returns:
            Where it was better (m,).
        """
        better = other.score > self.score[places]
        if coupled:
            better = (other.score.mean() > self.score.mean()).expand(len(places))
        won = places[better]
        self.x_adv[won] = other.x_adv[better]
        self.score[won] = other.score[better]
        self.correct[won] = other.correct[better]
        return better


def decides(oracle: Oracle) -> bool:
    """Says whether one query settles that an image is broken, so that it may be left alone.

    Not on a stochastic model, where a wrong draw proves little and a wrong surrogate nothing, and
    not where the images share statistics, as leaving one alone changes the others' logits.
    """
    return not oracle.rules.stochastic and not oracle.coupled


def ask(
    oracle: Oracle,
    images: Lanes,
    x_adv: Tensor,
    loss: Loss,
    *,
    grad: bool = True,
    confirm: Confirm | Tensor = "wrong",
    at: Tensor | None = None,
) -> Evaluation:
    """Returns the oracle's answer about candidates (n, c, h, w), with finite numbers only.

    Args:
        oracle: The oracle of the attacked model.
        images: The images.
        x_adv: Candidates.
        loss: Loss to evaluate.
        grad: Whether its gradient is wanted.
        confirm: As for ``Oracle.query``.
        at: Positions (n,) of those of the images that are asked about; ``None`` for all.
    """
    y, rows, target = images.y, images.rows, images.target
    if at is not None:
        y, rows, target = y[at], rows[at], None if target is None else target[at]
    answer = oracle.query(x_adv, y, loss, grad=grad, rows=rows, y_target=target, confirm=confirm)
    gradient = answer.grad
    if gradient is not None:  # one that is expanded, as that of a mean is, cannot be written into
        write = gradient.is_contiguous()
        gradient = (gradient.nan_to_num_ if write else gradient.nan_to_num)(0.0, 0.0, 0.0)
    return Evaluation(answer.loss.nan_to_num(0.0), gradient, answer.correct, answer.logits)


def pooled(oracle: Oracle, values: Tensor) -> Tensor:
    """Returns values (n,) by which a search decides: the batch's mean where images are coupled."""
    return values.mean().expand_as(values) if oracle.coupled else values


def appraise(oracle: Oracle, images: Lanes, x_adv: Tensor) -> Found:
    """Scores finished candidates (n, c, h, w) by their margin, on fresh draws if stochastic."""
    return measured(oracle, images, x_adv)[0]


def measured(oracle: Oracle, images: Lanes, x_adv: Tensor) -> tuple[Found, Tensor]:
    """Returns the result of ``appraise``, and the margins (n,) behind the scores."""
    with oracle.real_draws():
        queries = 1
        if oracle.rules.stochastic:
            queries = max(2, -(-SELECTION_DRAWS // oracle.n_draws))
        plain = replace(images, target=None)
        answers = [
            ask(oracle, plain, x_adv, margin, grad=False, confirm="all") for _ in range(queries)
        ]
        mean = replace(
            answers[0],
            loss=torch.stack([a.loss for a in answers]).mean(0),
            correct=torch.stack([a.correct for a in answers]).mean(0),
        )
        # One draw of the batch must outweigh any loss, and there are more draws than the oracle's.
        score = harm(oracle, replace(mean, correct=1 - queries * (1 - mean.correct)))
    return Found(x_adv, score, mean.correct), mean.loss


def lost(oracle: Oracle, images: Lanes, x_adv: Tensor, suspects: Tensor) -> Tensor:
    """Says (n,) which suspects are wrong on every one of ``SELECTION_DRAWS`` fresh draws.

    For images that are wrong on the mean-field surrogate, which proves nothing. One that is right
    on a draw is asked about no further.
    """
    wrong = suspects.clone()
    with oracle.real_draws():
        for _ in range(-(-SELECTION_DRAWS // oracle.n_draws)):
            if not bool(wrong.any()):
                break
            at = wrong.nonzero()[:, 0]
            answer = ask(oracle, images, x_adv[at], margin, grad=False, at=at)
            wrong[wrong.clone()] = answer.correct == 0
    return wrong


def starts(oracle: Oracle, images: Lanes, ball: Ball, generator: torch.Generator) -> Tensor:
    """Returns a random point of each image's ball; see ``somewhere``."""
    return somewhere(oracle, images, images.x, ball, generator)


def somewhere(
    oracle: Oracle, images: Lanes, centre: Tensor, ball: Ball, generator: torch.Generator
) -> Tensor:
    """Returns a random point of the ball around each centre (n, c, h, w), one for each image.

    It is drawn for the whole batch, so that it does not depend on which images are still there.
    """
    x = centre.new_zeros(oracle.batch, *centre.shape[1:])
    x[images.rows] = centre
    return ball.random_point(x, generator)[images.rows]


def top_targets(oracle: Oracle, images: Lanes, n_target_classes: int) -> Tensor:
    """Returns the wrong classes (n, k) with the highest logits on the clean images, best first."""
    logits = ask(oracle, images, images.x, margin, grad=False).logits
    ranked = logits.nan_to_num(torch.finfo(logits.dtype).min)  # above the label's own -inf
    ranked = ranked.scatter(1, images.y[:, None], -torch.inf)
    return ranked.topk(min(n_target_classes, oracle.n_classes - 1), dim=1).indices


def search_all(
    oracle: Oracle,
    images: Lanes,
    search: Callable[[Lanes, Tensor], Found],
    begin: Callable[[int], Tensor],
    *,
    targets: Tensor | None,
    n_restarts: int,
    early_stop: bool,
) -> Found:
    """Runs a search from every start and at every target; returns the best candidates.

    Several targets of an image travel in one query, as many as fit a pass; where images share
    statistics, one at a time.

    Args:
        oracle: The oracle of the attacked model.
        images: Of which untargeted copies are given.
        search: Searches from starts (n, c, h, w); scores what it found so that runs compare, which
            on a stochastic model takes fresh draws.
        begin: Makes the starts of a restart (counted from 0); called once for each target.
        targets: (n, k), or ``None`` for an untargeted search.
        n_restarts: Runs at each target.
        early_stop: Leaves images out once they are broken for certain.
    """
    best = Found.nothing(images.x)
    left = torch.arange(len(images), device=images.rows.device)
    for restart in range(n_restarts):
        for group in _groups(oracle, images, targets):
            # Drawn for all images, so that no image's draws depend on which others are left.
            x_start = [begin(restart) for _ in range(max(1, group.shape[1]))]
            some = images.pick(left)
            lanes = some if targets is None else some.aimed(group[left])
            found = search(lanes, torch.cat([start[left] for start in x_start]))
            for one in found.split(len(left)):
                best.offer(one, left, oracle.coupled)
            if early_stop and decides(oracle):
                left = left[best.correct[left] > 0]
            if not len(left):
                return best
    return best


def _groups(oracle: Oracle, images: Lanes, targets: Tensor | None) -> Iterator[Tensor]:
    """Cuts targets (n, k) into columns that are searched together; none yields (n, 0) once."""
    if targets is None:
        yield images.rows.new_empty(len(images), 0)
        return
    size = 1 if oracle.coupled else max(1, oracle.rules.max_pass // len(images))
    for first in range(0, targets.shape[1], size):
        yield targets[:, first : first + size]
