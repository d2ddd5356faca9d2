"""The shapes that Square Attack tries. https://arxiv.org/abs/1912.00049, algorithms 2 and 3.

All positions, signs and orientations are drawn for the whole batch and then picked by ``rows``, so
that an image's draws do not depend on which others are still attacked.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from bench.attacks.ball import Ball
from bench.core.errors import UserError

TILES = 5
"""A search with humps starts from a grid of this many squares a side."""

TINY = 1e-12

AHEAD = 32
"""Queries whose random numbers are drawn at once."""


class Draws:
    """The random numbers of a search's queries, ``5 + c`` for each image of the batch.

    They equal those that each query would draw by itself. Drawing them, and turning them into
    positions, takes as long for one query as for many, and on a small network as long as a pass.

    Args:
        x: Images (n, c, h, w) of the search.
        batch: The size of the batch.
        generator: Source of the numbers; nothing else may draw from it.
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
            Pixels (2, n, c, 1): of the images, and of the one of ``LinfShapes.ends`` that is
            drawn.
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


class Shapes(ABC):
    """What the search tries in one norm: a first guess, and squares that change it.

    Args:
        ball: The ball.
    """

    def __init__(self, ball: Ball) -> None:
        self.ball = ball

    def side(self, p: float, x: Tensor) -> int:
        """Returns the side in pixels of a square that covers the share p of images (n, c, h, w)."""
        h, w = x.shape[2:]
        return min(max(1, round(math.sqrt(p * h * w))), h, w)

    def ends(self, x: Tensor) -> Tensor:
        """Returns data of the clean images (n, ...) that ``next_guess`` needs, computed once."""
        return x

    @abstractmethod
    def first_guess(
        self, x: Tensor, rows: Tensor, batch: int, generator: torch.Generator
    ) -> Tensor:
        """Returns the first candidates (n, c, h, w), on the ball's surface (section 3)."""

    @abstractmethod
    def next_guess(
        self, x: Tensor, x_adv: Tensor, ends: Tensor, rows: Tensor, size: int, draws: Draws
    ) -> Tensor:
        """Returns candidates (n, c, h, w) with a square of ``size`` pixels a side changed.

        Args:
            x: Clean images (n, c, h, w).
            x_adv: Current candidates, inside the ball.
            ends: As ``ends`` returns it.
            rows: Positions (n,) in the batch.
            size: Side of the square.
            draws: Random positions and signs.
        """


class LinfShapes(Shapes):
    """Squares that take every channel to one end of the ball (algorithm 2)."""

    def ends(self, x: Tensor) -> Tensor:
        """Returns the darkest and the brightest image of each ball, side by side: (n, 2, ...)."""
        eps = self.ball.radius(x)
        return torch.stack([self.ball.project(x - eps, x), self.ball.project(x + eps, x)], 1)

    def first_guess(
        self, x: Tensor, rows: Tensor, batch: int, generator: torch.Generator
    ) -> Tensor:
        """Returns vertical stripes of +-eps."""
        _, c, _, w = x.shape
        u = _uniform((batch, c, 1, w), x, rows, generator)
        return self.ball.project(x + _signs(u) * self.ball.radius(x), x)

    def next_guess(
        self, x: Tensor, x_adv: Tensor, ends: Tensor, rows: Tensor, size: int, draws: Draws
    ) -> Tensor:
        """Returns candidates with a square taken from one of the ``ends``."""
        return _painted(x_adv, ends, draws.squares(rows, size), size)


