"""Attacks of the torchattacks library, with parameters in our words.

Source: https://github.com/Harry24k/adversarial-attacks-pytorch (torchattacks 3.5). Weaknesses that
are the library's own and are kept as they are:

- CW works in tanh space, where a pixel of exactly 0 or 1 has gradient 0 and never moves. Its loss
  reads a negative logit as 0, so on a model whose logits are all negative it changes nothing. It
  searches no c, and rising losses stop the whole batch at once.
- MIFGSM and its kin divide by the mean absolute gradient: an image whose gradient is once exactly
  0 has a momentum of NaN and stays where it is from then on.
- CW, DeepFool and others call ``backward()``, which also fills the gradients of model parameters
  unless the caller freezes them (``bench.oracle.frozen``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench.attacks.adapters.signatures import Library
from bench.attacks.base import Attack, Budget
from bench.attacks.params import ELSEWHERE, OUR_WORDS, Count, NoParams, NotNegative, Positive
from bench.core.base import Spec
from bench.core.threat import CAPITALS

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle

TORCHATTACKS = Library(
    prefix="torchattacks",
    title="torchattacks",
    distribution="torchattacks",
    install="torchattacks",
    home="https://github.com/Harry24k/adversarial-attacks-pytorch",
    module="torchattacks",
    version=1,
    words=OUR_WORDS,
    radius=frozenset(("eps", "max_epsilon")),
    # Pixle's update_each_iteration takes one image at a time.
    withheld=frozenset((*ELSEWHERE, "verbose", "update_each_iteration")),
)

MINIMUM_NORM = frozenset(
    ("CW", "DeepFool", "EADEN", "EADL1", "JSMA", "OnePixel", "Pixle", "SparseFool")
)
"""Classes that know no eps. FAB is not one of them: it returns x where it ends beyond eps."""


def run_class(
    name: str, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs a class of the library on images (b, c, h, w) in [0, 1] with labels (b,).

    Raises:
        UserError: When the radius differs between channels and the attack takes one, or when the
            library refuses the parameters.
    """
    import torch

    from bench.attacks.randomness import seeded

    found = getattr(TORCHATTACKS.attacks(name), name)
    eps = None if name in MINIMUM_NORM else budget.radius(f"torchattacks:{name}")
    elsewhere: dict[str, object] = {
        "n_classes": oracle.n_classes,
        "norm": CAPITALS[budget.norm],
        "seed": seed,
        "verbose": False,
    }
    arguments = TORCHATTACKS.arguments(found, params, eps, elsewhere)
    with seeded(seed), torch.enable_grad():
        with TORCHATTACKS.refusing(name, params):
            attack = found(oracle.module(), **arguments)
        x_adv: Tensor = attack(x.contiguous(), y)  # it uses view(), which needs this layout
    return x_adv.detach().to(x.device)


class IterativeParams(Spec):
    """Parameters of BIM.

    Attributes:
        n_iter: Steps.
        alpha: Step size in pixel units; ``None`` keeps the library's ratio to eps, which is 1/4.
    """

    n_iter: Count = 10
    alpha: Positive | None = None


class PGDParams(IterativeParams):
    """Parameters of PGD.

    Attributes:
        random_start: Starts at a uniformly random point of the ball, otherwise at x.
    """

    random_start: bool = True


class MIFGSMParams(IterativeParams):
    """Parameters of MIFGSM.

    Attributes:
        decay: Momentum factor.
    """

    decay: NotNegative = 1.0


class CWParams(Spec):
    """Parameters of CW.

    Attributes:
        c: Weight of the misclassification loss; far below 1 it changes few images.
        kappa: Confidence: margin of logits to reach.
        n_iter: Steps of Adam.
        lr: Its learning rate, in tanh space.
    """

    c: Positive = 1.0
    kappa: NotNegative = 0.0
    n_iter: Count = 50
    lr: Positive = 0.01


class DeepFoolParams(Spec):
    """Parameters of DeepFool.

    Attributes:
        n_iter: Largest number of steps per image.
        overshoot: Share by which each step goes beyond the linearized boundary.
    """

    n_iter: Count = 50
    overshoot: NotNegative = 0.02


def _twice_n_iter(params: Spec) -> float:
    return 2.0 * float(params.model_dump()["n_iter"])


def _deepfool_passes(params: Spec) -> float:
    # One forward and ten backward passes a step for ten classes; it rarely takes ten steps.
    return 11.0 * min(10.0, float(params.model_dump()["n_iter"]))


FGSM = Attack(
    name="torchattacks:FGSM",
    version=1,
    kind="bounded",
    norms=("linf",),
    params=NoParams,
    run=partial(run_class, "FGSM"),
    summary="fast gradient sign method: one step of size eps",
    url="https://arxiv.org/abs/1412.6572",
    library=TORCHATTACKS.distribution,
    passes=lambda params: 2.0,
)
BIM = Attack(
    name="torchattacks:BIM",
    version=1,
    kind="bounded",
    norms=("linf",),
    params=IterativeParams,
    run=partial(run_class, "BIM"),
    summary="basic iterative method: sign steps from x",
    url="https://arxiv.org/abs/1607.02533",
    library=TORCHATTACKS.distribution,
    passes=_twice_n_iter,
)
PGD = Attack(
    name="torchattacks:PGD",
    version=1,
    kind="bounded",
    norms=("linf",),
    params=PGDParams,
    run=partial(run_class, "PGD"),
    summary="projected gradient descent from a random start",
    url="https://arxiv.org/abs/1706.06083",
    library=TORCHATTACKS.distribution,
    passes=_twice_n_iter,
)
MIFGSM = Attack(
    name="torchattacks:MIFGSM",
    version=1,
    kind="bounded",
    norms=("linf",),
    params=MIFGSMParams,
    run=partial(run_class, "MIFGSM"),
    summary="momentum iterative FGSM",
    url="https://arxiv.org/abs/1710.06081",
    library=TORCHATTACKS.distribution,
    passes=_twice_n_iter,
)
CW = Attack(
    name="torchattacks:CW",
    version=1,
    kind="minimum-norm",
    norms=("linf", "l2"),
    params=CWParams,
    run=partial(run_class, "CW"),
    summary="Carlini and Wagner: minimizes the l2 distance for one fixed c",
    url="https://arxiv.org/abs/1608.04644",
    library=TORCHATTACKS.distribution,
    passes=_twice_n_iter,
)
DEEPFOOL = Attack(
    name="torchattacks:DeepFool",
    version=1,
    kind="minimum-norm",
    norms=("linf", "l2"),
    params=DeepFoolParams,
    run=partial(run_class, "DeepFool"),
    summary="DeepFool: steps to the nearest linearized boundary in l2, image by image",
    url="https://arxiv.org/abs/1511.04599",
    library=TORCHATTACKS.distribution,
    keeps_batch=False,
    passes=_deepfool_passes,
)
