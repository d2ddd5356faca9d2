"""The random search of Square Attack. https://arxiv.org/abs/1912.00049, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bench.attacks.ball import Ball
from bench.attacks.common import Best, harm, put_rows
from bench.attacks.search.lanes import Found, Lanes, ask, decides, lost
from bench.attacks.search.square_shapes import Draws, Shapes, shapes_in
from bench.core.attack import SELECTION_DRAWS
from bench.oracle import Evaluation, Oracle, margin

HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
"""After how many of 10,000 iterations the share p of changed pixels is halved (section 4)."""

REFRESH_STOCHASTIC, REFRESH_COUPLED = 10, 2
"""One query in so many measures the current candidates again. On a stochastic model the luckiest
measurement would otherwise stay and block the search; where images share statistics, changes of
several images that were an improvement each must be measured together."""


def share(iteration: int, n_queries: int, p_init: float) -> float:
    """Returns the share p of an image's pixels that an iteration (from 0) changes."""
    scaled = iteration * 10_000 / n_queries
    return p_init * 0.5 ** sum(scaled > mark for mark in HALVINGS)


def random_search(
    oracle: Oracle,
    images: Lanes,
    ball: Ball,
    *,
    n_queries: int,
    p_init: float,
    generator: torch.Generator,
) -> Found:
    """Searches the ball by changing squares, with forward passes only, at most ``n_queries``.

    Climbs the margin, of which it takes the mean over draws. The first query is about the clean
    image. An image is left alone once it is broken: wrong, or on a stochastic model wrong on every
    one of at least ``SELECTION_DRAWS`` draws, which are drawn apart from the search where that sees
    only the mean-field surrogate. Where images share statistics none is left alone,
    and the most harmful batch that was measured as a whole is returned.

    Args:
        oracle: The oracle of the attacked model.
        images: The images.
        ball: The ball.
        n_queries: Queries per image at most.
        p_init: Share of pixels changed at first.
        generator: Source of all randomness, which is drawn for the whole batch, whichever images
            are left.
    """
    found, batches = Found.nothing(images.x), Best(images.x, oracle.coupled)
    search, draws = _Search.begin(images, ball), Draws(images.x, oracle.batch, generator)
    for query in range(n_queries):
        if query == 0:
            candidates = images.x
        elif search.refreshes(oracle, query):
            candidates = search.x_adv
        else:
            candidates = search.propose(oracle, generator, draws, query, n_queries, p_init)
        answer = ask(oracle, search.images, candidates, margin, grad=False)
        if oracle.coupled:
            batches.offer(candidates, harm(oracle, answer))
        search.take(oracle, candidates, answer, query)
        if search.settle(oracle, query, found):
            return found
    search.write(found)
    return Found(batches.x_adv, batches.score, found.correct) if oracle.coupled else found


@dataclass
class _Search:
    """A search under way; every tensor has one entry for each of the n images still in it.

    Attributes:
        images: Images under attack.
        shapes: Source of guesses.
        lane: Places (n,) in the result.
        x_adv: The current candidates; from the first guess on its own, and written into.
        loss: Their margin, over all measurements of them.
        correct: Fraction of draws right, over all measurements of them.
        measured: Number of queries about them.
        ends: As ``Shapes.ends`` returns it.
    """

    images: Lanes
    shapes: Shapes
    lane: Tensor
    x_adv: Tensor
    loss: Tensor
    correct: Tensor
    measured: Tensor
    ends: Tensor

    @staticmethod
    def begin(images: Lanes, ball: Ball) -> _Search:
        none = torch.zeros(len(images), device=images.x.device)
        lane = torch.arange(len(images), device=images.x.device)
        shapes = shapes_in(ball)
        ends = shapes.ends(images.x)
        return _Search(images, shapes, lane, images.x, none, none + 1, none, ends)

    @staticmethod
    def refreshes(oracle: Oracle, query: int) -> bool:
        """Says whether a query measures the current candidates again."""
        if oracle.mean_field and not oracle.coupled:
            return False  # it would only repeat itself
        every = REFRESH_COUPLED if oracle.coupled else REFRESH_STOCHASTIC
        return not decides(oracle) and query > 1 and query % every == 1

    def propose(
        self,
        oracle: Oracle,
        generator: torch.Generator,
        draws: Draws,
        query: int,
        n_queries: int,
        p_init: float,
    ) -> Tensor:
        """Returns the first guess, or the current candidates with a square changed."""
        x, rows = self.images.x, self.images.rows
        if query == 1:
            return self.shapes.first_guess(x, rows, oracle.batch, generator)
        size = self.shapes.side(share(query - 2, n_queries, p_init), x)
        return self.shapes.next_guess(x, self.x_adv, self.ends, rows, size, draws)

    def take(self, oracle: Oracle, candidates: Tensor, answer: Evaluation, query: int) -> None:
        """Replaces current candidates by better ones, or measures them better."""
        if self.refreshes(oracle, query):
            # What was measured in another batch does not count where images share statistics.
            before = self.measured * (not oracle.coupled)
            self.loss = (self.loss * before + answer.loss) / (before + 1)
            self.correct = (self.correct * before + answer.correct) / (before + 1)
            self.measured = before + 1
            return
        if query <= 1:
            self.x_adv, self.loss, self.correct = candidates, answer.loss, answer.correct
            self.measured = torch.ones_like(answer.loss)
            return
        better = answer.loss > self.loss
        put_rows(better, (self.x_adv, candidates))
        self.loss = torch.where(better, answer.loss, self.loss)
        self.correct = torch.where(better, answer.correct, self.correct)
        if not decides(oracle):  # elsewhere nothing is measured again
            self.measured = torch.where(better, 1.0, self.measured)

    def write(self, found: Found) -> None:
        """Copies the current candidates into the result."""
        found.x_adv[self.lane] = self.x_adv
        found.score[self.lane] = self.loss
        found.correct[self.lane] = self.correct

    def settle(self, oracle: Oracle, query: int, found: Found) -> bool:
        """Leaves broken images alone, once they are in the result; says whether none is left."""
        if oracle.coupled or bool(self.correct.all()):
            return not len(self.lane)
        done = self.correct == 0
        if oracle.mean_field:
            now = query % REFRESH_STOCHASTIC == 1
            done = lost(oracle, self.images, self.x_adv, done & now)
        elif oracle.rules.stochastic:
            done = done & (self.measured * oracle.n_draws >= SELECTION_DRAWS)
        if bool(done.any()):
            self.write(found)
            left = (~done).nonzero()[:, 0]
            for field in fields(self):
                value = getattr(self, field.name)
                if isinstance(value, Tensor):
                    setattr(self, field.name, value.index_select(0, left))
            self.images = self.images.pick(left)
        return len(self.lane) == 0
