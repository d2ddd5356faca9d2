"""Auto-PGD: projected gradient ascent that sets its own step size.

https://arxiv.org/abs/2003.01690, algorithm 1. The search is ``bench.attacks.search.ascent``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bench.attacks.base import Attack, Budget
from bench.attacks.params import Count
from bench.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle

N_TARGETS = 9
"""The papers' number of target classes."""


class APGDParams(Spec):
    """Parameters of APGD.

    Attributes:
        n_iter: Steps.
        n_restarts: Runs, each from a random start of its own.
        loss: What is climbed: cross-entropy, or difference of logits ratio.
        early_stop: Leaves an image alone once it is broken, where the model is deterministic and
            images are independent. Saves passes; what it finds transfers worse to other models.
    """

    n_iter: Count = 100
    n_restarts: Count = 1
    loss: Literal["ce", "dlr"] = "ce"
    early_stop: bool = False


class APGDTParams(Spec):
    """Parameters of targeted APGD, which climbs the targeted difference of logits ratio.

    Attributes:
        n_iter: Steps at each target.
        n_restarts: Runs at each target.
        n_target_classes: Targets: the wrong classes with the highest logits on the clean image,
            all of them if there are fewer.
        early_stop: As for APGD.
    """

    n_iter: Count = 100
    n_restarts: Count = 1
    n_target_classes: Count = N_TARGETS
    early_stop: bool = False


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns images (b, c, h, w) in ball and box with a high loss; the caller verifies them.

    Of the iterates it keeps the one that is wrong on the most draws, then the one with the highest
    loss; on a stochastic model it chooses on fresh draws. Where images share statistics, the batch
    climbs its mean loss, and whole batches are kept.
    """
    import torch

    from bench.attacks.search.components import apgd
    from bench.attacks.search.images import whole_batch

    assert isinstance(params, APGDParams | APGDTParams)
    arguments = {"loss": "dlr"} | params.model_dump()
    generator = torch.Generator().manual_seed(seed)
    return apgd(oracle, whole_batch(x, y), budget, generator, **arguments)


def passes(params: Spec) -> float:
    """Returns the passes per image of a model of ten classes."""
    assert isinstance(params, APGDParams | APGDTParams)
    climb = params.n_restarts * (2.0 * params.n_iter + 1)
    if isinstance(params, APGDParams):
        return climb
    return 1 + min(params.n_target_classes, N_TARGETS) * climb


APGD = Attack(
    name="apgd",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=APGDParams,
    run=run,
    summary="Auto-PGD: gradient ascent with momentum that halves its step where it stalls",
    url="https://arxiv.org/abs/2003.01690",
    passes=passes,
)
APGD_T = Attack(
    name="apgd_t",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=APGDTParams,
    run=run,
    summary="Auto-PGD toward each of the likeliest wrong classes",
    url="https://arxiv.org/abs/2003.01690",
    passes=passes,
)
