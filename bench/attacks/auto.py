"""A budgeted attack of this project's own: on each image, the kind of step that pays there.

It is reported beside AutoAttack, whose verdicts it aims at for a fraction of the passes, and never
under its name. The idea of adaptive starts and of leaving hard images alone is that of Adaptive
Auto Attack, https://arxiv.org/abs/2203.05154; what is done differently was measured to pay:

- Every image begins with two short ascents of the plain margin, from the clean image and from an
  output-diversified start. Both cost 69 passes, and break most of what can be broken.
- Images that still stand try every other kind of step once: random search, ascent of a smoothed
  loss, a walk to the boundary from outside. No gradient need be right for all of them.
- Images that are worth more passes try every kind a second time, longer. What is then left of an
  image's budget goes, round by round, to the kind that raised its own margin most for its passes.
- The share of the budget that an image gets depends on its own margins alone: all of it where
  little is missing, a few rounds where the margin has hardly moved. Its neighbours do not matter.
- Where random search comes much further than ascent did, gradients are masked, and the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.attacks.ball import ball_of
from bench.attacks.base import Budget
from bench.attacks.declared_search import AutoParams
from bench.attacks.search.lanes import Found, Lanes, decides, measured, pooled, whole_batch
from bench.attacks.search.rounds import Kind, Round, Rounds
from bench.oracle import Oracle

_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())

CAUTION = 2.0
"""An image is worth ``1 / (1 + CAUTION * need / gain)`` of the budget, where gain is how far its
margin has come so far, and need how far it still has to go."""

MISLED = 2.0
"""So many times further than ascent must random search come to speak against gradients. On
adversarially trained networks it comes further, by up to a third, on one image in a hundred."""

NEAR = 0.1
"""Below this ratio of need to gain, small steps from the best candidate are worth their passes."""

TRIES = 2
"""Rounds of each kind that are played, where an image is worth them, before kinds are compared: the
second walk to the boundary, at all classes, breaks images that the first leaves far off."""

PATIENCE = 2
"""Rounds without a better candidate after which an image of a stochastic model is left alone."""

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
    search = _Search.begin(oracle, whole_batch(x, y), rounds.kinds(), params.n_passes, seed)
    for kind, number in search.trial():
        one = search.kinds[kind].rounds(number)
        search.play(one, kind, number, search.left(one))
    search.warn()
    polish = rounds.polish()
    while search.turn(polish.cost):
        pass
    search.play(polish, 0, -1, search.left(polish, near=True))
    return search.best.x_adv


@dataclass
class _Search:
    """The state of the search for each of the b images of the batch.

    Attributes:
        oracle: The oracle of the attacked model.
        images: The whole batch.
        kinds: The k kinds of step.
        n_passes: Passes that an image may cost.
        seed: Of the attack.
        best: The most harmful candidates.
        clean: Margins of the clean images.
        margin: Margins of the best candidates.
        spent: Passes spent on each image.
        reached: Highest margin that each kind reached (k, b).
        cost: Passes spent on each kind (k, b).
        played: Rounds of each kind (k, b).
        idle: Rounds since the best candidates were last improved (b,).
    """

    oracle: Oracle
    images: Lanes
    kinds: tuple[Kind, ...]
    n_passes: int
    seed: int
    best: Found
    clean: Tensor
    margin: Tensor
    spent: Tensor
    reached: Tensor
    cost: Tensor
    played: Tensor
    idle: Tensor

    @staticmethod
    def begin(
        oracle: Oracle, images: Lanes, kinds: tuple[Kind, ...], n_passes: int, seed: int
    ) -> _Search:
        best, clean = measured(oracle, images, images.x.clone())
        none = torch.zeros(len(kinds), len(images), device=clean.device)
        return _Search(
            oracle,
            images,
            kinds,
            n_passes,
            seed,
            best,
            clean,
            margin=clean.clone(),
            spent=torch.ones_like(clean),
            reached=clean.expand_as(none).clone(),
            cost=none.clone(),
            played=none.long(),
            idle=torch.zeros_like(clean),
        )

    def trial(self) -> Iterator[tuple[int, int]]:
        """Yields kind and number of the rounds that every image takes part in until it is broken.

        Ascents and random searches are played more than once: what one start misses, another finds.
        """
        often = {"ascent": 3, "random search": 2} if decides(self.oracle) else {"ascent": 2}
        for kind, one in enumerate(self.kinds):
            yield from ((kind, number) for number in range(often.get(one.name, 1)))

    def left(
        self, one: Round, *, reserve: int = 0, promising: bool = False, near: bool = False
    ) -> Tensor:
        """Says (b,) which images may take part in a round.

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
        ratio = need / pooled(self.oracle, self.margin - self.clean).clamp(min=TINY)
        left = open_ & (self.spent + one.cost + reserve <= self.n_passes)
        if promising:
            worth = self.n_passes / (1 + CAUTION * ratio)
            left = left & (self.spent + one.cost <= worth)
            if self.oracle.rules.stochastic:  # there even a lost image has draws to lose
                left = left & (pooled(self.oracle, self.idle) < PATIENCE)
        return left & (ratio <= NEAR) if near else left

    def turn(self, reserve: int) -> bool:
        """Plays a round of the best kind for each image; says whether any image took part.

        Args:
            reserve: Passes of each image that must remain.
        """
        gain = (self.reached - self.clean).clamp(min=0)
        if self.oracle.coupled:
            gain = gain.mean(1, keepdim=True).expand_as(gain)
        worth = (gain + TINY).square() / self.cost.clamp(min=1)
        worth = worth.masked_fill(self.played < TRIES, torch.inf)
        wanted: list[tuple[int, int, Round, Tensor]] = []
        for kind, one in enumerate(self.kinds):
            for number in sorted(set(self.played[kind].tolist())):
                round_ = one.rounds(number)
                able = self.left(round_, reserve=reserve, promising=True)
                able = able & (self.played[kind] == number)
                worth[kind] = torch.where((self.played[kind] == number) & ~able, -1.0, worth[kind])
                wanted.append((kind, number, round_, able))
        chosen = worth.argmax(0)
        took = False
        for kind, number, round_, able in wanted:
            now = able & (chosen == kind)
            took = took or bool(now.any())
            self.play(round_, kind, number, now)
        return took

    def play(self, one: Round, kind: int, number: int, left: Tensor) -> None:
        """Lets images take part in a round of a kind, by mask (b,).

        Its random numbers follow from the kind and the round's number alone.
        """
        places = left.nonzero()[:, 0]
        if not len(places):
            return
        generator = torch.Generator().manual_seed((self.seed * 31 + kind) * 997 + number + 1)
        some = self.images.pick(places)
        outcome = one.run(some, self.best.x_adv[places], generator)
        found, margins = measured(self.oracle, some, outcome.x_adv)
        better = self.best.offer(found, places, self.oracle.coupled)
        self.margin[places] = torch.where(better, margins, self.margin[places])
        self.idle[places] = torch.where(better, 0.0, self.idle[places] + 1)
        reached = margins
        if outcome.way is not None:  # as far as the margin would come if it rose evenly on the way
            reached = torch.maximum(margins, self.clean[places] * (1 - outcome.way))
        self.reached[kind, places] = torch.maximum(self.reached[kind, places], reached)
        self.spent[places] += one.cost
        self.cost[kind, places] += one.cost
        self.played[kind, places] += 1

    def warn(self) -> None:
        """Logs on how many images random search has come much further than ascent."""
        names = [kind.name for kind in self.kinds]
        climbed, guessed = (
            self.reached[names.index(name)] - self.clean for name in ("ascent", "random search")
        )
        if not decides(self.oracle):  # those of one image prove little
            climbed, guessed = (gain.mean().expand_as(gain) for gain in (climbed, guessed))
        masked = (self.best.correct > 0) & (guessed > MISLED * climbed)
        if bool(masked.any()):
            _LOGGER.warning(
                "auto: gradients look masked on %d of %d images: a short random search came "
                "further than ascent did",
                int(masked.sum()),
                len(masked),
            )
