"""Attacks of adversarial-library (``adv_lib``), their parameters read off its functions.

Source: https://github.com/jeromerony/adversarial-library (0.2). Greek letters of its arguments are
spelled out: ``α_init`` is ``alpha_init``, and ``α`` alone, which is no step size, ``alpha_0``. Many
attacks stop looking at an image once it is broken (``keeps_batch`` is false for these); ``df``
returns broken images only.
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

from bench.attacks.adapters.signatures import Library
from bench.attacks.base import Attack, Budget
from bench.core.base import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle

BOTH = ("linf", "l2")
ORDER = {"linf": float("inf"), "l2": 2.0}


@dataclass(frozen=True)
class Facts:
    """What a function's signature does not tell.

    Attributes:
        kind: Whether it knows eps.
        minimizes: The one norm that it minimizes or is bounded in; empty for the threat model's.
        norm: The argument that takes the order of the norm, if there is one.
        eps: The argument that takes the radius.
        keeps_batch: Whether it was seen to pass the whole batch, in order, in every call.
    """

    kind: Literal["bounded", "minimum-norm"] = "minimum-norm"
    minimizes: str = ""
    norm: str = ""
    eps: str = ""
    keeps_batch: bool = False


KNOWN = {
    "alma": Facts(minimizes="l2", keeps_batch=True),
    "apgd": Facts("bounded", norm="norm", eps="eps"),
    "apgd_targeted": Facts("bounded", norm="norm", eps="eps"),
    "carlini_wagner_l2": Facts(minimizes="l2", keeps_batch=True),
    "carlini_wagner_linf": Facts(minimizes="linf"),
    "ddn": Facts(minimizes="l2", keeps_batch=True),
    "df": Facts(norm="norm"),
    "fab": Facts(norm="norm", keeps_batch=True),
    "fmn": Facts(norm="norm", keeps_batch=True),
    "pdgd": Facts(minimizes="l2", keeps_batch=True),
    "pdpgd": Facts(norm="norm", keeps_batch=True),
    "pgd_linf": Facts("bounded", minimizes="linf", eps="ε"),
    "sdf": Facts(minimizes="l2"),
    "str_attack": Facts(minimizes="l2"),
    "tr": Facts(norm="p"),
}

REFUSED = {
    "fga": "it minimizes l0; a threat model is linf or l2",
    "perc_al": "it minimizes a distance between colours; a threat model is linf or l2",
    "sigma_zero": "it minimizes l0; a threat model is linf or l2",
    "vfga": "it minimizes l0; a threat model is linf or l2",
}

STEPS = ("steps", "num_steps", "max_iterations", "iter")


def _latin(name: str) -> str:
    """Spells out the Greek letters of a name: ``β_1`` becomes ``beta_1``."""
    words = (unicodedata.name(c).rpartition(" ")[2].lower() if ord(c) > 127 else c for c in name)
    return "".join(words)


class _Words(dict[str, str]):
    """Our words for the library's; a name that is not here is its own, in Latin letters."""

    def get(self, name: str, default: object = None) -> str:
        """Returns our word."""
        return self[name] if name in self else _latin(name)


ALPHA, EPSILON = "\N{GREEK SMALL LETTER ALPHA}", "\N{GREEK SMALL LETTER EPSILON}"

ADV_LIB = Library(
    prefix="advlib",
    distribution="adv-lib",
    module="adv_lib.attacks",
    words=_Words(
        dict.fromkeys(STEPS, "n_iter"),
        absolute_step_size="alpha",
        restarts="n_restarts",
        eps="start_radius",
        **{ALPHA: "alpha_0", EPSILON: "start_eps"},
    ),
    withheld=frozenset(
        [
            "callback",
            "distance",
            "norm",
            "p",
            "penalty",
            "return_targets",
            "return_unsuccessful",
            "starting_points",
            "targeted",
        ]
    ),
)


def library_names() -> dict[str, str]:
    """Returns every function that the library exports with the reason to refuse it, or ``""``."""
    found = vars(ADV_LIB.attacks("*")).items()
    exported = sorted(name for name, value in found if inspect.isfunction(value))
    unknown = "rbench does not know what it minimizes"
    return {name: REFUSED.get(name, "" if name in KNOWN else unknown) for name in exported}


@cache
def named_attack(name: str) -> Attack:
    """Returns the adapter of one function of the library.

    Raises:
        UserError: When the library is missing, has no such function, or it cannot serve here.
    """
    attacks = ADV_LIB.attacks(name)
    ADV_LIB.check_name(name, library_names())
    function, facts = getattr(attacks, name), KNOWN[name]
    bounded = facts.kind == "bounded"
    link = re.search(r"https?://[^\s\]\"'<>`]+", function.__doc__ or "")
    what = f"{name} of adversarial-library, " + ("in" if bounded else "minimizes")
    return Attack(
        name=f"advlib:{name}",
        version=1,
        kind=facts.kind,
        norms=(facts.minimizes,) if bounded and facts.minimizes else BOTH,
        params=ADV_LIB.params_model(name, function, _ball(facts)),
        run=partial(_run, name, function),
        summary=f"{what} {facts.minimizes or 'the norm of the threat model'}",
        url=link[0].rstrip(".,)") if link else "https://github.com/jeromerony/adversarial-library",
        library="adv-lib",
        keeps_batch=facts.keeps_batch,
    )


def _ball(facts: Facts) -> tuple[str, ...]:
    """Returns the arguments that the threat model gives."""
    return tuple(argument for argument in (facts.norm, facts.eps) if argument)


def _run(
    name: str,
    function: Callable[..., Any],
    oracle: Oracle,
    x: Tensor,
    y: Tensor,
    budget: Budget,
    params: Spec,
    seed: int,
) -> Tensor:
    """Runs a function of the library on images (b, c, h, w) in [0, 1] with labels (b,).

    Raises:
        UserError: When the radius differs between channels and the attack takes one.
    """
    import torch

    from bench.attacks.randomness import seeded

    facts = KNOWN[name]
    arguments = ADV_LIB.arguments(function, params, _ball(facts))
    if facts.norm:
        arguments[facts.norm] = ORDER[budget.norm]
    if facts.eps:
        arguments[facts.eps] = budget.radius(f"advlib:{name}")
    with seeded(seed), torch.enable_grad():
        x_adv = function(oracle.module(), x.contiguous(), y, **arguments)
    return torch.as_tensor(x_adv).detach()
