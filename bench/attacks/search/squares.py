"""The random search of Square Attack. https://arxiv.org/abs/1912.00049, algorithm 1."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor

from bench.attacks.base import Budget
from bench.attacks.common import Best, harm, project, put_rows, radius
from bench.attacks.search.images import SELECTION_DRAWS, Found, Images, ask, decides, lost
from bench.oracle import Evaluation, Oracle, margin

# The shapes that Square Attack tries. https://arxiv.org/abs/1912.00049, algorithms 2 and 3.
#
# All positions, signs and orientations are drawn for the whole batch and then picked by ``rows``,
# so that an image's draws do not depend on which others are still attacked.


TILES = 5
"""The l2 search starts from a grid of this many squares a side."""

TINY = 1e-12

AHEAD = 32
"""Queries whose random numbers are drawn at once."""


class Draws:
    """The random numbers of a search's queries, ``5 + c`` for each image of the batch.

    They are those that each query would draw by itself. To draw them, and to make positions of
    them, takes as long for one query as for many, and on a small network as long as a pass.

    Args:
        x: Images (n, c, h, w) of the search.
        batch: The size of the batch.
        generator: Of the numbers; nobody else may draw from it.
    """

    def __init__(self, x: Tensor, batch: int, generator: torch.Generator) -> None:
        self._like, self._batch, self._generator = x, batch, generator
        self._numbers, self._next = x.new_empty(0), 0
        self._squares, self._made_for = x.new_empty(0), (-1, x.new_empty(0))

    def numbers(self, rows: Tensor) -> Tensor:
        """Returns the numbers of the next query, for some rows of the batch (n, 5 + c)."""
        if self._next == len(self._numbers):
            shape = (AHEAD, self._batch, 5 + self._like.shape[1])
            drawn = torch.rand(shape, generator=self._generator)
            self._numbers, self._next = drawn.to(self._like), 0
            self._made_for = -1, rows
        self._next += 1
        return self._numbers[self._next - 1][rows]

    def squares(self, rows: Tensor, size: int) -> Tensor:
        """Returns the first pixel of each image's next square, counted channel by channel.

        Returns:
            Pixels (2, n, c, 1): of the images, and of their ``corners``, the one that is drawn.
        """
        if self._next == len(self._numbers):
            self.numbers(rows)
            self._next = 0
        if self._made_for[0] != size or self._made_for[1] is not rows:
            self._squares, self._made_for = self._made(rows, size), (size, rows)
        self._next += 1
        return self._squares[self._next - 1]

    def _made(self, rows: Tensor, size: int) -> Tensor:
        """Returns ``squares`` of all queries whose numbers are drawn, (q, 2, n, c, 1)."""
        c, h, w = self._like.shape[1:]
        u = self._numbers[:, rows]
        top, left = ((u[..., i] * (k - size + 1)).long() for i, k in ((0, h), (2, w)))
        first = (top * w + left)[..., None].expand(*u.shape[:2], c)
        return torch.stack([first, first + (u[..., 5:] >= 0.5) * (c * h * w)], 1)[..., None]


def side(p: float, x: Tensor, budget: Budget) -> int:
    """Returns the side in pixels of a square that covers the share p of images (n, c, h, w).

    In l2 it is odd and at least 3, as the shape inside it has a centre.
    """
    h, w = x.shape[2:]
    size = max(1, round(math.sqrt(p * h * w)))
    if budget.norm == "l2":
        size = max(3, size + 1 - size % 2)
    return min(size, h, w)


def first_guess(
    x: Tensor, rows: Tensor, batch: int, budget: Budget, generator: torch.Generator
) -> Tensor:
    """Returns vertical stripes of +-eps (linf), or a grid of the l2 shape (section 3)."""
    _, c, h, w = x.shape
    if budget.norm == "linf":
        u = _uniform((batch, c, 1, w), x, rows, generator)
        return project(x + _signs(u) * radius(budget, x), x, budget)
    size = max(1, min(h, w) // TILES)
    n_h, n_w = h // size, w // size
    turned = _uniform((batch, 1, n_h, n_w, 1, 1), x, rows, generator) < 0.5
    signs = _signs(_uniform((batch, c, n_h, n_w, 1, 1), x, rows, generator))
    shape = two_humps(size).to(x)
    tiles = torch.where(turned, shape.T, shape) * signs
    grid = tiles.permute(0, 1, 2, 4, 3, 5).reshape(len(x), c, n_h * size, n_w * size)
    top, left = (h - n_h * size) // 2, (w - n_w * size) // 2
    delta = torch.zeros_like(x)
    delta[:, :, top : top + n_h * size, left : left + n_w * size] = grid
    return project(x + delta * (min(budget.eps) / _norm(delta, (1, 2, 3))), x, budget)


def corners(x: Tensor, budget: Budget) -> Tensor:
    """Returns the darkest and the brightest image of each ball around x (n, c, h, w), in linf.

    They are side by side, (n, 2, c, h, w).
    """
    eps = radius(budget, x)
    return torch.stack([project(x - eps, x, budget), project(x + eps, x, budget)], 1)


def next_guess(
    x: Tensor,
    x_adv: Tensor,
    ends: Tensor,
    rows: Tensor,
    budget: Budget,
    size: int,
    draws: Draws,
) -> Tensor:
    """Returns candidates (n, c, h, w) with a square of ``size`` pixels a side changed.

    Args:
        x: Clean images (n, c, h, w).
        x_adv: Candidates at hand, inside the ball.
        ends: The ball's ``corners``; of no use in l2.
        rows: Positions (n,) in the batch.
        budget: The ball.
        size: Of the square.
        draws: Of positions and signs.
    """
    if budget.norm == "linf":
        return _painted(x_adv, ends, draws.squares(rows, size), size)
    n, c, h, w = x.shape
    u = draws.numbers(rows)
    tops, lefts = ((u[:, i : i + 2] * (k - size + 1)).long() for i, k in ((0, h), (2, w)))
    signs = _signs(u[:, 5:]).view(n, c, 1, 1)
    inside = _window(x, tops[:, 0], lefts[:, 0], size)
    delta, other = x_adv - x, _window(x, tops[:, 1], lefts[:, 1], size)
    unused = (min(budget.eps) ** 2 - _norm(delta, (1, 2, 3)) ** 2).clamp(min=0) / c
    available = (_norm(delta * (inside | other), (2, 3)) ** 2 + unused).sqrt()
    span = torch.arange(size, device=x.device)
    window = (
        torch.arange(n, device=x.device).view(-1, 1, 1, 1),
        torch.arange(c, device=x.device).view(1, -1, 1, 1),
        (tops[:, :1] + span).view(n, 1, size, 1),
        (lefts[:, :1] + span).view(n, 1, 1, size),
    )
    shape = two_humps(size).to(x)
    new = torch.where((u[:, 4] < 0.5).view(-1, 1, 1, 1), shape.T, shape) * signs
    patch = delta[window]
    patch = new + patch / _norm(patch, (2, 3))
    delta = torch.where(other, 0, delta)
    delta[window] = patch / _norm(patch, (2, 3)) * available
    return project(x + delta, x, budget)


def _painted(x_adv: Tensor, ends: Tensor, first: Tensor, size: int) -> Tensor:
    """Returns candidates (n, c, h, w) with a square taken from one of the ball's corners.

    Only the square's pixels are looked up: most squares are small, and masks of whole images would
    take longer than a pass of a small network.

    Args:
        x_adv: Candidates at hand.
        ends: As ``corners`` returns them.
        first: As ``Draws.squares`` returns it.
        size: Of the square's side.
    """
    at, source = (first + _pixels(size, *x_adv.shape[1:], x_adv.device)).flatten(2)
    colours = ends.flatten(1).gather(1, source)
    return x_adv.flatten(1).scatter(1, at, colours).view_as(x_adv)


@lru_cache(maxsize=64)
def _pixels(size: int, c: int, h: int, w: int, device: torch.device) -> Tensor:
    """Returns where the pixels of a square lie in images, from its first, (1, c, size * size)."""
    span = torch.arange(size, device=device)
    square = (span[:, None] * w + span).flatten()
    return (torch.arange(c, device=device)[:, None] * (h * w) + square)[None]


def two_humps(size: int) -> Tensor:
    """Returns the l2 shape (size, size): a positive half above a negative one, of norm 1."""
    upper = size // 2
    shape = torch.cat([_hump(upper, size), -_hump(size - upper, size)])
    return shape.div(torch.linalg.vector_norm(shape))


def _hump(rows: int, columns: int) -> Tensor:
    """Returns the paper's eta^(h1, h2) for h1 columns and h2 rows: high in its centre.

    A pixel at distance d from the centre, in the maximum norm, is the sum of ``1 / j ** 2`` from
    ``j = d + 1`` to ``h1 // 2 + 1``.
    """
    reach = columns // 2
    terms = 1 / torch.arange(1, reach + 2).float() ** 2
    by_distance = terms.flip(0).cumsum(0).flip(0)
    from_row = (torch.arange(rows) - rows // 2).abs()
    from_column = (torch.arange(columns) - columns // 2).abs()
    return by_distance[torch.maximum(from_row[:, None], from_column[None])]


def _window(x: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Returns masks (n, 1, h, w) that are true in squares with the given corners (n,)."""
    row = torch.arange(x.shape[2], device=x.device).view(1, -1) - top[:, None]
    column = torch.arange(x.shape[3], device=x.device).view(1, -1) - left[:, None]
    in_rows, in_columns = (row >= 0) & (row < size), (column >= 0) & (column < size)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def _norm(delta: Tensor, dims: tuple[int, ...]) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(delta, dim=dims, keepdim=True)
    return length.clamp(min=TINY)


