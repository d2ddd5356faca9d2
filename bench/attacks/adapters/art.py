"""Attacks of the Adversarial Robustness Toolbox, their parameters read off the constructors.

Source: https://github.com/Trusted-AI/adversarial-robustness-toolbox (ART 1.20). Its attacks work on
numpy arrays and ask for predictions and gradients of a ``PyTorchClassifier``, which is put around
the oracle's view; the loss is summed over the batch, so that an image's gradient does not depend on
the size of the batch. Kept as they are: many attacks take one image at a time, or pass over images
that are broken (``keeps_batch`` is false for these).
"""

from __future__ import annotations

import importlib.util
import inspect
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

from bench.attacks.adapters.signatures import Library
from bench.attacks.base import Attack, Budget
from bench.core.base import Spec
from bench.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle

BOTH = ("linf", "l2")
ORDER = {"linf": float("inf"), "l2": 2}

ART = Library(
    prefix="art",
    distribution="adversarial-robustness-toolbox",
    module="art.attacks.evasion",
    words={"max_iter": "n_iter", "eps_step": "alpha", "nb_restarts": "n_restarts"},
    withheld=frozenset(
        [
            "adv_criterion",
            "attacker_params",
            "attacks",
            "batch_size",
            "classifier",
            "eps",
            "estimator",
            "estimator_orig",
            "eval_perform",
            "loss",
            "minimal",
            "norm",
            "parallel_pool_size",
            "summary_writer",
            "targeted",
            "verbose",
        ]
    ),
)


@dataclass(frozen=True)
class Facts:
    """What a constructor does not tell.

    Attributes:
        kind: Whether it knows eps.
        norm: The one norm that it minimizes or is bounded in; empty for the threat model's, which
            its constructor takes.
        keeps_batch: Whether it was seen to pass the whole batch, in order, in every call.
        alone: Whether it can only take one image at a time.
    """

    kind: Literal["bounded", "minimum-norm"]
    norm: str = ""
    keeps_batch: bool = False
    alone: bool = False


KNOWN = {
    "AutoAttack": Facts("bounded"),
    "AutoConjugateGradient": Facts("bounded"),
    "AutoProjectedGradientDescent": Facts("bounded"),
    "BasicIterativeMethod": Facts("bounded", "linf", keeps_batch=True),
    "BoundaryAttack": Facts("minimum-norm", "l2"),
    "BrendelBethgeAttack": Facts("minimum-norm"),
    "CarliniL2Method": Facts("minimum-norm", "l2"),
    "CarliniLInfMethod": Facts("minimum-norm", "linf"),
    "DeepFool": Facts("minimum-norm", "l2", keeps_batch=True),
    "FastGradientMethod": Facts("bounded", keeps_batch=True),
    "GeoDA": Facts("minimum-norm"),
    "HopSkipJump": Facts("minimum-norm"),
    "MomentumIterativeMethod": Facts("bounded", keeps_batch=True),
    "NewtonFool": Facts("minimum-norm", "l2", keeps_batch=True),
    "ProjectedGradientDescent": Facts("bounded", keeps_batch=True),
    "ProjectedGradientDescentNumpy": Facts("bounded", keeps_batch=True),
    "ProjectedGradientDescentPyTorch": Facts("bounded", keeps_batch=True),
    "RescalingAutoConjugateGradient": Facts("bounded"),
    "SignOPTAttack": Facts("minimum-norm", "l2"),
    "SquareAttack": Facts("bounded"),
    "UniversalPerturbation": Facts("bounded"),
    "ZooAttack": Facts("minimum-norm", "l2", alone=True),
}

NEEDS = {"AutoAttack": "multiprocess", "BrendelBethgeAttack": "numba"}
"""Packages without which a class is not there or does not run, and which ART does not bring."""

_NOT_BOUND = "no ball of linf or l2 bounds it, and it minimizes neither"
REFUSED = {
    "CarliniL0Method": "it minimizes l0; a threat model is linf or l2",
    "CompositeAdversarialAttackPyTorch": _NOT_BOUND,
    "ElasticNet": "it minimizes l1; a threat model is linf or l2",
    "PixelAttack": "it minimizes l0; a threat model is linf or l2",
    "SaliencyMapMethod": "it minimizes l0; a threat model is linf or l2",
    "ShadowAttack": _NOT_BOUND,
    "SimBA": "it saves queries, and minimizes no distance",
    "SpatialTransformation": _NOT_BOUND,
    "TargetedUniversalPerturbation": "it is for targeted attacks only",
    "ThresholdAttack": "it takes one image at a time, thousands of passes each, by way of cma",
    "VirtualAdversarialMethod": "it needs a classifier that returns probabilities",
    "Wasserstein": _NOT_BOUND,
}
"""Why those that are for classifiers of images cannot serve."""


