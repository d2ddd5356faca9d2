"""The ascent of Auto-PGD. https://arxiv.org/abs/2003.01690, section 3 and algorithm 1.

In l1 its steps are sparse: https://arxiv.org/abs/2103.01208, section 4 and algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from bench.attacks.ball import Ball, sparse_signs
from bench.attacks.common import harm, put_rows
from bench.attacks.declared_search import checkpoints, sparse_checkpoints
from bench.attacks.search.lanes import Found, Lanes, appraise, ask, decides, pooled, somewhere
from bench.oracle import Evaluation, Loss, Oracle

MOMENTUM = 0.75
"""The paper's alpha: the share of the new step in each update."""

PACE = 2.0
"""The paper's first step size, in units of the radius."""

SMOOTH_PACE = 0.5
"""First step size of a smoothed ascent, in units of the radius."""

RISES = 0.75
"""The paper's rho: the share of steps that must raise the loss, or the step size is halved."""

SPARSE_SHARE, SPARSE_PACE = 0.2, 1.0
"""Share of pixels that the first steps change where steps are sparse, and their length in radii."""

SPARSER, FINEST = 1.5, 0.1
"""A review makes sparse steps this many times sparser than the peak, or shorter, but no shorter
than this share of the first."""

SAME_SUPPORT = 0.95
"""A peak that changes at least this share of the pixels of the last one is no sparser."""

INWARD = ((3.0, 0.3), (2.0, 0.3))
"""Larger balls, in radii, in which a sparse ascent begins, each with its share of the steps."""


def ascend(
    oracle: Oracle,
    images: Lanes,
    start: Tensor,
    loss: Loss,
    ball: Ball,
    *,
    n_iter: int,
    early_stop: bool,
    pace: float = PACE,
    shortlist: bool = True,
) -> Found:
    """Climbs a loss from ``start`` (n, c, h, w), which is in the ball, for ``n_iter`` steps.

    Returns of all iterates the one that is wrong on the most draws, then the one with the highest
    loss. Where images share statistics, the batch climbs its mean loss as one.

    On a stochastic model the highest of many noisy losses is also the luckiest. So each review
    measures the peak again, on fresh draws, and sets it against the current iterate; and which of
    the most harmful iterate, the peak and the last iterate is returned is decided on fresh draws.

    Args:
        oracle: The oracle of the attacked model.
        images: The images, with or without targets.
        start: First iterate.
        loss: Loss to climb.
        ball: The ball.
        n_iter: Steps; costs one forward pass more, and as many backward passes, unless the model
            is stochastic.
        early_stop: Leaves an image alone, with all its targets, once it is broken for certain.
        pace: First step size, in units of the radius; a start that is a peak wants a small one.
        shortlist: Whether, on a stochastic model, three candidates are measured to choose one;
            else the last iterate is returned, which is no lucky choice, unmeasured.
    """
    kind = _SparseClimb if ball.sparse else _Climb
    climb = kind.begin(oracle, images, start, ask(oracle, images, start, loss), pace)
    found = Found.nothing(start)
    marks = kind.marks(n_iter)
    stops = early_stop and decides(oracle)
    for step in range(1, n_iter + 1):
        if stops and not bool(climb.correct.all()):
            climb.write(found)
            climb.drop_broken(oracle.batch)
            if not len(climb.lane):
                return found
        climb.step(ball, momentum=step > 1)
        climb.take(oracle, ask(oracle, climb.images, climb.now, loss, grad=step < n_iter))
        if step in marks and step < n_iter:
            climb.review(oracle, loss, step)
    climb.finish(oracle, found, shortlist=shortlist)
    return found


def ascend_inward(
    oracle: Oracle,
    images: Lanes,
    start: Tensor,
    loss: Loss,
    ball: Ball,
    *,
    n_iter: int,
    early_stop: bool,
) -> Found:
    """Runs ``ascend``; in l1 it begins in larger balls, whose peaks lie on the way to its own.

    Source: https://arxiv.org/abs/2103.01208, section 4.3. Costs what ``ascend`` costs.
    """
    steps = [int(share * n_iter) for _, share in INWARD]
    last = n_iter - sum(steps) - 1  # each ascent asks about its start
    if not ball.sparse or min(steps) < 1 or last < 1:
        return ascend(oracle, images, start, loss, ball, n_iter=n_iter, early_stop=early_stop)
    for (factor, _), some in zip(INWARD, steps, strict=True):
        wide = ball.scaled(factor)
        start = ascend(
            oracle,
            images,
            wide.project(start, images.x),
            loss,
            wide,
            n_iter=some,
            early_stop=False,
            shortlist=False,
        ).x_adv
    start = ball.project(start, images.x)
    return ascend(oracle, images, start, loss, ball, n_iter=last, early_stop=early_stop)


