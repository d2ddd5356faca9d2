"""A budgeted attack of this project's own: ascent where it still pays, on each image.

It is reported beside AutoAttack, whose verdicts it aims at for a fraction of the passes, and never
under its name. The idea of adaptive starts and of leaving hard images alone is that of Adaptive
Auto Attack, https://arxiv.org/abs/2203.05154; what is done differently was measured to pay:

- Every image begins with a short ascent of the plain margin from the clean image and a second from
  an output-diversified start. Both cost 69 passes, and break most of what can be broken.
- Later rounds climb, from other diversified starts, the margin and the cross-entropy; and, from the
  clean image, the margins of the classes whose linearized boundaries are nearest to what was found.
- What an image is given depends on its own margins alone: all of the budget where little is
  missing, a few rounds where the margin has hardly moved. Neighbours in the batch change nothing.
- A short random search shows whether gradients are masked: where it comes much further than
  ascent did, the rest of the budget goes to random search, and the log says so.

The search is ``bench.attacks.search.budgeted``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StrictInt

from bench.attacks.base import Attack, Budget
from bench.attacks.params import Count
from bench.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle


class AutoParams(Spec):
    """Parameters of the budgeted attack.

    Attributes:
        n_passes: Passes per image at most; most images take far fewer. On a stochastic model it
            counts passes of one draw, so that it is multiplied by ``eot_iter``; what confirms a
            search in low precision comes on top.
        n_target_classes: Classes that an image is led to in turn, those with the nearest
            boundaries.
    """

    n_passes: Annotated[StrictInt, Field(ge=50)] = 1800
    n_target_classes: Count = 4


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns the most harmful candidates found (b, c, h, w); the caller verifies them.

    On a stochastic model candidates are measured on at least 20 fresh draws, and an image is
    settled once all are wrong. Where images share statistics, nothing is left out of a batch, and
    the batch as a whole is given passes as long as they may pay.
    """
    from bench.attacks.search.budgeted import in_rounds
    from bench.attacks.search.images import whole_batch

    assert isinstance(params, AutoParams)
    return in_rounds(
        oracle,
        whole_batch(x, y),
        budget,
        n_passes=params.n_passes,
        n_target_classes=params.n_target_classes,
        seed=seed,
    )


def passes(params: Spec) -> float:
    """Returns an upper bound of passes per image; on average it is a fifth or less."""
    assert isinstance(params, AutoParams)
    return float(params.n_passes)


AUTO = Attack(
    name="auto",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=AutoParams,
    run=run,
    summary="This project's own: ascents from many starts, where they still pay, within a budget",
    url="https://arxiv.org/abs/2203.05154",
    passes=passes,
)
