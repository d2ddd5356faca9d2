"""Square Attack: random search over square patches.

https://arxiv.org/abs/1912.00049. The search is ``bench.attacks.search.squares``. It asks for no
gradient, so what hides gradients does not stop it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.attacks.base import Attack, Budget
from bench.attacks.params import Count
from bench.core.spec import Number, Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle


class SquareParams(Spec):
    """Parameters of Square Attack.

    Attributes:
        n_queries: Queries per image at most, of ``eot_iter`` draws each on a stochastic model.
        p_init: Share of the pixels that is changed at first; it is halved on the way.
    """

    n_queries: Count = 5000
    p_init: Annotated[Number, Field(gt=0, le=1)] = 0.8


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns images (b, c, h, w) in ball and box with a high margin; the caller verifies them."""
    import torch

    from bench.attacks.search.components import square
    from bench.attacks.search.images import whole_batch

    assert isinstance(params, SquareParams)
    generator = torch.Generator().manual_seed(seed)
    return square(oracle, whole_batch(x, y), budget, generator, **params.model_dump())


def passes(params: Spec) -> float:
    """Returns the passes per image that is never broken."""
    assert isinstance(params, SquareParams)
    return float(params.n_queries)


SQUARE = Attack(
    name="square",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=SquareParams,
    run=run,
    summary="Square Attack: random search over square patches, without gradients",
    url="https://arxiv.org/abs/1912.00049",
    passes=passes,
)