@dataclass(kw_only=True)
class _Climb:
    """An ascent under way; every tensor has one entry for each of the n lanes still in it.

    ``now``, ``before``, ``peak``, ``peak_grad`` and ``best`` are its own, and written into.

    Attributes:
        images: Images under attack.
        lane: Places (n,) in the result.
        now: x^(k) of the paper; ``before``: x^(k-1).
        grad: Gradient at ``now``.
        loss: At ``now``.
        peak: x_max, the point with the highest loss, with its gradient and loss.
        pace: Step size in units of the radius (n,).
        rises: Steps that raised the loss since the last review (n,).
        peak_before: Highest loss at the last review.
        halved: Whether the last review halved the step size.
        best: The candidate to return, with its ``score`` and ``correct``.
        reviewed: Step of the last review.
    """

    images: Lanes
    lane: Tensor
    now: Tensor
    before: Tensor
    grad: Tensor
    loss: Tensor
    peak: Tensor
    peak_grad: Tensor
    peak_loss: Tensor
    pace: Tensor
    rises: Tensor
    peak_before: Tensor
    halved: Tensor
    best: Tensor
    score: Tensor
    correct: Tensor
    reviewed: int = 0

    @staticmethod
    def marks(n_iter: int) -> list[int]:
        """Returns the steps after which ``review`` is due."""
        return checkpoints(n_iter)

    @classmethod
    def begin(
        cls, oracle: Oracle, images: Lanes, start: Tensor, answer: Evaluation, pace: float
    ) -> Self:
        assert answer.grad is not None
        loss, start = pooled(oracle, answer.loss), start.clone()
        return cls(
            images=images,
            lane=torch.arange(len(start), device=start.device),
            now=start,
            before=start,
            grad=answer.grad,
            loss=loss,
            peak=start.clone(),
            peak_grad=answer.grad.clone(),
            peak_loss=loss,
            pace=torch.full_like(loss, pace),
            rises=torch.zeros_like(loss),
            peak_before=loss,
            halved=torch.zeros_like(loss, dtype=torch.bool),
            best=start.clone(),
            score=pooled(oracle, harm(oracle, answer)),
            correct=answer.correct,
            **cls._more(images, start, loss),
        )

    @classmethod
    def _more(cls, images: Lanes, start: Tensor, loss: Tensor) -> dict[str, Any]:
        """Returns what a subclass adds to the fields."""
        return {}

    def step(self, ball: Ball, *, momentum: bool) -> None:
        """Takes a step along the gradient, with momentum from the last step."""
        x, now = self.images.x, self.now
        size = self.pace.view(-1, 1, 1, 1) * ball.surface_step(x)
        ahead = ball.ascent_direction(self.grad).mul_(size).add_(now)
        ahead = ball.project(ahead, x, spend=True)
        if momentum:
            last = torch.sub(now, self.before, out=self.before).mul_(1 - MOMENTUM)
            ahead.sub_(now).mul_(MOMENTUM).add_(now).add_(last)
            ahead = ball.project(ahead, x, spend=True)
        self.before, self.now = now, ahead

    def take(self, oracle: Oracle, answer: Evaluation) -> None:
        """Takes note of the answer about ``now``."""
        loss, score = pooled(oracle, answer.loss), pooled(oracle, harm(oracle, answer))
        self.grad = self.grad if answer.grad is None else answer.grad
        self.rises = self.rises + (loss > self.loss)
        self.loss = loss
        higher, better = loss > self.peak_loss, score > self.score
        put_rows(higher, (self.peak, self.now), (self.peak_grad, self.grad))
        self.peak_loss = torch.where(higher, loss, self.peak_loss)
        put_rows(better, (self.best, self.now))
        self.score = torch.where(better, score, self.score)
        self.correct = torch.where(better, answer.correct, self.correct)

    def _look_again(self, oracle: Oracle, loss: Loss) -> None:
        """Measures the peak on fresh draws; ``now``, which is no choice of many, may replace it."""
        if not oracle.rules.stochastic or oracle.mean_field:  # the surrogate repeats itself
            return
        answer = ask(oracle, self.images, self.peak, loss)
        assert answer.grad is not None
        fresh = pooled(oracle, answer.loss)
        higher = self.loss > fresh
        self.peak_grad = answer.grad
        put_rows(higher, (self.peak, self.now), (self.peak_grad, self.grad))
        self.peak_loss = torch.where(higher, self.loss, fresh)

    def review(self, oracle: Oracle, loss: Loss, step: int) -> None:
        """Halves the step size where the ascent stalls, and goes back to the peak there."""
        self._look_again(oracle, loss)
        few_rises = self.rises < RISES * (step - self.reviewed)
        no_gain = ~self.halved & (self.peak_loss <= self.peak_before)
        self.halved = few_rises | no_gain
        self.pace = torch.where(self.halved, self.pace / 2, self.pace)
        put_rows(self.halved, (self.now, self.peak), (self.grad, self.peak_grad))
        self.loss = torch.where(self.halved, self.peak_loss, self.loss)
        self.peak_before = self.peak_loss
        self.rises, self.reviewed = torch.zeros_like(self.rises), step

    def finish(self, oracle: Oracle, found: Found, *, shortlist: bool) -> None:
        """Puts into the result what is left; on a stochastic model, what fresh draws prefer."""
        if not oracle.rules.stochastic:
            self.write(found)
            return
        if not shortlist:
            found.x_adv[self.lane] = self.now
            found.score[self.lane] = self.score
            return
        for candidates in (self.best, self.peak, self.now):
            fresh = appraise(oracle, self.images, candidates)
            found.offer(fresh, self.lane, oracle.coupled)

    def write(self, found: Found) -> None:
        """Copies the best candidates into the result."""
        found.x_adv[self.lane] = self.best
        found.score[self.lane] = self.score
        found.correct[self.lane] = self.correct

    def drop_broken(self, batch: int) -> None:
        """Leaves out images that are broken, in all their lanes."""
        lost = torch.zeros(batch, dtype=torch.bool, device=self.lane.device)
        lost[self.images.rows[self.correct == 0]] = True
        keep = (~lost[self.images.rows]).nonzero()[:, 0]
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                setattr(self, field.name, value.index_select(0, keep))
        self.images = self.images.pick(keep)


