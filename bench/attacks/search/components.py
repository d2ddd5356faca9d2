"""The parts of AutoAttack, each on any of a batch's images.

Source: https://arxiv.org/abs/2003.01690.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.attacks.base import Budget
from bench.attacks.search.ascent import ascend
from bench.attacks.search.boundary import Stride, walk
from bench.attacks.search.images import (
    Images,
    appraise,
    search_all,
    starts,
    top_targets,
    whole_batch,
)
from bench.attacks.search.squares import random_search
from bench.oracle import LOSSES, Oracle

_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())


def apgd(
    oracle: Oracle,
    images: Images,
    budget: Budget,
    generator: torch.Generator,
    *,
    loss: str,
    n_target_classes: int | None = None,
    n_iter: int,
    n_restarts: int,
    early_stop: bool,
) -> Tensor:
    """Returns what Auto-PGD finds (n, c, h, w); without ``n_target_classes`` it is untargeted."""
    needed = 3 if n_target_classes is None else 4
    if loss == "dlr" and oracle.n_classes < needed:
        _LOGGER.warning(
            "apgd: its dlr loss needs %d classes, the model has %d; the margin of logits is "
            "climbed instead",
            needed,
            oracle.n_classes,
        )
    return search_all(
        oracle,
        images,
        lambda lanes, start: ascend(
            oracle, lanes, start, LOSSES[loss], budget, n_iter=n_iter, early_stop=early_stop
        ),
        lambda restart: starts(oracle, images, budget, generator),
        targets=_targets(oracle, images, n_target_classes),
        n_restarts=n_restarts,
        early_stop=early_stop,
    )


def fab(
    oracle: Oracle,
    images: Images,
    budget: Budget,
    generator: torch.Generator,
    *,
    n_target_classes: int | None,
    stride: Stride,
    n_restarts: int,
    early_stop: bool,
) -> Tensor:
    """Returns what FAB finds within eps (n, c, h, w), elsewhere the clean image.

    The first run starts from the clean image, others from within half of eps of it.
    """
    half = Budget(budget.norm, tuple(eps / 2 for eps in budget.eps))
    return search_all(
        oracle,
        images,
        lambda lanes, start: walk(oracle, lanes, start, budget, stride, early_stop=early_stop),
        lambda restart: starts(oracle, images, half, generator) if restart else images.x,
        targets=_targets(oracle, images, n_target_classes),
        n_restarts=n_restarts,
        early_stop=early_stop,
    )


def square(
    oracle: Oracle,
    images: Images,
    budget: Budget,
    generator: torch.Generator,
    *,
    n_queries: int,
    p_init: float,
) -> Tensor:
    """Returns what Square Attack finds (n, c, h, w)."""
    found = random_search(
        oracle, images, budget, n_queries=n_queries, p_init=p_init, generator=generator
    )
    return found.x_adv


def _targets(oracle: Oracle, images: Images, n_target_classes: int | None) -> Tensor | None:
    if n_target_classes is None:
        return None
    if n_target_classes > oracle.n_classes - 1:
        _LOGGER.warning(
            "%d target classes were asked for, the model has %d classes; it is attacked toward "
            "each of the %d wrong ones",
            n_target_classes,
            oracle.n_classes,
            oracle.n_classes - 1,
        )
    return top_targets(oracle, images, n_target_classes)


Part = Callable[[Images, torch.Generator], Tensor]
"""Returns candidates (n, c, h, w) for the images it is given."""


def in_a_row(oracle: Oracle, x: Tensor, y: Tensor, parts: Sequence[Part], seed: int) -> Tensor:
    """Returns for each image the most harmful candidate (b, c, h, w) of all parts, or x itself.

    That is the one with the fewest draws right, then the one with the highest margin, measured on
    draws that no part has seen. A part runs on the images of which any such draw is right; on a
    deterministic model those are the unbroken ones. Where images share statistics, each part runs
    on the whole batch, and the best whole batch is returned.
    """
    images = whole_batch(x, y)
    best = appraise(oracle, images, x.clone())
    seeds = torch.Generator().manual_seed(seed)
    for part in parts:
        generator = torch.Generator()
        generator.manual_seed(int(torch.randint(2**31, (), generator=seeds)))
        left = (best.correct > 0).nonzero()[:, 0]
        if not len(left):
            break
        left = images.rows if oracle.coupled else left
        some = images.pick(left)
        best.offer(appraise(oracle, some, part(some, generator)), left, oracle.coupled)
    return best.x_adv
