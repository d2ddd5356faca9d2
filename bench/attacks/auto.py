"""A budgeted attack of this project's own: ascent where it still pays, on each image.

It is reported beside AutoAttack, whose verdicts it aims at for a fraction of the passes, and never
under its name. The idea of adaptive starts and of leaving hard images alone is that of Adaptive
Auto Attack, https://arxiv.org/abs/2203.05154; what is done differently was measured to pay:

- Every image begins with a short ascent of the plain margin from the clean image and a second from
  an output-diversified start. Both cost 69 passes, and break most of what can be broken.
- Later rounds climb, from other diversified starts, the margin and the cross-entropy; and, from the
  clean image, the margins of the classes whose linearized boundaries are nearest to what was found.
- The share of the budget that an image gets depends on its own margins alone: all of it where
  little is missing, a few rounds where the margin has hardly moved. Its neighbours do not matter.
- A short random search shows whether gradients are masked: where it comes much further than
  ascent did, the rest of the budget goes to random search, and the log says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.attacks.ball import ball_of
from bench.attacks.base import Budget
from bench.attacks.declared_search import AutoParams
from bench.attacks.search.lanes import Found, Lanes, decides, measured, pooled, whole_batch
from bench.attacks.search.rounds import Round, Rounds
from bench.oracle import Oracle

_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())

CAUTION = 2.0
"""An image is worth ``1 / (1 + CAUTION * need / gain)`` of the budget, where gain is how far its
margin has come so far, and need how far it still has to go."""

PROBE = 25
"""Queries of the random search that shows whether gradients lead anywhere."""

MISLED = 2.0
"""So many times further than the first ascent must a random search come, and further than any, to
speak against gradients. On adversarially trained networks it comes further, by up to a third, on
one image in a hundred."""

NEAR = 0.1
"""Below this ratio of need to gain, small steps from the best candidate are worth their passes."""

TINY = 1e-12


def auto(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: AutoParams, seed: int
) -> Tensor:
    """Returns the most harmful candidates found (b, c, h, w); the caller verifies them.

    An image is settled once every draw of its best candidate is wrong; on a stochastic model
    candidates are measured on at least 20 fresh draws. Where images share statistics, nothing is
    left out of a batch, and the batch as a whole is given passes as long as they may pay.
    """
    rounds = Rounds(oracle, ball_of(budget), params.n_target_classes)
    search = _Search.begin(oracle, whole_batch(x, y), params.n_passes, seed)
    first, second = rounds.opening()
    search.play(first, search.left(first), search.generator())
    from_clean = search.gain()  # with no help from a random start
    search.play(second, search.left(second), search.generator())
    _probe_gradients(search, rounds, from_clean)
    restarts, cheapest, polish = rounds.restarts(), rounds.cheapest(), rounds.polish()
    while bool(search.left(cheapest, reserve=polish.cost, promising=True).any()):
        one = next(restarts)
        left = search.left(one, reserve=polish.cost, promising=True)
        search.play(one, left, search.generator())
    search.play(polish, search.left(polish, near=True), search.generator())
    return search.best.x_adv


def _probe_gradients(search: _Search, rounds: Rounds, from_clean: Tensor) -> None:
    """Gives the budget of images whose gradients lead nowhere to random search.

    That is where a short random search comes much further than the ascent from the clean image,
    which raised margins by ``from_clean`` (b,), and further than any.
    """
    probe = rounds.squares(PROBE)
    left, climbed = search.left(probe), search.gain()
    found = search.play(probe, left, search.generator())
    generator = search.generator()  # drawn in any case: later rounds must not depend on it
    gained = search.blurred(found - search.clean)
    masked = (
        left & (gained > MISLED * search.blurred(from_clean)) & (gained > search.blurred(climbed))
    )
    if not bool(masked.any()):
        return
    n_queries = search.n_passes - int(search.spent[masked].max()) - 1
    _LOGGER.warning(
        "auto: gradients look masked on %d of %d images: %d random queries came further than "
        "ascent did; what is left of their budget, %d queries, goes to random search",
        int(masked.sum()),
        len(masked),
        PROBE,
        max(n_queries, 0),
    )
    if n_queries > 0:
        search.play(rounds.squares(n_queries), masked, generator)


@dataclass
class _Search:
    """The state of the search for each of the b images of the batch.

    Attributes:
        oracle: The oracle of the attacked model.
        images: The whole batch.
        n_passes: Passes that an image may cost.
        seeds: Source of the rounds' seeds.
        best: The most harmful candidates.
        clean: Margins of the clean images.
        margin: Margins of the best candidates.
        spent: Passes spent on each image.
    """

    oracle: Oracle
    images: Lanes
    n_passes: int
    seeds: torch.Generator
    best: Found
    clean: Tensor
    margin: Tensor
    spent: Tensor

    @staticmethod
    def begin(oracle: Oracle, images: Lanes, n_passes: int, seed: int) -> _Search:
        seeds = torch.Generator().manual_seed(seed)
        best, clean = measured(oracle, images, images.x.clone())
        return _Search(
            oracle, images, n_passes, seeds, best, clean, clean.clone(), torch.ones_like(clean)
        )

    def gain(self) -> Tensor:
        """Returns how far the margin has come (b,)."""
        return self.margin - self.clean

    def blurred(self, values: Tensor) -> Tensor:
        """Returns values (b,), or their mean where those of one image prove little."""
        return values if decides(self.oracle) else values.mean().expand_as(values)

    def left(
        self, one: Round, *, reserve: int = 0, promising: bool = False, near: bool = False
    ) -> Tensor:
        """Says (b,) which images take part in a round.

        Args:
            one: The round.
            reserve: Passes that must remain after it.
            promising: Whether to leave out images whose chance is not worth further passes.
            near: Whether to leave out images that are far from broken.
        """
        open_ = self.best.correct > 0
        if self.oracle.coupled:
            open_ = open_.any().expand_as(open_)
        need = pooled(self.oracle, self.margin.neg().clamp(min=0))
        ratio = need / pooled(self.oracle, self.gain()).clamp(min=TINY)
        left = open_ & (self.spent + one.cost + reserve <= self.n_passes)
        if promising:
            left = left & (self.spent * (1 + CAUTION * ratio) < self.n_passes)
        return left & (ratio <= NEAR) if near else left

    def generator(self) -> torch.Generator:
        """Returns the generator of the next round."""
        return torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=self.seeds)))

    def play(self, one: Round, left: Tensor, generator: torch.Generator) -> Tensor:
        """Lets images take part in a round, by mask (b,).

        Returns:
            Margins of the round's candidates (b,); elsewhere those of the clean images.
        """
        margins, places = self.clean.clone(), left.nonzero()[:, 0]
        if not len(places):
            return margins
        some = self.images.pick(places)
        candidates = one.run(some, self.best.x_adv[places], generator)
        found, margins[places] = measured(self.oracle, some, candidates)
        better = self.best.offer(found, places, self.oracle.coupled)
        self.margin[places] = torch.where(better, margins[places], self.margin[places])
        self.spent[places] += one.cost
        return margins