def library_names() -> dict[str, str]:
    """Returns every class that the library exports with the reason to refuse it, or ``""``."""
    found = {n: c for n, c in vars(ART.attacks("*")).items() if inspect.isclass(c)}
    missing = {
        name: f"it needs {package}: pip install {package}"
        for name, package in NEEDS.items()
        if importlib.util.find_spec(package) is None
    }
    other = "it is not for classifiers of images in memory, or needs more than a model and images"
    unusable = {name: REFUSED.get(name, other) for name in found if name not in KNOWN}
    return dict(sorted({**dict.fromkeys(KNOWN, ""), **unusable, **missing}.items()))


@cache
def named_attack(name: str) -> Attack:
    """Returns the adapter of one class of the library.

    Raises:
        UserError: When the library is missing, has no such class, or the class cannot serve here.
    """
    attacks = ART.attacks(name)
    ART.check_name(name, library_names())
    facts = KNOWN[name]
    bounded = facts.kind == "bounded"
    what = f"{name} of ART, " + ("in" if bounded else "minimizes")
    return Attack(
        name=f"art:{name}",
        version=1,
        kind=facts.kind,
        norms=(facts.norm,) if bounded and facts.norm else BOTH,
        params=ART.params_model(name, getattr(attacks, name)),
        run=partial(_run, name),
        summary=f"{what} {facts.norm or 'the norm of the threat model'}",
        url="https://github.com/Trusted-AI/adversarial-robustness-toolbox",
        library=ART.distribution,
        keeps_batch=facts.keeps_batch,
    )


def _run(
    name: str, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs a class of the library on images (b, c, h, w) in [0, 1] with labels (b,).

    Raises:
        UserError: When the radius differs between channels and the attack takes one, or when the
            library refuses the parameters.
    """
    import torch

    from bench.attacks.randomness import seeded

    found = getattr(ART.attacks(name), name)
    arguments = _arguments(found, len(x), budget, params, name)
    device = torch.cuda.device(x.device) if x.is_cuda else nullcontext()
    with seeded(seed), torch.enable_grad(), device:
        try:
            attack = found(_classifier(oracle, x), **arguments)
        except (TypeError, ValueError) as error:
            raise UserError(f"attack 'art:{name}' refused {params!r}: {error}") from error
        for part in getattr(attack, "attacks", ()):  # AutoAttack's, which draw progress bars
            part.verbose = False
        x_adv = attack.generate(x=x.cpu().numpy(), y=y.cpu().numpy())
    return torch.as_tensor(x_adv).to(x.device, torch.float32)


def _arguments(found: Any, batch: int, budget: Budget, params: Spec, name: str) -> dict[str, Any]:
    """Translates budget and parameters into what the constructor takes."""
    takes = inspect.signature(found).parameters
    arguments = ART.arguments(found, params)
    if KNOWN[name].kind == "bounded":
        eps = budget.radius(f"art:{name}")
        arguments["eps"] = eps
        if "eps_step" in takes and "eps_step" not in arguments:
            arguments["eps_step"] = eps * takes["eps_step"].default / takes["eps"].default
    fixed: dict[str, object] = {
        "attacker_params": {"verbose": False},
        "norm": ORDER[budget.norm],
        "batch_size": 1 if KNOWN[name].alone else batch,
        "targeted": False,
        "verbose": False,
    }
    return {**arguments, **{key: value for key, value in fixed.items() if key in takes}}


def _classifier(oracle: Oracle, batch: Tensor) -> Any:
    """Returns the oracle as the library's classifier, which asks about whole batches."""
    import torch
    from art.estimators.classification import PyTorchClassifier

    class Whole(PyTorchClassifier):  # type: ignore[misc]
        """Asks about the attacked batch in one piece, which its default size would cut."""

        def predict(self, x: Any, batch_size: int = 128, **more: Any) -> Any:
            size = len(x) if len(x) == len(batch) else batch_size
            return super().predict(x, batch_size=size, **more)

    class Single(torch.nn.Module):
        """Takes images in float64 too, in which several attacks compute, but no model."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = oracle.module()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.inner(x.float())
            return logits

    return Whole(
        model=Single(),
        loss=torch.nn.CrossEntropyLoss(reduction="sum"),
        input_shape=tuple(batch.shape[1:]),
        nb_classes=oracle.n_classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if batch.is_cuda else "cpu",
    )