@dataclass(kw_only=True)
class _SparseClimb(_Climb):
    """An ascent whose steps change few pixels: as many as the peak needs, and fewer.

    Attributes:
        share: Share of pixels that a step changes (n,).
        support: Share of pixels that the peak changed at the last review (n,).
    """

    share: Tensor
    support: Tensor

    @staticmethod
    def marks(n_iter: int) -> list[int]:
        """Returns the steps after which ``review`` is due."""
        return sparse_checkpoints(n_iter)

    @classmethod
    def _more(cls, images: Lanes, start: Tensor, loss: Tensor) -> dict[str, Any]:
        moved = (start != images.x).flatten(1).to(loss.dtype).mean(1)
        share = torch.where(moved > 0, moved / SPARSER, SPARSE_SHARE).clamp(max=SPARSE_SHARE)
        return {"share": share, "support": torch.where(moved > 0, moved, 1.0)}

    def step(self, ball: Ball, *, momentum: bool) -> None:
        """Takes a sparse step along the gradient, without momentum."""
        length = (self.pace * SPARSE_PACE / PACE * ball.step_radius).view(-1, 1, 1, 1)
        ahead = sparse_signs(self.grad, self.share).mul_(length).add_(self.now)
        self.before, self.now = self.now, ball.project(ahead, self.images.x, spend=True)

    def review(self, oracle: Oracle, loss: Loss, step: int) -> None:
        """Makes steps sparser with the peak, and goes back to it; else makes them shorter."""
        self._look_again(oracle, loss)
        moved = (self.peak != self.images.x).flatten(1).to(self.loss.dtype).mean(1)
        sparser = moved < SAME_SUPPORT * self.support
        self.share, self.support = moved / SPARSER, moved
        self.pace = torch.where(sparser, PACE, (self.pace / SPARSER).clamp(min=FINEST * PACE))
        put_rows(sparser, (self.now, self.peak), (self.grad, self.peak_grad))
        self.loss = torch.where(sparser, self.peak_loss, self.loss)


def ascend_smoothed(
    oracle: Oracle,
    images: Lanes,
    start: Tensor,
    loss: Loss,
    ball: Ball,
    *,
    n_iter: int,
    n_points: int,
    generator: torch.Generator,
) -> Tensor:
    """Climbs the mean of a loss over half the ball, in ever shorter steps; returns the last point.

    Each gradient is the mean of those at random points around the current one, which see past
    ripples and plateaus that mislead the gradient at a point. On a stochastic model it is also a
    mean over draws. Costs ``2 * n_iter * n_points`` passes.

    Source: smoothing by expectation over transformation, https://arxiv.org/abs/1707.07397,
    against gradients that shatter, https://arxiv.org/abs/1802.00420, section 4.1.

    Args:
        oracle: The oracle of the attacked model.
        images: The images, with or without targets.
        start: First iterate (n, c, h, w), in the ball.
        loss: Loss to climb.
        ball: The ball.
        n_iter: Steps.
        n_points: Points around each iterate.
        generator: Source of the points, drawn for the whole batch, whichever images are left.
    """
    now, near = start, ball.scaled(0.5)
    for step in range(n_iter):
        total = torch.zeros_like(now)
        for group in _groups_of_points(oracle, images, n_points):
            points = [somewhere(oracle, images, now, near, generator) for _ in range(group)]
            some = images if group == 1 else images.repeated(group)
            grad = ask(oracle, some, torch.cat(points), loss).grad
            assert grad is not None
            total += grad.view(group, *now.shape).sum(0)
        size = max(1 - step / n_iter, 0.1) * SMOOTH_PACE
        ahead = ball.ascent_direction(total).mul_(ball.surface_step(now)).mul_(size).add_(now)
        now = ball.project(ahead, images.x, spend=True)
    return now


def _groups_of_points(oracle: Oracle, images: Lanes, n_points: int) -> list[int]:
    """Returns how many points share a query: one where a batch must be asked about as a whole."""
    size = 1 if oracle.coupled else max(1, oracle.rules.max_pass // max(len(images), 1))
    return [min(size, n_points - first) for first in range(0, n_points, size)]
