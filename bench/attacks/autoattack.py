"""APGD, FAB and Square, and AutoAttack, which runs them in a row.

Sources: APGD and AutoAttack, https://arxiv.org/abs/2003.01690, algorithm 1 and section 5; FAB,
https://arxiv.org/abs/1907.02044, targeted as in the former; Square Attack,
https://arxiv.org/abs/1912.00049. The searches are in ``bench.attacks.search``; they are this
project's own, and aware of draws and of batches. The authors' package is ``pyautoattack``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from bench.attacks.ball import Ball, ball_of
from bench.attacks.base import Budget
from bench.attacks.declared_search import (
    APGDParams,
    APGDTParams,
    AutoAttackParams,
    Component,
    FABParams,
    SquareParams,
)
from bench.attacks.search.ascent import ascend_inward
from bench.attacks.search.boundary import Stride, walk
from bench.attacks.search.lanes import (
    Lanes,
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
    x: Tensor,
    y: Tensor,
    budget: Budget,
    params: APGDParams | APGDTParams,
    seed: int,
) -> Tensor:
    """Returns images (b, c, h, w) in ball and box with a high loss; the caller verifies them.

    Of the iterates it keeps the one that is wrong on the most draws, then the one with the highest
    loss; on a stochastic model it chooses on fresh draws. Where images share statistics, the batch
    climbs its mean loss, and whole batches are kept.
    """
    return _apgd(
        oracle,
        whole_batch(x, y),
        ball_of(budget),
        torch.Generator().manual_seed(seed),
        loss="dlr" if isinstance(params, APGDTParams) else params.loss,
        n_target_classes=params.n_target_classes if isinstance(params, APGDTParams) else None,
        n_iter=params.n_iter,
        n_restarts=params.n_restarts,
        early_stop=params.early_stop,
    )


def fab_t(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: FABParams, seed: int
) -> Tensor:
    """Returns the closest broken points (b, c, h, w) within eps; the caller verifies them.

    Where none is within eps the clean image is returned, so it counts as a bounded attack. On a
    stochastic model, or where images share statistics, it is the most harmful point passed within
    eps: the closest one is wrong on half of the draws only.
    """
    return _fab(
        oracle,
        whole_batch(x, y),
        ball_of(budget),
        torch.Generator().manual_seed(seed),
        n_target_classes=params.n_target_classes,
        stride=Stride(params.n_iter, params.alpha_max, params.eta, params.beta),
        n_restarts=params.n_restarts,
        early_stop=params.early_stop,
    )


def square(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: SquareParams, seed: int
) -> Tensor:
    """Returns images (b, c, h, w) in ball and box with a high margin; the caller verifies them.

    It asks for no gradient, so masked gradients do not stop it.
    """
    generator = torch.Generator().manual_seed(seed)
    return _square(oracle, whole_batch(x, y), ball_of(budget), generator, params)


Part = Callable[[Lanes, torch.Generator], Tensor]
"""A component of AutoAttack: returns candidates (n, c, h, w) for the images it is given."""


def autoattack(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: AutoAttackParams, seed: int
) -> Tensor:
    """Returns the most harmful candidates (b, c, h, w) of all components; the caller verifies them.

    That is the one with the fewest draws right, then the one with the highest margin, measured on
    draws that no component has seen (at least 20 on a stochastic model, where no single draw breaks
    an image). A component runs on the images of which any such draw is right. Where images share
    statistics, each component runs on the whole batch, and the best whole batch is returned.
    """
    images, ball = whole_batch(x, y), ball_of(budget)
    best = appraise(oracle, images, x.clone())
    seeds = torch.Generator().manual_seed(seed)
    for name in params.sequence:
        part = _part(name, oracle, ball, params)
        generator = torch.Generator()
        generator.manual_seed(int(torch.randint(2**31, (), generator=seeds)))
        left = (best.correct > 0).nonzero()[:, 0]
        if not len(left):
            break
        left = images.rows if oracle.coupled else left
        some = images.pick(left)
        best.offer(appraise(oracle, some, part(some, generator)), left, oracle.coupled)
    return best.x_adv


def _part(name: Component, oracle: Oracle, ball: Ball, params: AutoAttackParams) -> Part:
    """Returns a component with its parameters."""
    targets = params.n_target_classes if name in ("apgd_t", "fab_t") else None
    restarts = params.restarts if targets is None else 1

    def part(images: Lanes, generator: torch.Generator) -> Tensor:
        if name == "square":
            own = SquareParams(n_queries=params.n_queries)
            return _square(oracle, images, ball, generator, own)
        if name in ("fab", "fab_t"):
            paper = FABParams()
            return _fab(
                oracle,
                images,
                ball,
                generator,
                n_target_classes=targets,
                stride=Stride(params.n_iter, paper.alpha_max, paper.eta, paper.beta),
                n_restarts=restarts,
                early_stop=params.early_stop,
            )
        return _apgd(
            oracle,
            images,
            ball,
            generator,
            loss="ce" if name == "apgd_ce" else "dlr",
            n_target_classes=targets,
            n_iter=params.n_iter,
            n_restarts=restarts,
            early_stop=params.early_stop,
        )

    return part


def _apgd(
    oracle: Oracle,
    images: Lanes,
    ball: Ball,
    generator: torch.Generator,
    *,
    loss: str,
    n_target_classes: int | None,
    n_iter: int,
    n_restarts: int,
    early_stop: bool,
) -> Tensor:
    """Runs Auto-PGD, untargeted without ``n_target_classes``; returns candidates (n, c, h, w)."""
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
        lambda lanes, start: ascend_inward(
            oracle, lanes, start, LOSSES[loss], ball, n_iter=n_iter, early_stop=early_stop
        ),
        lambda restart: starts(oracle, images, ball, generator),
        targets=_targets(oracle, images, n_target_classes),
        n_restarts=n_restarts,
        early_stop=early_stop,
    ).x_adv


def _fab(
    oracle: Oracle,
    images: Lanes,
    ball: Ball,
    generator: torch.Generator,
    *,
    n_target_classes: int | None,
    stride: Stride,
    n_restarts: int,
    early_stop: bool,
) -> Tensor:
    """Runs FAB; returns broken points within eps (n, c, h, w), elsewhere the clean image.

    The first run starts from the clean image, others from within half of eps of it.
    """
    half = ball.scaled(0.5)
    return search_all(
        oracle,
        images,
        lambda lanes, start: walk(oracle, lanes, start, ball, stride, early_stop=early_stop),
        lambda restart: starts(oracle, images, half, generator) if restart else images.x,
        targets=_targets(oracle, images, n_target_classes),
        n_restarts=n_restarts,
        early_stop=early_stop,
    ).x_adv


def _square(
    oracle: Oracle, images: Lanes, ball: Ball, generator: torch.Generator, params: SquareParams
) -> Tensor:
    """Runs Square Attack; returns candidates (n, c, h, w)."""
    return random_search(
        oracle,
        images,
        ball,
        n_queries=params.n_queries,
        p_init=params.p_init,
        generator=generator,
    ).x_adv


def _targets(oracle: Oracle, images: Lanes, n_target_classes: int | None) -> Tensor | None:
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