def _signs(u: Tensor) -> Tensor:
    return torch.where(u < 0.5, -1.0, 1.0)


def _uniform(shape: tuple[int, ...], x: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator).to(x)[rows]


HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
"""After how many of 10,000 iterations the share p of changed pixels is halved (section 4)."""

REFRESH_STOCHASTIC, REFRESH_COUPLED = 10, 2
"""One query in so many measures the candidates at hand again. On a stochastic model the luckiest
measurement would otherwise stay and block the search; where images share statistics, changes of
several images that were an improvement each must be measured together."""


def share(iteration: int, n_queries: int, p_init: float) -> float:
    """Returns the share p of an image's pixels that an iteration (from 0) changes."""
    scaled = iteration * 10_000 / n_queries
    return p_init * 0.5 ** sum(scaled > mark for mark in HALVINGS)


def random_search(
    oracle: Oracle,
    images: Images,
    budget: Budget,
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
        oracle: What is attacked.
        images: The images.
        budget: The ball.
        n_queries: Queries per image at most.
        p_init: Share of pixels changed at first.
        generator: Of all randomness; drawn for the whole batch, whoever is left.
    """
    found, batches = Found.nothing(images.x), Best(images.x, oracle.coupled)
    search, draws = _Search.begin(images, budget), Draws(images.x, oracle.batch, generator)
    for query in range(n_queries):
        if query == 0:
            candidates = images.x
        elif search.refreshes(oracle, query):
            candidates = search.x_adv
        else:
            candidates = search.propose(oracle, budget, generator, draws, query, n_queries, p_init)
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
        images: What is attacked.
        lane: Places (n,) in the result.
        x_adv: The candidates at hand; from the first guess on its own, and written into.
        loss: Their margin, over all measurements of them.
        correct: Fraction of draws right, likewise.
        measured: Queries about them.
        ends: The balls' corners (n, 2, c, h, w), in linf.
    """

    images: Images
    lane: Tensor
    x_adv: Tensor
    loss: Tensor
    correct: Tensor
    measured: Tensor
    ends: Tensor

    @staticmethod
    def begin(images: Images, budget: Budget) -> _Search:
        none = torch.zeros(len(images), device=images.x.device)
        lane = torch.arange(len(images), device=images.x.device)
        ends = corners(images.x, budget) if budget.norm == "linf" else images.x
        return _Search(images, lane, images.x, none, none + 1, none, ends)

    @staticmethod
    def refreshes(oracle: Oracle, query: int) -> bool:
        """Says whether a query measures the candidates at hand again."""
        if oracle.mean_field and not oracle.coupled:
            return False  # it would only repeat itself
        every = REFRESH_COUPLED if oracle.coupled else REFRESH_STOCHASTIC
        return not decides(oracle) and query > 1 and query % every == 1

    def propose(
        self,
        oracle: Oracle,
        budget: Budget,
        generator: torch.Generator,
        draws: Draws,
        query: int,
        n_queries: int,
        p_init: float,
    ) -> Tensor:
        """Returns the first guess, or the candidates at hand with a square changed."""
        x, rows = self.images.x, self.images.rows
        if query == 1:
            return first_guess(x, rows, oracle.batch, budget, generator)
        size = side(share(query - 2, n_queries, p_init), x, budget)
        return next_guess(x, self.x_adv, self.ends, rows, budget, size, draws)

    def take(self, oracle: Oracle, candidates: Tensor, answer: Evaluation, query: int) -> None:
        """Replaces candidates at hand by better ones, or measures them better."""
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
        """Copies the candidates at hand into the result."""
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
        elif oracle.access.stochastic:
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
