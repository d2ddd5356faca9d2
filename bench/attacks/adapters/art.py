"""Attacks of the Adversarial Robustness Toolbox, their parameters read off the constructors.

Source: https://github.com/Trusted-AI/adversarial-robustness-toolbox (ART 1.20). Its attacks work on
numpy arrays and ask for predictions and gradients of a ``PyTorchClassifier``, which is put around
the oracle's view; the loss is summed over the batch, so that an image's gradient does not depend on
the size of the batch. Kept as they are: many attacks take one image at a time, or pass over images
that are broken (``keeps_batch`` is false for these).
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from bench.attacks.adapters.signatures import Library, missing, other_norm
from bench.attacks.base import Attack, Budget
from bench.attacks.declared_libraries import ART as KNOWN
from bench.attacks.randomness import seeded
from bench.core.ball import LIBRARY_NORMS, norm_facts
from bench.core.spec import Spec
from bench.oracle import Oracle

ART = Library(
    prefix="art",
    title="ART",
    distribution="adversarial-robustness-toolbox",
    install="rbench[art]",
    home="https://github.com/Trusted-AI/adversarial-robustness-toolbox",
    module="art.attacks.evasion",
    version=1,
    words={"max_iter": "n_iter", "eps_step": "alpha", "nb_restarts": "n_restarts"},
    radius=frozenset(("eps",)),
    withheld=frozenset(
        [
            "adv_criterion",
            "attacker_params",
            "attacks",
            "batch_size",
            "classifier",
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


ALONE = frozenset(("ZooAttack",))
"""Classes that can only take one image at a time."""

NEEDS = {"AutoAttack": "multiprocess", "BrendelBethgeAttack": "numba"}
"""Packages without which a class is not there or does not run, and which ART does not bring."""

_NOT_BOUND = f"no ball of {' or '.join(LIBRARY_NORMS)} bounds it, and it minimizes neither"
REFUSED = {
    "CarliniL0Method": other_norm("l0"),
    "CompositeAdversarialAttackPyTorch": _NOT_BOUND,
    "ElasticNet": other_norm("l1"),
    "PixelAttack": other_norm("l0"),
    "SaliencyMapMethod": other_norm("l0"),
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
    found = ART.exports(inspect.isclass)
    absent = {name: missing(package) for name, package in NEEDS.items() if missing(package)}
    other = "it is not for classifiers of images in memory, or needs more than a model and images"
    unusable = {name: REFUSED.get(name, other) for name in found if name not in KNOWN}
    return dict(sorted({**dict.fromkeys(KNOWN, ""), **unusable, **absent}.items()))


@cache
def named_attack(name: str) -> Attack:
    """Returns the adapter of one class of the library.

    Raises:
        UserError: When the library is missing, has no such class, or the class cannot serve here.
    """
    return ART.attack(name, ART.find(name, library_names), partial(_run, name), KNOWN[name])


def _run(
    name: str, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs a class of the library on images (b, c, h, w) in [0, 1] with labels (b,).

    Raises:
        UserError: When the radius differs between channels and the attack takes one, or when the
            library refuses the parameters.
    """
    found = getattr(ART.attacks(name), name)
    eps = budget.radius(f"art:{name}") if KNOWN[name].bounded else None
    elsewhere: dict[str, object] = {
        "attacker_params": {"verbose": False},
        "norm": norm_facts(budget.norm).order,
        "batch_size": 1 if name in ALONE else len(x),
        "targeted": False,
        "verbose": False,
    }
    arguments = ART.arguments(found, params, eps, elsewhere)
    device = torch.cuda.device(x.device) if x.is_cuda else nullcontext()
    with seeded(seed), torch.enable_grad(), device:
        with ART.refusing(name, params):
            attack = found(_classifier(oracle, x), **arguments)
        for part in getattr(attack, "attacks", ()):  # AutoAttack's, which draw progress bars
            part.verbose = False
        x_adv = attack.generate(x=x.cpu().numpy(), y=y.cpu().numpy())
    return torch.as_tensor(x_adv).to(x.device, torch.float32)


def _classifier(oracle: Oracle, batch: Tensor) -> Any:
    """Returns the oracle as the library's classifier, which asks about whole batches."""
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
