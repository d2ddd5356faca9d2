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

import inspect
import re
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from bench.attacks.adapters.signatures import Facts, Library
from bench.attacks.base import Attack, Budget
from bench.attacks.params import ELSEWHERE, OUR_WORDS, Count, NoParams, NotNegative, Positive
from bench.core.errors import UserError
from bench.core.spec import Spec
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


REFUSED = {
    "VANILA": "it returns the clean image; use 'natural'",
    "GN": "it adds Gaussian noise, which neither knows eps nor minimizes a distance",
}
"""Reasons that a constructor's signature does not show."""

# fmt: off
KEEPS_BATCH = frozenset((
    "BIM", "CW", "DIFGSM", "EADEN", "EADL1", "EOTPGD", "FFGSM", "FGSM", "Jitter", "MIFGSM",
    "NIFGSM", "PGD", "PGDL2", "PIFGSM", "PIFGSMPP", "RFGSM", "SINIFGSM", "TIFGSM", "TPGD", "UPGD",
    "VMIFGSM", "VNIFGSM",
))
# fmt: on
"""Classes that were seen to pass the whole batch, in order, in every call."""

THREE_CHANNELS = frozenset(("PIFGSM", "PIFGSMPP", "TIFGSM"))
"""Classes with a convolution kernel for three channels."""

MIN_CLASSES = {"APGDT": 4, "AutoAttack": 4, "JSMA": 10}
"""Classes that index logits that a model of fewer classes does not have."""


def library_names() -> dict[str, str]:
    """Returns every class that the library exports with the reason to refuse it, or ``""``."""
    exported = TORCHATTACKS.exports(inspect.isclass)
    return {name: _refusal(name, found) for name, found in exported.items()}


@cache
def named_attack(name: str) -> Attack:
    """Returns the adapter of one class of the library.

    Raises:
        UserError: When the library is missing, has no such class, or the class cannot serve here.
    """
    found = TORCHATTACKS.find(name, library_names)
    minimum, norms = name in MINIMUM_NORM, _norms(found)
    facts = Facts(
        kind="minimum-norm" if minimum else "bounded",
        norm=norms[0] if len(norms) == 1 else "",
        keeps_batch=name in KEEPS_BATCH,
    )
    attack = TORCHATTACKS.attack(name, found, partial(_run, name), facts)
    # Many count or weigh pixels, and minimize no norm of a threat model.
    return replace(attack, summary=f"{name} of torchattacks ({', '.join(_documented(found))})")


def _documented(found: Any) -> list[str]:
    """Returns the norms that a class's docstring names, for example ``["Linf", "L2"]``."""
    line = re.search(r"Distance Measure\s*:\s*(.+)", inspect.getdoc(found) or "")
    return re.findall(r"Linf|L\d", line[1]) if line else []


def _norms(found: Any) -> list[str]:
    return [ours for ours, theirs in CAPITALS.items() if theirs in _documented(found)]


def _refusal(name: str, found: Any) -> str:
    """Returns why a class cannot serve, ``""`` when it can."""
    if name in REFUSED:
        return REFUSED[name]
    model, *arguments = inspect.signature(found).parameters.values()
    if model.name != "model":
        return f"its constructor takes '{model.name}' instead of a model"
    needed = [arg.name for arg in arguments if arg.default is inspect.Parameter.empty]
    if needed:
        return f"its constructor needs '{needed[0]}'"
    if name in MINIMUM_NORM:
        return ""
    if not any(argument.name in TORCHATTACKS.radius for argument in arguments):
        return "its constructor takes no eps, and it is not known to minimize a distance"
    if not _norms(found):
        return "its documentation names neither Linf nor L2 as its distance"
    return ""


def _run(
    name: str, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs the class unless the images or the model do not fit it, which is a ``UserError``."""
    attack = f"attack 'torchattacks:{name}'"
    if name in THREE_CHANNELS and x.shape[1] != 3:
        raise UserError(f"{attack} needs images of 3 channels, found {x.shape[1]}")
    if oracle.n_classes < MIN_CLASSES.get(name, 2):
        needed = f"needs at least {MIN_CLASSES[name]} classes"
        raise UserError(f"{attack} {needed}, the model has {oracle.n_classes}")
    return run_class(name, oracle, x, y, budget, params, seed)
