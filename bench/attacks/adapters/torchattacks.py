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
from typing import Any

import torch
from torch import Tensor

from bench.attacks.adapters.signatures import Library
from bench.attacks.base import Attack, Budget
from bench.attacks.declared_libraries import TORCHATTACKS as KNOWN
from bench.attacks.declared_libraries import Facts
from bench.attacks.params import ELSEWHERE, OUR_WORDS
from bench.attacks.randomness import seeded
from bench.core.ball import LIBRARY_NORMS, norm_facts
from bench.core.errors import UserError
from bench.core.spec import Spec
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


def run_class(
    name: str, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs a class of the library on images (b, c, h, w) in [0, 1] with labels (b,).

    Raises:
        UserError: When the radius differs between channels and the attack takes one, or when the
            library refuses the parameters.
    """
    found = getattr(TORCHATTACKS.attacks(name), name)
    eps = budget.radius(f"torchattacks:{name}") if _facts(name).bounded else None
    elsewhere: dict[str, object] = {
        "n_classes": oracle.n_classes,
        "norm": norm_facts(budget.norm).capital,
        "seed": seed,
        "verbose": False,
    }
    arguments = TORCHATTACKS.arguments(found, params, eps, elsewhere)
    with seeded(seed), torch.enable_grad():
        with TORCHATTACKS.refusing(name, params):
            attack = found(oracle.module(), **arguments)
        x_adv: Tensor = attack(x.contiguous(), y)  # it uses view(), which needs this layout
    return x_adv.detach().to(x.device)


REFUSED = {
    "VANILA": "it returns the clean image; use 'natural'",
    "GN": "it adds Gaussian noise, which neither knows eps nor minimizes a distance",
}
"""Reasons that a constructor's signature does not show."""

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
    facts = _facts(name)
    attack = TORCHATTACKS.attack(name, found, partial(_run, name), facts)
    # Many count or weigh pixels, and minimize no norm of a threat model.
    summary = f"{name} of torchattacks ({', '.join(_documented(found))})"
    norms = tuple(_norms(found)) if facts.bounded else attack.norms
    return replace(attack, summary=summary, norms=norms)


def _facts(name: str) -> Facts:
    return KNOWN.get(name, Facts("bounded"))


def _documented(found: Any) -> list[str]:
    """Returns the norms that a class's docstring names, for example ``["Linf", "L2"]``."""
    line = re.search(r"Distance Measure\s*:\s*(.+)", inspect.getdoc(found) or "")
    return re.findall(r"Linf|L\d", line[1]) if line else []


def _norms(found: Any) -> list[str]:
    return [norm for norm in LIBRARY_NORMS if norm_facts(norm).capital in _documented(found)]


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
    if not _facts(name).bounded:
        return ""
    if not any(argument.name in TORCHATTACKS.radius for argument in arguments):
        return "its constructor takes no eps, and it is not known to minimize a distance"
    if not _norms(found):
        known = ", ".join(norm_facts(norm).capital for norm in LIBRARY_NORMS)
        return f"its documentation names none of {known} as its distance"
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
