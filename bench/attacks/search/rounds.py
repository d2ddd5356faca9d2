"""The rounds of ``auto``: ascents from many starts, at near targets, and random search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, cycle

import torch
from torch import Tensor

from bench.attacks.ball import Ball
from bench.attacks.declared_search import SquareParams
from bench.attacks.search.ascent import PACE, ascend
from bench.attacks.search.lanes import Lanes, ask, search_all, starts, top_targets
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
"""First step size, in units of the radius, of the last climb, which begins at the best point."""


@dataclass(frozen=True)
class Round:
    """A search that images may take part in.

    Attributes:
        cost: Passes per image at most, with the one that measures the candidate.
        run: Returns candidates (n, c, h, w) for images, given their best ones so far and a
            generator.
    """

    cost: int
    run: Callable[[Lanes, Tensor, torch.Generator], Tensor]


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

    def opening(self) -> tuple[Round, ...]:
        """Returns the rounds that every image takes part in until it is broken."""
        return self.climb("margin", FIRST, diversified=False), self.climb("margin", SHORT)

    def restarts(self) -> Iterator[Round]:
        """Yields rounds without end, the likeliest to break an image first."""
        short, long = self.climb("margin", SHORT), self.climb("margin", LONG)
        other, near = self.climb("ce", SHORT), self.aim(2, SHORT, diversified=True)
        many = self.aim(self.n_target_classes, AIMED, diversified=False)
        return chain((other, many, short, short, long), cycle((near, short, other, short, long)))

    def cheapest(self) -> Round:
        """Returns the one of ``restarts`` that costs least."""
        return self.climb("margin", SHORT)

    def climb(self, loss: str, n_iter: int, *, diversified: bool = True) -> Round:
        """Returns an untargeted ascent, from the clean image or a diversified start."""

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Tensor:
            return self._search(images, self._begin(images, diversified, generator), loss, n_iter)

        return Round(2 * OUTPUT_STEPS * diversified + _ascent(n_iter) + 1, run)

    def aim(self, n_targets: int, n_iter: int, *, diversified: bool) -> Round:
        """Returns an ascent at each of the classes nearest to the best candidate so far."""

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Tensor:
            targets = nearest_targets(self.oracle, images, best, self.ball, n_targets)
            begin = self._begin(images, diversified, generator)
            return self._search(images, begin, "margin", n_iter, targets=targets)

        n_ranked, n_aimed = (min(n, self.oracle.n_classes - 1) for n in (N_RANKED, n_targets))
        each = 2 * OUTPUT_STEPS * diversified + _ascent(n_iter)
        return Round(1 + 2 * n_ranked + n_aimed * each + 1, run)

    def polish(self) -> Round:
        """Returns an ascent in small steps from the best candidate so far."""

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Tensor:
            return self._search(images, lambda: best, "margin", SHORT, pace=SMALL_PACE)

        return Round(_ascent(SHORT) + 1, run)

    def squares(self, n_queries: int) -> Round:
        """Returns a random search, which needs no gradient."""

        def run(images: Lanes, best: Tensor, generator: torch.Generator) -> Tensor:
            return random_search(
                self.oracle,
                images,
                self.ball,
                n_queries=n_queries,
                p_init=SquareParams().p_init,
                generator=generator,
            ).x_adv

        return Round(n_queries + 1, run)

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
            ),
            lambda restart: begin(),
            targets=targets,
            n_restarts=1,
            early_stop=True,
        )


def _ascent(n_iter: int) -> int:
    return 2 * n_iter + 1
