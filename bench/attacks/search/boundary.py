"""The walk of FAB along the decision boundary. https://arxiv.org/abs/1907.02044, section 2.3.

Where the paper leaves a choice it is the one of AutoAttack, https://arxiv.org/abs/2003.01690.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bench.attacks.ball import Ball
from bench.attacks.common import boundaries, broken, closer, harm, put_rows
from bench.attacks.search.lanes import Found, Lanes, appraise, ask, decides, pooled
from bench.oracle import Evaluation, Oracle, margin

TINY = 1e-30

ROUNDING = 1 + 1e-5
"""By this factor a distance may exceed eps; the point is then pulled back onto the ball."""


@dataclass(frozen=True)
class Stride:
    """How the walk steps, in the paper's words.

    Attributes:
        n_iter: Steps.
        alpha_max: Largest weight of the step taken from the clean image.
        eta: How far beyond the linearized boundary a step goes.
        beta: Where a broken point is pulled back to, between the clean image (0) and itself (1).
    """

    n_iter: int
    alpha_max: float
    eta: float
    beta: float


def walk(
    oracle: Oracle,
    images: Lanes,
    start: Tensor,
    ball: Ball,
    stride: Stride,
    *,
    early_stop: bool,
    beyond: bool = False,
) -> Found:
    """Walks to the nearest broken point from ``start`` (n, c, h, w).

    Images with targets walk to the boundary with their target (FAB-T), others to the nearest. Of
    the points passed, returned is where one query decides the closest broken one, if it is within
    eps, else the clean image. Elsewhere (stochastic models, or images that share statistics) it is
    the most harmful one within eps, as the closest point is broken on half of the draws.

    Args:
        oracle: The oracle of the attacked model.
        images: The images, with or without targets.
        start: Starts.
        ball: The norm that is minimized, and the eps that decides.
        stride: How to step.
        early_stop: Leaves an image alone, with all its targets, once it is broken within eps.
        beyond: Whether, where the nearest broken point lies beyond eps, the point of the ball on
            the way to it is returned, in place of the clean image. Only where one query decides.
    """
    state = _Walk.begin(images, start)
    found = Found.nothing(images.x)
    for step in range(stride.n_iter + 1):
        f, w = state.look(oracle, ball, stride.beta, last=step == stride.n_iter)
        if step == stride.n_iter:
            break
        if decides(oracle):
            keep = state.unsettled(oracle.batch, early_stop).nonzero()[:, 0]
            if len(keep) < len(state.lane):
                state.write(found, oracle, ball)
                state.keep(keep)
                f, w = f[keep], w.index_select(0, keep)
            if not len(state.lane):
                return found
        state.step(f, w, ball, stride)
    if decides(oracle):
        state.pull_in(oracle, ball)
    state.write(found, oracle, ball)
    if beyond and decides(oracle):
        state.write_beyond(found, ball)
    return appraise(oracle, images, found.x_adv) if oracle.rules.stochastic else found


@dataclass
class _Walk:
    """A walk under way; every tensor has one entry for each of the n lanes still in it.

    ``now`` and ``best`` are its own, and written into.

    Attributes:
        images: Images under attack.
        lane: Places (n,) in the result.
        now: Where the walk is.
        best: The closest broken point so far, or the most harmful one within eps.
        distance: Of ``best``, in units of eps; infinite while there is none.
        score: Of ``best``, where the most harmful is kept.
        correct: Of ``best``.
        crossed: Whether the last look found ``now`` broken.
    """

    images: Lanes
    lane: Tensor
    now: Tensor
    best: Tensor
    distance: Tensor
    score: Tensor
    correct: Tensor
    crossed: Tensor

    @staticmethod
    def begin(images: Lanes, start: Tensor) -> _Walk:
        none = torch.full((len(start),), torch.inf, device=start.device)
        return _Walk(
            images=images,
            lane=torch.arange(len(start), device=start.device),
            now=start.clone(),
            best=images.x.clone(),
            distance=none,
            score=-none,
            correct=torch.ones_like(none),
            crossed=torch.zeros_like(none, dtype=torch.bool),
        )

    def look(self, oracle: Oracle, ball: Ball, beta: float, *, last: bool) -> tuple[Tensor, Tensor]:
        """Takes note of ``now``, pulls broken points back, and linearizes the boundary there.

        Returns f (n,), which is 0 on the boundary, and its gradient w (n, c, h, w). A point that is
        pulled back needs a gradient where it is pulled to, so none is asked for at ``now`` on a
        lane that has just crossed the boundary, and will most often do so again. Beyond eps a walk
        may well err about where the boundary is: only within it is a broken point confirmed.
        """
        aims = self.images.target is not None and not last
        waits = self.crossed.any().expand_as(self.crossed) if oracle.coupled else self.crossed
        sloped = ~waits if aims else torch.zeros_like(waits)
        distance = ball.relative_size(self.now - self.images.x)
        answer = self._ask(oracle, sloped, distance <= ROUNDING)
        self._note(oracle, ball, answer, distance)
        if last:
            return answer.loss, self.now
        self.crossed = broken(answer)
        at = self.crossed.nonzero()[:, 0]
        x, beyond = self.images.x.index_select(0, at), self.now.index_select(0, at)
        self.now.index_copy_(0, at, beyond.sub_(x).mul_(beta).add_(x))
        if answer.grad is None:
            return self._nearest_plane(oracle, ball)
        f, w, again = answer.loss, answer.grad, ~sloped | self.crossed
        if oracle.coupled:
            again = again.any().expand_as(again)
        at = again.nonzero()[:, 0]
        if len(at):
            there = ask(
                oracle,
                self.images,
                self.now.index_select(0, at),
                margin,
                confirm=torch.zeros_like(at, dtype=torch.bool),
                at=at,
            )
            assert there.grad is not None
            f[at] = there.loss
            w.index_copy_(0, at, there.grad)
        return f, w

    def _ask(self, oracle: Oracle, sloped: Tensor, within: Tensor) -> Evaluation:
        """Asks about ``now``, for gradients on the lanes ``sloped`` (n,) only: elsewhere zero.

        Lanes ``within`` (n,) eps have what seems broken confirmed.
        """
        if bool(sloped.all()) or self.images.target is None:
            aims = self.images.target is not None
            return ask(oracle, self.images, self.now, margin, grad=aims, confirm=within)
        zero = torch.zeros_like(self.distance)
        none = torch.zeros(len(zero), oracle.n_classes, device=zero.device)
        merged = Evaluation(zero, torch.zeros_like(self.now), zero.clone(), none)
        assert merged.grad is not None
        for lanes, grad in ((sloped, True), (~sloped, False)):
            at = lanes.nonzero()[:, 0]
            if len(at):
                now = self.now.index_select(0, at)
                part = ask(oracle, self.images, now, margin, grad=grad, confirm=within[at], at=at)
                merged.loss[at], merged.correct[at] = part.loss, part.correct
                merged.logits[at] = part.logits
                if part.grad is not None:
                    merged.grad.index_copy_(0, at, part.grad)
        return merged

    def _note(self, oracle: Oracle, ball: Ball, answer: Evaluation, distance: Tensor) -> None:
        """Keeps ``now``, at a ``distance`` (n,), where it is better than the best so far."""
        candidate = self.now
        if oracle.coupled:  # the batch as it would be played: every image inside its ball
            candidate = ball.project(self.now, self.images.x)
            answer = ask(oracle, self.images, candidate, margin, grad=False)
            distance = distance.clamp(max=1)
        score = pooled(oracle, harm(oracle, answer))
        if decides(oracle):
            better = broken(answer) & (distance < self.distance)
        else:
            better = (distance <= ROUNDING) & (score > self.score)
        self._keep(better, candidate, distance)
        self.score = torch.where(better, score, self.score)
        self.correct = torch.where(better, answer.correct, self.correct)

    def _keep(self, better: Tensor, candidate: Tensor, distance: Tensor) -> None:
        put_rows(better, (self.best, candidate))
        self.distance = torch.where(better, distance, self.distance)

    def _nearest_plane(self, oracle: Oracle, ball: Ball) -> tuple[Tensor, Tensor]:
        """Returns the linearized boundary that is nearest to ``now`` among all classes'."""
        y, rows = self.images.y, self.images.rows
        i = torch.arange(len(rows), device=rows.device)
        best: tuple[Tensor, Tensor, Tensor] | None = None
        for classes, f, w in boundaries(oracle, self.now, y, rows):
            f, w = f.nan_to_num(0.0), w.nan_to_num(0.0, 0.0, 0.0)
            dual = ball.dual_norm(w.flatten(2), ball.radii(self.now))
            away = (f.abs() / dual.clamp(min=TINY)).masked_fill(classes == y[:, None], torch.inf)
            nearest = away.argmin(1)
            found = (away[i, nearest], f[i, nearest], w[i, nearest])
            best = found if best is None else closer(found, best)
        assert best is not None
        return best[1], best[2]

    def step(self, f: Tensor, w: Tensor, ball: Ball, stride: Stride) -> None:
        """Steps beyond the linearized boundary, from ``now`` and from the clean image at once."""
        x, now, normal = self.images.x, self.now, w.flatten(1)
        radii = ball.radii(x)
        gap = f + (x - now).flatten(1).mul_(normal).sum(1)
        near = ball.step_to_plane(now.flatten(1), normal, f, radii).view_as(x)
        fresh = ball.step_to_plane(x.flatten(1), normal, gap, radii).view_as(x)
        a, b = (ball.relative_size(delta).clamp(min=1e-8) for delta in (near, fresh))
        alpha = (a / (a + b)).clamp(max=stride.alpha_max).view(-1, 1, 1, 1)
        near.mul_(stride.eta).add_(now).mul_(1 - alpha)
        fresh.mul_(stride.eta).add_(x).mul_(alpha)
        self.now = near.add_(fresh).clamp_(0, 1)

    def pull_in(self, oracle: Oracle, ball: Ball) -> None:
        """Tries points beyond eps again where the way to them leaves the ball.

        The paper's final search goes on to the boundary itself, where rounding decides.
        """
        at = (self.distance.isfinite() & (self.distance > ROUNDING)).nonzero()[:, 0]
        if not len(at):
            return
        images, nearer = self.images.pick(at), self._nearer(at, ball)
        answer = ask(oracle, images, nearer, margin, grad=False, confirm="all")
        won = at[broken(answer)]
        self.best = self.best.index_copy(0, won, nearer[broken(answer)])
        self.distance = self.distance.index_fill(0, won, 1.0)

    def _nearer(self, at: Tensor, ball: Ball) -> Tensor:
        """Returns the points of the ball on the way to the best points at positions (m,)."""
        x, scale = self.images.x[at], self.distance[at].view(-1, 1, 1, 1)
        return ball.project(x + (self.best[at] - x) / scale, x)

    def write_beyond(self, found: Found, ball: Ball) -> None:
        """Puts the points on the way to broken points beyond eps into the result; nearer first."""
        at = (self.distance.isfinite() & (self.distance > ROUNDING)).nonzero()[:, 0]
        found.x_adv[self.lane[at]] = self._nearer(at, ball)
        found.score[self.lane[at]] = -self.distance[at]

    def unsettled(self, batch: int, early_stop: bool) -> Tensor:
        """Says which lanes (n,) go on: those of images that are not broken near enough yet."""
        enough = self.distance <= (ROUNDING if early_stop else 0)
        lost = torch.zeros(batch, dtype=torch.bool, device=self.lane.device)
        lost[self.images.rows[enough]] = True
        return ~lost[self.images.rows]

    def write(self, found: Found, oracle: Oracle, ball: Ball) -> None:
        """Copies the best points within eps into the result; closer ones score higher."""
        inside = self.distance <= ROUNDING
        lane = self.lane[inside]
        found.x_adv[lane] = ball.project(self.best[inside], self.images.x[inside])
        found.correct[lane] = self.correct[inside]
        closest = -self.distance if decides(oracle) else self.score
        found.score[lane] = closest[inside]

    def keep(self, at: Tensor) -> None:
        """Leaves out all lanes but those at some positions (m,)."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                setattr(self, field.name, value.index_select(0, at))
        self.images = self.images.pick(at)
