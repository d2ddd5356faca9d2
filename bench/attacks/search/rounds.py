"""The rounds of ``auto``: five kinds of step, each with rounds that cost more and more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.attacks.ball import Ball
from bench.attacks.declared_search import SquareParams
from bench.attacks.search.ascent import PACE, ascend, ascend_smoothed
from bench.attacks.search.boundary import Stride, walk
from bench.attacks.search.lanes import Found, Lanes, ask, decides, search_all, starts, top_targets
from bench.attacks.search.squares import random_search
from bench.oracle import LOSSES, Oracle, margin

OUTPUT_STEPS = 2
"""Steps from a random point to a diversified one; the source's number."""

N_RANKED = 9
"""Number of classes whose distances are compared: those with the highest logits."""

TINY = 1e-12


def diversified_starts(
    oracle: Oracle, images: Lanes, ball: Ball, generator: torch.Generator
) -> Tensor:
    """Returns points (n, c, h, w) of the balls at which the model says different things.

    From a random point, steps as long as the radius climb a random mix of the logits, with weights
    from [-1, 1]. Costs ``2 * OUTPUT_STEPS`` passes.

    Source: Tashiro et al. 2020, https://arxiv.org/abs/2003.06878, section 3.

    Args:
        oracle: The oracle of the attacked model.
        images: Without targets.
        ball: The ball.
        generator: Source of all randomness, which is drawn for the whole batch, whichever images
            are left.
    """
    drawn = torch.rand(oracle.batch, oracle.n_classes, generator=generator) * 2 - 1
    mix = drawn.to(images.x)

    def mixed(logits: Tensor, y: Tensor, row: Tensor | None) -> Tensor:
        assert row is not None
        return (mix[row] * logits).sum(1)

    x_start = starts(oracle, images, ball, generator)
    size = ball.surface_step(x_start)
    by_row = replace(images, target=images.rows)  # tells the loss whose weights to take
    for _ in range(OUTPUT_STEPS):
        grad = ask(oracle, by_row, x_start, mixed).grad
        assert grad is not None
        ahead = ball.ascent_direction(grad).mul_(size).add_(x_start)
        x_start = ball.project(ahead, images.x, spend=True)
    return x_start


def nearest_targets(oracle: Oracle, images: Lanes, x: Tensor, ball: Ball, k: int) -> Tensor:
    """Returns the wrong classes (n, k) whose boundaries are nearest to x (n, c, h, w), in order.

    Nearest in the ball's norm, of the model linearized at x: a class with a low logit may have a
    steep one. Where the gradient vanishes the order is that of the logits. Costs a pass, and two
    for each of at most ``N_RANKED`` classes.
    """
    ranked = top_targets(oracle, replace(images, x=x), N_RANKED)
    answer = ask(oracle, images.aimed(ranked), x.repeat(ranked.shape[1], 1, 1, 1), margin)
    assert answer.grad is not None
    slope = (answer.grad * ball.relative_radii(x)).flatten(1)
    steepness: Tensor = torch.linalg.vector_norm(slope, ball.facts.dual_order, dim=1)
    distance = (-answer.loss / steepness.clamp(min=TINY)).view(-1, len(images)).T
    return ranked.gather(1, distance.argsort(dim=1, stable=True)[:, :k])


FIRST, SHORT, AIMED, LONG = 10, 20, 15, 50
"""Steps of the first climb, of most restarts, of climbs at each of several targets, and of the
climb that comes once in a while. Four of 20 steps find more than one of 100."""

SMALL_PACE = 0.25
"""First step size, in units of the radius, of a climb that begins where another search ended."""

QUERIES = (25, 100, 300, 1000)
"""Queries of the first random searches; all later ones are as long as the last."""

SHORT_WALK, LONG_WALK = 12, 20
"""Steps of the first walk to the boundary, and of all others."""

STRIDE = Stride(n_iter=SHORT_WALK, alpha_max=0.1, eta=1.05, beta=0.9)
"""How it steps: as FAB does."""

