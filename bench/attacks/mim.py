"""MIM: iterative FGSM with momentum.

Source: Dong et al. 2018, algorithm 1 and equation 10, https://arxiv.org/abs/1710.06081. Where the
paper takes steps of eps / n_iter, the default here is that of the other iterative attacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.attacks import bim, pgd
from bench.attacks.base import Attack, Budget
from bench.attacks.params import NotNegative
from bench.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle


class MIMParams(pgd.StepParams):
    """Parameters of MIM.

    Attributes:
        decay: Momentum factor; 0 is BIM.
    """

    decay: NotNegative = 1.0


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns images (b, c, h, w) in ball and box; the caller verifies them. Nothing is random."""
    import torch

    from bench.oracle import cross_entropy

    assert isinstance(params, MIMParams)

    def follow(grad: Tensor, momentum: Tensor) -> Tensor:
        """Adds the gradient, scaled to l1 norm 1 image by image; a zero gradient adds nothing."""
        size = grad.abs().flatten(1).sum(1).view(-1, 1, 1, 1)
        return params.decay * momentum + grad / torch.where(size > 0, size, 1)

    return pgd.climb(
        oracle,
        x,
        y,
        budget,
        params,
        loss=cross_entropy,
        start=x,
        follow=follow,
        trail=("mim", params.decay),
    )


MIM = Attack(
    name="mim",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=MIMParams,
    run=run,
    summary="momentum iterative method: BIM along a decaying sum of gradients",
    url="https://arxiv.org/abs/1710.06081",
    passes=bim.passes,
    extends=True,
)
