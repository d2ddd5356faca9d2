"""FGSM: one step of size eps along the gradient.

Source: Goodfellow, Shlens & Szegedy 2015, section 4, https://arxiv.org/abs/1412.6572.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.attacks.base import Attack, Budget
from bench.attacks.params import NoParams
from bench.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns images (b, c, h, w) one step from x, clipped to the box; the caller verifies them.

    The step is eps times the sign of the cross-entropy's gradient (linf), or the gradient scaled
    to length eps (l2). Nothing is random.
    """
    from bench.attacks.common import ascent_direction, project, rim
    from bench.oracle import cross_entropy

    grad = oracle.query(x, y, cross_entropy).grad
    assert grad is not None
    return project(x + rim(budget, x) * ascent_direction(grad, budget), x, budget)


FGSM = Attack(
    name="fgsm",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=NoParams,
    run=run,
    summary="fast gradient sign method: one step of size eps",
    url="https://arxiv.org/abs/1412.6572",
    passes=lambda params: 2.0,
)
