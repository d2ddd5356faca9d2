"""Attacks of Foolbox by the names of its classes, their parameters read off the constructors.

Source: https://github.com/bethgelab/foolbox (3.3). Kept as they are: a momentum attack adds up
signs of gradients, which is not the paper's; attacks of labels alone raise where no starting point
is found. A class knows eps, or it minimizes a distance and never hears of eps. All were seen to
pass the whole batch, in order, in every call: what is broken is masked, never dropped.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

from bench.attacks.adapters.signatures import Library
from bench.attacks.base import Attack, Budget
from bench.core.base import Spec
from bench.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle

FOOLBOX = Library(
    prefix="foolbox",
    distribution="foolbox",
    module="foolbox.attacks",
    words={"steps": "n_iter", "abs_stepsize": "alpha"},
    withheld=frozenset(("channel_axis", "distance", "init_attack", "tensorboard")),
)

BOTH = ("linf", "l2")

REFUSED = {
    "BinarizationRefinementAttack": "it needs images that are already adversarial",
    "DatasetAttack": "it needs other images to blend with",
    "GenAttack": "it is for targeted attacks only",
    "PointwiseAttack": "it minimizes l0; a threat model is linf or l2",
    "SpatialAttack": "it turns and shifts images, which no ball of linf or l2 bounds",
}
"""Reasons that a class itself does not show."""

NEEDS_NUMBA = ("L2BrendelBethgeAttack", "LinfinityBrendelBethgeAttack")

CHOOSES = frozenset(("HopSkipJumpAttack",))
"""Classes that take the norm that they minimize as an argument, ``constraint``."""


def library_names() -> dict[str, str]:
    """Returns every class that the library exports with the reason to refuse it, or ``""``."""
    attacks = FOOLBOX.attacks("*")
    exported = {n: c for n, c in vars(attacks).items() if inspect.isclass(c) and n != "Attack"}
    return {name: _refusal(name, found) for name, found in sorted(exported.items())}


@cache
def named_attack(name: str) -> Attack:
    """Returns the adapter of one class of the library.

    Raises:
        UserError: When the library is missing, has no such class, or the class cannot serve here.
    """
    attacks = FOOLBOX.attacks(name)
    FOOLBOX.check_name(name, library_names())
    found = getattr(attacks, name)
    bounded = _bounded(found)
    kind: Literal["bounded", "minimum-norm"] = "bounded" if bounded else "minimum-norm"
    norm = _norm(found)
    what = f"{found.__name__} of Foolbox, " + ("in" if bounded else "minimizes")
    link = re.search(r"https?://[^\s\]\"'<>`]+", found.__doc__ or "")
    return Attack(
        name=f"foolbox:{name}",
        version=1,
        kind=kind,
        norms=(norm,) if bounded and norm else BOTH,
        params=FOOLBOX.params_model(name, found, _chosen(found)),
        run=partial(_run, name),
        summary=f"{what} {norm or 'the norm of the threat model'}",
        url=link[0].rstrip(".,)") if link else "https://github.com/bethgelab/foolbox",
        library="foolbox",
    )


def _bounded(found: Any) -> bool:
    from foolbox.attacks.base import FixedEpsilonAttack

    return issubclass(found, FixedEpsilonAttack)


def _chosen(found: Any) -> tuple[str, ...]:
    return ("constraint",) if found.__name__ in CHOOSES else ()


def _flexible(found: Any) -> bool:
    """Whether it takes the distance that it minimizes."""
    return "distance" in inspect.signature(found).parameters


def _norm(found: Any) -> str:
    """Returns the norm of a class, ``""`` where it is the threat model's."""
    if _flexible(found) or found.__name__ in CHOOSES:
        return ""
    distance = found.distance if not isinstance(found.distance, property) else found().distance
    return {0.0: "l0", 1.0: "l1", 2.0: "l2", float("inf"): "linf"}[float(distance.p)]


def _refusal(name: str, found: Any) -> str:
    """Returns why a class cannot serve, ``""`` when it can."""
    if found.__name__ in REFUSED:
        return REFUSED[found.__name__]
    if _norm(found) not in ("", *BOTH):
        return f"it minimizes {_norm(found)}; a threat model is linf or l2"
    if name in NEEDS_NUMBA and importlib.util.find_spec("numba") is None:
        return "it needs numba: pip install numba"
    return ""


def _run(
    name: str, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs a class of the library on images (b, c, h, w) in [0, 1] with labels (b,).

    Raises:
        UserError: When the radius differs between channels and the attack takes one, or when the
            library refuses the parameters.
    """
    import foolbox
    import torch
    from foolbox.models.pytorch import PyTorchModel

    from bench.attacks.randomness import seeded

    found = getattr(foolbox.attacks, name)
    arguments = FOOLBOX.arguments(found, params, _chosen(found))
    if _flexible(found):
        arguments["distance"] = getattr(foolbox.distances, budget.norm)
    if _chosen(found):
        arguments["constraint"] = budget.norm
    eps = budget.radius(f"foolbox:{name}") if _bounded(found) else None
    with seeded(seed), torch.enable_grad():
        try:
            attack = found(**arguments)
        except (TypeError, ValueError) as error:
            raise UserError(f"attack 'foolbox:{name}' refused {params!r}: {error}") from error
        model = PyTorchModel(oracle.module(), bounds=(0, 1), device=x.device)
        _, x_adv, _ = attack(model, x.contiguous(), y, epsilons=eps)
    return torch.as_tensor(x_adv).detach()
