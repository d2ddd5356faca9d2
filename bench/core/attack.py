"""Attacks as suites, stores and alarms see them: parameters and traits, without code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator

from bench.core.errors import UserError
from bench.core.spec import Spec


def _target(value: object) -> object:
    """Returns a target that is one; else says in one sentence what one is."""
    classes = value if isinstance(value, list | tuple) else (value,)
    named = isinstance(value, str) and value in ("least_likely", "random")
    if named or all(type(one) is int and one >= 0 for one in classes):
        return value
    raise ValueError(
        "expected least_likely, random, a class (a whole number from 0), or a list with a class "
        f"for each image, found {value!r}"
    )


YTarget = Annotated[
    Literal["least_likely", "random"] | int | tuple[int, ...], BeforeValidator(_target)
]
"""The class to which a targeted attack brings an image. ``least_likely``: the wrong class to which
the model gives the least probability on the clean image (Kurakin et al. 2017, section 2.3,
https://arxiv.org/abs/1607.02533). ``random``: a wrong class drawn for each image from the cell's
seed and the image's position, the same in any batch or slice. A number: that class, for every
image; a list: a class for each image of the slice. Never the image's own label."""


def target_text(y_target: YTarget) -> str:
    """Describes a target in a few words: ``least likely class``, ``class 3``."""
    if isinstance(y_target, int):
        return f"class {y_target}"
    if isinstance(y_target, tuple):
        return f"{len(y_target)} given classes"
    return {"least_likely": "least likely class", "random": "random class"}[y_target]


AttackKind = Literal["none", "bounded", "minimum-norm", "corruption"]
"""``none``: the clean image. ``bounded``: inside the ball. ``minimum-norm``: knows no eps, and
succeeds only inside it. ``corruption``: a common corruption, which no adversary chose and no ball
bounds."""

NO_ADVERSARY: tuple[AttackKind, ...] = ("none", "corruption")
"""Kinds whose number is an accuracy on given images, and no part of a worst case."""

CORRUPTION = "corruption"
"""Name of the entry that makes, or reads, common corruptions."""


class ParamsError(UserError):
    """Unknown or bad parameters of an attack or analysis, each with its own message.

    Args:
        problems: Pairs of a parameter's name and what is wrong with it.
        whose: The attack or analysis, for example ``attack 'pgd'``.
    """

    def __init__(self, problems: tuple[tuple[str, str], ...], whose: str = "") -> None:
        self.problems = problems
        text = "; ".join(f"{name}: {message}" for name, message in problems)
        super().__init__(f"{whose}: {text}" if whose else text)


class Traits(Spec):
    """How an attack searches; stored with each of its cells, because alarms depend on it.

    Attributes:
        family: The native attack that it reimplements, so that ``torchattacks:MIFGSM`` can stand
            for a published ``mim``; its own name in lower case if there is none.
        steps: Gradient steps up a loss inside the ball: ``one``, ``many``, or ``none`` for an
            attack that does not climb (random search, or a search for the least distance). A
            convergence sweep raises ``n_iter`` of those with ``many``.
        gradients: Whether the search follows gradients ``only``, ``partly`` (an ensemble with a
            gradient-free member), or ``never``.
        returns_clean: Whether it returns the clean image where it found no adversarial one.
        min_classes: Fewest classes for which its losses are the published ones.
    """

    family: str = ""
    steps: Literal["one", "many", "none"] = "none"
    gradients: Literal["only", "partly", "never"] = "only"
    returns_clean: bool = False
    min_classes: int = 2


SELECTION_DRAWS = 20
"""Fewest draws of a stochastic model on which finished candidates are compared."""


class Again(NamedTuple):
    """What an attack asks besides of a stochastic model, for an image.

    Attributes:
        candidates: Measured on draws that no search has seen; see ``SELECTION_DRAWS``.
        passes: Forward plus backward passes of second looks during the search, each of ``eot_iter``
            draws.
    """

    candidates: float = 0.0
    passes: float = 0.0

    def spent(self, eot_iter: int) -> float:
        """Returns forward plus backward passes for an image."""
        queries = max(2, -(-SELECTION_DRAWS // eot_iter))
        return eot_iter * (self.candidates * queries + self.passes)


NOTHING_AGAIN = Again()


@dataclass(frozen=True)
class AttackInfo:
    """An attack with its parameters filled in.

    Attributes:
        name: Name in the attack registry.
        version: Of the attack's code.
        library: The library or plugin that it comes from, with its version; empty for native code.
        params: Every parameter, defaults included, as plain JSON values.
        kind: See ``AttackKind``.
        keeps_batch: Whether it always passes the whole batch to the model, in order.
        may_be_fast: Whether it may search in low precision.
        passes_per_image: Forward plus backward passes that it spends on an image; ``None`` where
            that cannot be known beforehand.
        again: What it asks besides of a stochastic model.
        follows_gradient: Whether its search follows gradients at all.
        takes_loss: Whether a user's own loss may replace the one that it climbs.
        loss: The loss that its parameters name in place of the default; empty if none.
        takes_target: Whether it can be aimed at a target class.
    """

    name: str
    version: int
    library: str
    params: dict[str, Any]
    kind: AttackKind
    keeps_batch: bool
    may_be_fast: bool
    passes_per_image: float | None
    again: Again = NOTHING_AGAIN
    follows_gradient: bool = True
    takes_loss: bool = False
    loss: str = ""
    takes_target: bool = False


def params_text(params: Mapping[str, object]) -> list[str]:
    """Formats parameters, such as ``n_iter 20``, sorted by name."""
    return [f"{name} {value_text(value)}" for name, value in sorted(params.items())]


def value_text(value: object) -> str:
    """Formats the value of a parameter."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
