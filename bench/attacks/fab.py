"""FAB, targeted: the closest point across the boundary to each of the likeliest wrong classes.

https://arxiv.org/abs/1907.02044, targeted as in https://arxiv.org/abs/2003.01690. The search is
``bench.attacks.search.boundary``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.attacks.apgd import N_TARGETS
from bench.attacks.base import Attack, Budget
from bench.attacks.params import Count
from bench.core.spec import Number, Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle


class FABParams(Spec):
    """Parameters of FAB.

    Attributes:
        n_iter: Steps at each target.
        n_restarts: Runs at each target: the first from the clean image, others from points within
            half of eps.
        n_target_classes: Targets: the wrong classes with the highest logits on the clean image,
            all of them if there are fewer.
        alpha_max: Largest weight of the step from the clean image, against that from the iterate.
        eta: How far beyond the linearized boundary a step goes; 1 is onto it.
        beta: Where a broken point is pulled back to, between the clean image (0) and itself (1).
        early_stop: Leaves an image alone once it is broken within eps, where the model is
            deterministic and images are independent; the point is then not the closest.
    """

    n_iter: Count = 100
    n_restarts: Count = 1
    n_target_classes: Count = N_TARGETS
    alpha_max: Annotated[Number, Field(gt=0, le=1)] = 0.1
    eta: Annotated[Number, Field(ge=1)] = 1.05
    beta: Annotated[Number, Field(gt=0, lt=1)] = 0.9
    early_stop: bool = False


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns the closest broken points (b, c, h, w) within eps; the caller verifies them.

    Where none is within eps the clean image is returned, so it counts as a bounded attack. On a
    stochastic model, or where images share statistics, it is the most harmful point passed within
    eps: the closest one is wrong on half of the draws only.
    """
    import torch

    from bench.attacks.search.boundary import Stride
    from bench.attacks.search.components import fab
    from bench.attacks.search.images import whole_batch

    assert isinstance(params, FABParams)
    return fab(
        oracle,
        whole_batch(x, y),
        budget,
        torch.Generator().manual_seed(seed),
        n_target_classes=params.n_target_classes,
        stride=Stride(params.n_iter, params.alpha_max, params.eta, params.beta),
        n_restarts=params.n_restarts,
        early_stop=params.early_stop,
    )


def passes(params: Spec) -> float:
    """Returns an upper bound of passes per image of a model of ten classes.

    A step costs two passes, and two more where it crossed the boundary.
    """
    assert isinstance(params, FABParams)
    targets = min(params.n_target_classes, N_TARGETS)
    return 1 + targets * params.n_restarts * (4.0 * params.n_iter + 2)


FAB_T = Attack(
    name="fab_t",
    version=2,
    kind="bounded",
    norms=("linf", "l2"),
    params=FABParams,
    run=run,
    summary="FAB: walks along the boundary to the closest point, at the likeliest wrong classes",
    url="https://arxiv.org/abs/1907.02044",
    passes=passes,
)