SMOOTH_STEPS, SMOOTH_POINTS = 8, 4
"""Steps of an ascent of the smoothed loss, and points around each."""


@dataclass(frozen=True)
class Outcome:
    """What a round found.

    Attributes:
        x_adv: Candidates (n, c, h, w).
        way: Of rounds that look beyond the ball: its radius in units of the distance at which the
            boundary was met (n,), at most 1; 0 where it was not met.
    """

    x_adv: Tensor
    way: Tensor | None = None


@dataclass(frozen=True)
class Round:
    """A search that images may take part in.

    Attributes:
        cost: Passes per image at most, with the one that measures the candidate.
        run: Returns the outcome for images, given their best candidates so far and a generator.
    """

    cost: int
    run: Callable[[Lanes, Tensor, torch.Generator], Outcome]


@dataclass(frozen=True)
class Kind:
    """A kind of step.

    Attributes:
        name: What it is, for the log.
        rounds: Returns its round of a number, counted from 0.
    """

    name: str
    rounds: Callable[[int], Round]


@dataclass(frozen=True)
class Rounds:
    """The rounds that an oracle can be asked for.

    Attributes:
        oracle: The oracle of the attacked model.
        ball: The ball.
        n_target_classes: Targets of the round that tries many.
    """

    oracle: Oracle
    ball: Ball
    n_target_classes: int

    def kinds(self) -> tuple[Kind, ...]:
        """Returns the kinds of step, ascent first."""
        always = (
            Kind("ascent", self._ascents),
            Kind("random search", self._searches),
            Kind("smoothed ascent", self._smoothed),
        )
        return (*always, Kind("boundary walk", self._walks)) if decides(self.oracle) else always

    def _ascents(self, number: int) -> Round:
        """From the clean image, then from a diversified start; then the likeliest to break it.

        Noisy gradients want longer climbs.
        """
        if self.oracle.rules.stochastic:
            return self.climb("ce" if number % 2 else "margin", LONG, diversified=number > 0)
        margin_, near = self.climb("margin", SHORT), self.aim(2, SHORT, diversified=True)
        many = self.aim(self.n_target_classes, AIMED, diversified=False)
        other, long = self.climb("ce", SHORT), self.climb("margin", LONG)
        first = (self.climb("margin", FIRST, diversified=False), margin_)
        line = (*first, other, many, margin_, margin_, long)
        if number < len(line):
            return line[number]
        return (near, margin_, other, margin_, long)[(number - len(line)) % 5]

    def _searches(self, number: int) -> Round:
        """Random search from the clean image, longer each time; then an ascent from its end."""
        return self.squares(QUERIES[min(number, len(QUERIES) - 1)])

    def _smoothed(self, number: int) -> Round:
        """From the best point so far, then from diversified starts."""
        return self.smooth(diversified=number > 0)

    def _walks(self, number: int) -> Round:
        """Toward the nearest classes, then toward all and farther; later from random points."""
        if number == 0:
            return self.boundary(2, SHORT_WALK, scattered=False)
        return self.boundary(N_RANKED, LONG_WALK, scattered=number > 1)

    def climb(self, loss: str, n_iter: int, *, diversified: bool = True) -> Round:
        """Returns an untargeted ascent, from the clean image or a diversified start."""

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Outcome:
            begin = self._begin(images, diversified, generator)
            return Outcome(self._search(images, begin, loss, n_iter))

        return Round(2 * OUTPUT_STEPS * diversified + _ascent(n_iter) + 1, run)

    def aim(self, n_targets: int, n_iter: int, *, diversified: bool) -> Round:
        """Returns an ascent at each of the classes nearest to the best candidate so far."""

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Outcome:
            targets = nearest_targets(self.oracle, images, best, self.ball, n_targets)
            begin = self._begin(images, diversified, generator)
            return Outcome(self._search(images, begin, "margin", n_iter, targets=targets))

        each = 2 * OUTPUT_STEPS * diversified + _ascent(n_iter)
        return Round(self._ranking() + self._aimed(n_targets) * each + 1, run)

    def polish(self) -> Round:
        """Returns an ascent in small steps from the best candidate so far."""

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Outcome:
            return Outcome(self._onward(images, best, SHORT))

        return Round(_ascent(SHORT) + 1, run)

    def squares(self, n_queries: int) -> Round:
        """Returns a random search, which needs no gradient, and a short ascent from its end."""

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Outcome:
            found = random_search(
                self.oracle,
                images,
                self.ball,
                n_queries=n_queries,
                p_init=SquareParams().p_init,
                generator=generator,
            )
            return Outcome(self._onward(images, found.x_adv, FIRST))

        return Round(n_queries + _ascent(FIRST) + 1, run)

    def smooth(self, *, diversified: bool) -> Round:
        """Returns an ascent of the smoothed loss, from the best point or a diversified start."""

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Outcome:
            start = self._begin(images, True, generator)() if diversified else best
            smoothed = ascend_smoothed(
                self.oracle,
                images,
                start,
                margin,
                self.ball,
                n_iter=SMOOTH_STEPS,
                n_points=SMOOTH_POINTS,
                generator=generator,
            )
            return Outcome(smoothed)

        cost = 2 * OUTPUT_STEPS * diversified + 2 * SMOOTH_STEPS * SMOOTH_POINTS + 1
        return Round(cost, run)

    def boundary(self, n_targets: int, n_iter: int, *, scattered: bool) -> Round:
        """Returns a walk to the boundary with each of the nearest classes.

        It begins at the clean image or a random point of half the ball. Where it ends beyond the
        ball, a short ascent goes on from the point of the ball on the way there.
        """

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Outcome:
            targets = nearest_targets(self.oracle, images, best, self.ball, n_targets)

            def begin(restart: int) -> Tensor:
                near = self.ball.scaled(0.5)
                return starts(self.oracle, images, near, generator) if scattered else images.x

            def search(lanes: Lanes, start: Tensor) -> Found:
                stride = replace(STRIDE, n_iter=n_iter)
                return walk(
                    self.oracle, lanes, start, self.ball, stride, early_stop=True, beyond=True
                )

            found = search_all(
                self.oracle, images, search, begin, targets=targets, n_restarts=1, early_stop=True
            )
            way = 1 / (-found.score).clamp(min=1)  # scores are distances, or infinite
            return Outcome(self._onward(images, found.x_adv, FIRST), way)

        # A step looks, looks again where it was pulled back to, and asks for a gradient there.
        walked = self._aimed(n_targets) * (3 * n_iter + 2)
        return Round(self._ranking() + walked + _ascent(FIRST) + 1, run)

    def _aimed(self, n_targets: int) -> int:
        return min(n_targets, self.oracle.n_classes - 1)

    def _ranking(self) -> int:
        """Returns the passes of ``nearest_targets``."""
        return 1 + 2 * self._aimed(N_RANKED)

    def _onward(self, images: Lanes, start: Tensor, n_iter: int) -> Tensor:
        """Climbs in small steps from where another search ended."""
        return self._search(images, lambda: start, "margin", n_iter, pace=SMALL_PACE)

    def _begin(
        self, images: Lanes, diversified: bool, generator: torch.Generator
    ) -> Callable[[], Tensor]:
        if not diversified:
            return lambda: images.x
        return lambda: diversified_starts(self.oracle, images, self.ball, generator)

    def _search(
        self,
        images: Lanes,
        begin: Callable[[], Tensor],
        loss: str,
        n_iter: int,
        *,
        targets: Tensor | None = None,
        pace: float = PACE,
    ) -> Tensor:
        return search_all(
            self.oracle,
            images,
            lambda lanes, start: ascend(
                self.oracle,
                lanes,
                start,
                LOSSES[loss],
                self.ball,
                n_iter=n_iter,
                early_stop=True,
                pace=pace,
                shortlist=False,
            ),
            lambda restart: begin(),
            targets=targets,
            n_restarts=1,
            early_stop=True,
        ).x_adv


def _ascent(n_iter: int) -> int:
    return 2 * n_iter + 1
