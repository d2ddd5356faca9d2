"""Noise: random points on the rim of the ball, the control that asks for no gradient.

A white-box attack that does no better than this one has learnt nothing from the gradients:
Athalye et al. 2018, section 3.1, https://arxiv.org/abs/1802.00420.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.attacks.base import Attack, Budget
from bench.attacks.params import Count
from bench.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.oracle import Oracle


class NoiseParams(Spec):
    """Parameters of noise.

    Attributes:
        n_trials: Random points per image, of which the best is kept: the one that is wrong on the
            most draws, then the one with the highest loss.
    """

    n_trials: Count = 20


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns images (b, c, h, w) in ball and box; the caller verifies them."""
    import torch

    from bench.attacks.common import Best, harm
    from bench.oracle import cross_entropy

    assert isinstance(params, NoiseParams)
    generator = torch.Generator().manual_seed(seed)
    best = Best(x, oracle.coupled)
    for _ in range(params.n_trials):
        x_adv = _on_the_rim(x, budget, generator)
        with oracle.real_draws():  # all that it does is to pick
            best.offer(x_adv, harm(oracle, oracle.query(x_adv, y, cross_entropy, grad=False)))
    return best.x_adv


def _on_the_rim(x: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
    """Returns a random corner of the ball (linf) or point of the sphere (l2), clipped to the box.

    The sign of a Gaussian is a fair coin, its direction uniform.
    """
    import torch

    from bench.attacks.common import ascent_direction, project, rim

    gauss = torch.randn(x.shape, generator=generator).to(x)
    return project(x + rim(budget, x) * ascent_direction(gauss, budget), x, budget)


def passes(params: Spec) -> float:
    """Returns the passes per image."""
    assert isinstance(params, NoiseParams)
    return float(params.n_trials)


NOISE = Attack(
    name="noise",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=NoiseParams,
    run=run,
    summary="random corners of the ball, or points of the sphere: the control",
    url="https://arxiv.org/abs/1802.00420",
    passes=passes,
)
