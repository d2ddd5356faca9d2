"""Attacks of Foolbox by the names of its classes, their parameters read off the constructors.

Source: https://github.com/bethgelab/foolbox (3.3). Kept as they are: a momentum attack adds up
signs of gradients, which is not the paper's; attacks of labels alone raise where no starting point
is found. A class knows eps, or it minimizes a distance and never hears of eps. All were seen to
pass the whole batch, in order, in every call: what is broken is masked, never dropped.
"""

from __future__ import annotations

import inspect
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from bench.attacks.adapters.signatures import Library, missing, other_norm
from bench.attacks.base import Attack, Budget
from bench.attacks.declared_libraries import Facts
from bench.attacks.randomness import seeded
from bench.core.attack import Traits
from bench.core.ball import LIBRARY_NORMS, norm_facts
from bench.core.spec import Spec
from bench.oracle import Oracle

FOOLBOX = Library(
    prefix="foolbox",
    title="Foolbox",
    distribution="foolbox",
    install="rbench[foolbox]",
    home="https://github.com/bethgelab/foolbox",
    module="foolbox.attacks",
    version=1,
    words={"steps": "n_iter", "abs_stepsize": "alpha"},
    radius=frozenset(),  # the call takes it
    withheld=frozenset(("channel_axis", "constraint", "distance", "init_attack", "tensorboard")),
)

REFUSED = {
    "BinarizationRefinementAttack": "it needs images that are already adversarial",
    "DatasetAttack": "it needs other images to blend with",
    "GenAttack": "it is for targeted attacks only",
    "PointwiseAttack": other_norm("l0"),
    "SpatialAttack": "it turns and shifts images, which no ball bounds",
}
"""Reasons that a class itself does not show."""

NEEDS_NUMBA = ("L2BrendelBethgeAttack", "LinfinityBrendelBethgeAttack")

CHOOSES = ("constraint", "distance")
"""Arguments of classes that take the norm that they minimize."""

GRADIENT_FREE = frozenset(
    [
        *("additive_noise", "blended_noise", "blur", "boundary_attack", "contrast"),
        *("contrast_min", "hop_skip_jump", "inversion", "saltandpepper"),
    ]
)
"""Modules of the library whose classes ask for no gradient."""

FAMILIES = {
    "basic_iterative_method": "bim",
    "fast_gradient_method": "fgsm",
    "projected_gradient_descent": "pgd",
}
"""Modules of the library, and the native attacks that their classes reimplement."""


def library_names() -> dict[str, str]:
    """Returns every class that the library exports with the reason to refuse it, or ``""``."""
    exported = FOOLBOX.exports(inspect.isclass)
    return {name: _refusal(name, found) for name, found in exported.items() if name != "Attack"}


@cache
def named_attack(name: str) -> Attack:
    """Returns the adapter of one class of the library.

    Raises:
        UserError: When the library is missing, has no such class, or the class cannot serve here.
    """
    found = FOOLBOX.find(name, library_names)
    kind: Literal["bounded", "minimum-norm"] = "bounded" if _bounded(found) else "minimum-norm"
    facts = Facts(kind, _norm(found), keeps_batch=True, traits=_traits(found))
    return FOOLBOX.attack(name, found, partial(_run, name), facts)


def _bounded(found: Any) -> bool:
    from foolbox.attacks.base import FixedEpsilonAttack

    return issubclass(found, FixedEpsilonAttack)


def _traits(found: Any) -> Traits:
    """Returns how a class searches: by its base, its module, and whether it counts steps."""
    from foolbox.attacks.gradient_descent_base import BaseGradientDescent

    module = found.__module__.rpartition(".")[2]
    if module in GRADIENT_FREE:
        return Traits(gradients="never")
    if not issubclass(found, BaseGradientDescent):
        return Traits()
    steps: Literal["one", "many"] = (
        "many" if "steps" in inspect.signature(found).parameters else "one"
    )
    return Traits(steps=steps, family=FAMILIES.get(module, ""))


def _norm(found: Any) -> str:
    """Returns the norm of a class, ``""`` where it is the threat model's."""
    if any(argument in CHOOSES for argument in inspect.signature(found).parameters):
        return ""
    distance = found.distance if not isinstance(found.distance, property) else found().distance
    return {0.0: "l0", 1.0: "l1", 2.0: "l2", float("inf"): "linf"}[float(distance.p)]


def _refusal(name: str, found: Any) -> str:
    """Returns why a class cannot serve, ``""`` when it can."""
    if found.__name__ in REFUSED:
        return REFUSED[found.__name__]
    if _norm(found) not in ("", *LIBRARY_NORMS):
        return other_norm(_norm(found))
    return missing("numba") if name in NEEDS_NUMBA else ""


def _run(
    name: str, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs a class of the library on images (b, c, h, w) in [0, 1] with labels (b,).

    Raises:
        UserError: When the radius differs between channels and the attack takes one, or when the
            library refuses the parameters.
    """
    import foolbox
    from foolbox.models.pytorch import PyTorchModel

    found = getattr(foolbox.attacks, name)
    norm_facts(budget.norm)  # refuses a norm that threat models do not know
    norm = {"constraint": budget.norm, "distance": getattr(foolbox.distances, budget.norm)}
    arguments = FOOLBOX.arguments(found, params, elsewhere=norm)
    eps = budget.radius(f"foolbox:{name}") if _bounded(found) else None
    with seeded(seed), torch.enable_grad():
        with FOOLBOX.refusing(name, params):
            attack = found(**arguments)
        model = PyTorchModel(oracle.module(), bounds=(0, 1), device=x.device)
        _, x_adv, _ = attack(model, x.contiguous(), y, epsilons=eps)
    return torch.as_tensor(x_adv).detach()
