"""Any other class of torchattacks by name, its parameters read off its constructor."""

from __future__ import annotations

import inspect
import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr, create_model

from bench.attacks.adapters.torchattacks import (
    LIBRARY,
    NORMS,
    RADIUS,
    constructor,
    library_class,
    run_class,
)
from bench.attacks.base import Attack, Budget
from bench.attacks.params import ELSEWHERE, OUR_WORDS, Count, Positive
from bench.core.base import Spec
from bench.core.errors import UserError, did_you_mean
from bench.core.numbers import Number

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle

MINIMUM_NORM = frozenset(
    ("CW", "DeepFool", "EADEN", "EADL1", "JSMA", "OnePixel", "Pixle", "SparseFool")
)
"""Classes that know no eps. FAB is not one of them: it returns x where it ends beyond eps."""

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

WITHHELD = frozenset((*ELSEWHERE, *RADIUS, "verbose", "update_each_iteration"))
"""Arguments that are no parameter here. The last is Pixle's and takes one image at a time."""


def library_names() -> dict[str, str]:
    """Returns every class that the library exports with the reason to refuse it, or ``""``."""
    import torchattacks

    return {name: _refusal(name) for name in sorted(torchattacks.__all__)}


@cache
def named_attack(name: str) -> Attack:
    """Returns the adapter of one class of the library.

    Raises:
        UserError: When there is no such class, or it cannot serve as an attack here.
    """
    names = library_names()
    if name not in names:
        same = [known for known in names if known.lower() == name.lower()]
        prefixed = [f"{LIBRARY}:{known}" for known in same or names]
        hint = did_you_mean(f"{LIBRARY}:{same[0] if same else name}", prefixed)
        raise UserError(f"unknown attack '{LIBRARY}:{name}'{hint}")
    if names[name]:
        raise UserError(f"attack '{LIBRARY}:{name}' cannot be used: {names[name]}")
    minimum = name in MINIMUM_NORM
    kind: Literal["bounded", "minimum-norm"] = "minimum-norm" if minimum else "bounded"
    doc = inspect.getdoc(library_class(name)) or ""
    link = re.search(r"https?://[^\s\]\"']+", doc)
    return Attack(
        name=f"{LIBRARY}:{name}",
        version=1,
        kind=kind,
        norms=tuple(NORMS) if minimum else _norms(name),
        params=_params_model(name),
        run=partial(_run, name),
        summary=f"{name} of {LIBRARY} ({', '.join(_documented(name))})",
        url=link[0] if link else "https://github.com/Harry24k/adversarial-attacks-pytorch",
        library=LIBRARY,
        keeps_batch=name in KEEPS_BATCH,
    )


def _documented(name: str) -> list[str]:
    """Returns the norms that a class's docstring names, for example ``["Linf", "L2"]``."""
    doc = inspect.getdoc(library_class(name)) or ""
    found = re.search(r"Distance Measure\s*:\s*(.+)", doc)
    return re.findall(r"Linf|L\d", found[1]) if found else []


def _norms(name: str) -> tuple[str, ...]:
    return tuple(ours for ours, theirs in NORMS.items() if theirs in _documented(name))


def _refusal(name: str) -> str:
    """Returns why a class cannot serve, ``""`` when it can."""
    if name in REFUSED:
        return REFUSED[name]
    takes = list(inspect.signature(library_class(name)).parameters)
    if takes[0] != "model":
        return f"its constructor takes '{takes[0]}' instead of a model"
    arguments = constructor(name)
    needed = [k for k, default in arguments.items() if default is inspect.Parameter.empty]
    if needed:
        return f"its constructor needs '{needed[0]}'"
    if name in MINIMUM_NORM:
        return ""
    if not any(key in arguments for key in RADIUS):
        return "its constructor takes no eps, and it is not known to minimize a distance"
    if not _norms(name):
        return "its documentation names neither Linf nor L2 as its distance"
    return ""


def _params_model(name: str) -> type[Spec]:
    """Makes a parameter model from the constructor's arguments of simple types."""
    fields: dict[str, Any] = {}
    doc = inspect.getdoc(library_class(name)) or ""
    for key, default in constructor(name).items():
        word = OUR_WORDS.get(key, key)
        if key in WITHHELD:
            continue
        if word == "alpha":
            fields[word] = (Positive | None, None)
        elif word in ("n_iter", "n_restarts"):
            fields[word] = (Count, default)
        elif isinstance(default, bool):
            fields[word] = (StrictBool, default)
        elif isinstance(default, float) or re.search(rf"\b{key} \(float\)", doc):
            fields[word] = (Number, float(default))
        elif isinstance(default, int):
            fields[word] = (StrictInt, Field(default, ge=0))
        elif isinstance(default, str):
            fields[word] = (StrictStr, default)
    model: type[Spec] = create_model(f"{name}Params", __base__=Spec, **fields)
    return model


def _run(
    name: str, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs the class unless the images or the model do not fit it, which is a ``UserError``."""
    attack = f"attack '{LIBRARY}:{name}'"
    if name in THREE_CHANNELS and x.shape[1] != 3:
        raise UserError(f"{attack} needs images of 3 channels, found {x.shape[1]}")
    if oracle.n_classes < MIN_CLASSES.get(name, 2):
        needed = f"needs at least {MIN_CLASSES[name]} classes"
        raise UserError(f"{attack} {needed}, the model has {oracle.n_classes}")
    return run_class(name, oracle, x, y, budget, params, seed)
