"""Any other class of torchattacks by name, its parameters read off its constructor."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from bench.attacks.adapters.signatures import Facts
from bench.attacks.adapters.torchattacks import MINIMUM_NORM, TORCHATTACKS, run_class
from bench.attacks.base import Attack, Budget
from bench.core.base import Spec
from bench.core.errors import UserError
from bench.core.threat import CAPITALS

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle

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
