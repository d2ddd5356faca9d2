"""No attack: the clean image, for the column of clean accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.attacks.base import Attack, Budget
from bench.attacks.params import NoParams
from bench.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns a copy of x (b, c, h, w) without asking the oracle anything."""
    return x.clone()


NATURAL = Attack(
    name="natural",
    version=1,
    kind="none",
    norms=("linf", "l2"),
    params=NoParams,
    run=run,
    summary="the clean image",
    url="",
    passes=lambda params: 0.0,
)