class L2Shapes(Shapes):
    """Squares with a positive and a negative half, which move mass between places (algorithm 3)."""

    steepness: ClassVar[int] = 2
    """How fast a half falls off from its centre: the exponent of ``_hump``."""

    def __init__(self, ball: Ball) -> None:
        super().__init__(ball)
        self._order, self._eps = ball.facts.order, ball.step_radius

    def side(self, p: float, x: Tensor) -> int:
        """Returns an odd side of at least 3, because the shape inside has a centre."""
        h, w = x.shape[2:]
        size = max(1, round(math.sqrt(p * h * w)))
        return min(max(3, size + 1 - size % 2), h, w)

    def first_guess(
        self, x: Tensor, rows: Tensor, batch: int, generator: torch.Generator
    ) -> Tensor:
        """Returns a grid of the shape."""
        _, c, h, w = x.shape
        size = max(1, min(h, w) // TILES)
        n_h, n_w = h // size, w // size
        turned = _uniform((batch, 1, n_h, n_w, 1, 1), x, rows, generator) < 0.5
        signs = _signs(_uniform((batch, c, n_h, n_w, 1, 1), x, rows, generator))
        shape = two_humps(size, self._order, self.steepness).to(x)
        tiles = torch.where(turned, shape.T, shape) * signs
        grid = tiles.permute(0, 1, 2, 4, 3, 5).reshape(len(x), c, n_h * size, n_w * size)
        top, left = (h - n_h * size) // 2, (w - n_w * size) // 2
        delta = torch.zeros_like(x)
        delta[:, :, top : top + n_h * size, left : left + n_w * size] = grid
        return self.ball.project(x + self._grown(delta), x)

    def next_guess(
        self, x: Tensor, x_adv: Tensor, ends: Tensor, rows: Tensor, size: int, draws: Draws
    ) -> Tensor:
        """Returns candidates with the mass of one square moved into another."""
        n, c, h, w = x.shape
        u = draws.numbers(rows)
        tops, lefts = ((u[:, i : i + 2] * (k - size + 1)).long() for i, k in ((0, h), (2, w)))
        signs = _signs(u[:, 5:]).view(n, c, 1, 1)
        inside = _window(x, tops[:, 0], lefts[:, 0], size)
        delta, other = x_adv - x, _window(x, tops[:, 1], lefts[:, 1], size)
        p = self._order
        unused = (self._eps**p - self._length(delta, (1, 2, 3)) ** p).clamp(min=0) / c
        available = (self._length(delta * (inside | other), (2, 3)) ** p + unused) ** (1 / p)
        span = torch.arange(size, device=x.device)
        window = (
            torch.arange(n, device=x.device).view(-1, 1, 1, 1),
            torch.arange(c, device=x.device).view(1, -1, 1, 1),
            (tops[:, :1] + span).view(n, 1, size, 1),
            (lefts[:, :1] + span).view(n, 1, 1, size),
        )
        shape = two_humps(size, self._order, self.steepness).to(x)
        new = torch.where((u[:, 4] < 0.5).view(-1, 1, 1, 1), shape.T, shape) * signs
        patch = delta[window]
        patch = new + patch / self._length(patch, (2, 3))
        delta = torch.where(other, 0, delta)
        delta[window] = patch / self._length(patch, (2, 3)) * self._played(available, c)
        return self.ball.project(x + delta, x)

    def _grown(self, delta: Tensor) -> Tensor:
        """Returns a first guess (n, c, h, w) that reaches the surface."""
        return delta * (self._eps / self._length(delta, (1, 2, 3)))

    def _played(self, available: Tensor, channels: int) -> Tensor:
        """Returns the length that a new square of a channel takes, from what is available to it."""
        return available

    def _length(self, delta: Tensor, dims: tuple[int, ...]) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(delta, self._order, dim=dims, keepdim=True)
        return length.clamp(min=TINY)


class L1Shapes(L2Shapes):
    """The same squares, steeper, as few pixels of them are left by the projection onto the ball.

    More is asked for than the ball holds: the projection then keeps the largest pixels.
    Source: AutoAttack in l1, https://arxiv.org/abs/2103.01208, section 5.
    """

    steepness = 4

    def _grown(self, delta: Tensor) -> Tensor:
        return delta * (self._eps / self._length(delta, (1, 2, 3))).clamp(min=1)

    def _played(self, available: Tensor, channels: int) -> Tensor:
        return available * channels


_SHAPES: dict[str, type[Shapes]] = {"linf": LinfShapes, "l2": L2Shapes, "l1": L1Shapes}


def shapes_in(ball: Ball) -> Shapes:
    """Returns the shapes for a ball.

    Raises:
        UserError: When Square Attack is not defined in its norm.
    """
    if ball.norm not in _SHAPES:
        known = ", ".join(_SHAPES)
        raise UserError(f"Square Attack is written for {known}, found norm '{ball.norm}'")
    return _SHAPES[ball.norm](ball)


def _painted(x_adv: Tensor, ends: Tensor, first: Tensor, size: int) -> Tensor:
    """Returns candidates (n, c, h, w) with a square taken from one of the ball's corners.

    Only the square's pixels are looked up: most squares are small, and masks of whole images would
    take longer than a pass of a small network.

    Args:
        x_adv: Current candidates.
        ends: As ``LinfShapes.ends`` returns them.
        first: As ``Draws.squares`` returns it.
        size: Side of the square.
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


def two_humps(size: int, order: float, steepness: int) -> Tensor:
    """Returns the shape (size, size): a positive half above a negative one, of length 1.

    Args:
        size: Its side in pixels.
        order: The exponent of the norm that measures its length.
        steepness: As ``_hump`` takes it.
    """
    upper = size // 2
    shape = torch.cat([_hump(upper, size, steepness), -_hump(size - upper, size, steepness)])
    return shape.div(torch.linalg.vector_norm(shape, order))


def _hump(rows: int, columns: int, steepness: int) -> Tensor:
    """Returns the paper's eta^(h1, h2) for h1 columns and h2 rows: high in its centre.

    A pixel at distance d from the centre, in the maximum norm, is the sum of
    ``1 / j ** steepness`` from ``j = d + 1`` to ``h1 // 2 + 1``.
    """
    reach = columns // 2
    terms = 1 / torch.arange(1, reach + 2).float() ** steepness
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


def _signs(u: Tensor) -> Tensor:
    return torch.where(u < 0.5, -1.0, 1.0)


def _uniform(shape: tuple[int, ...], x: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator).to(x)[rows]
