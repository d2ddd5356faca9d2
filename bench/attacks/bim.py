"""BIM: FGSM in small steps, from x.

Source: Kurakin, Goodfellow & Bengio 2017, section 2.2, https://arxiv.org/abs/1607.02533. It is PGD
without the random start, and returns the last iterate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.attacks import pgd
from bench.attacks.base import Attack, Budget
from bench.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns images (b, c, h, w) in ball and box; the caller verifies them. Nothing is random."""
    from bench.oracle import cross_entropy

    assert isinstance(params, pgd.StepParams)
    return pgd.climb(oracle, x, y, budget, params, loss=cross_entropy, start=x, trail=("bim",))


def passes(params: Spec) -> float:
    """Returns the passes per image."""
    assert isinstance(params, pgd.StepParams)
    return 2.0 * params.n_iter


BIM = Attack(
    name="bim",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=pgd.StepParams,
    run=run,
    summary="basic iterative method: small steps from x",
    url="https://arxiv.org/abs/1607.02533",
    passes=passes,
    extends=True,
)
