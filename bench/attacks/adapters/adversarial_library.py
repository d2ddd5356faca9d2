"""Attacks of adversarial-library (``adv_lib``), their parameters read off its functions.

Source: https://github.com/jeromerony/adversarial-library (0.2). Greek letters of its arguments are
spelled out: ``α_init`` is ``alpha_init``, and ``α`` alone, which is no step size, ``alpha_0``. Many
attacks stop looking at an image once it is broken (``keeps_batch`` is false for these); ``df``
returns broken images only.
"""

from __future__ import annotations

import inspect
import unicodedata
from functools import cache, partial

import torch
from torch import Tensor

from bench.attacks.adapters.signatures import Library, other_norm
from bench.attacks.base import Attack, Budget
from bench.attacks.declared_libraries import ADVLIB
from bench.attacks.randomness import seeded
from bench.core.ball import norm_facts
from bench.core.spec import Spec
from bench.oracle import Oracle

REFUSED = {
    "fga": other_norm("l0"),
    "perc_al": other_norm("a distance between colours"),
    "sigma_zero": other_norm("l0"),
    "vfga": other_norm("l0"),
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
    title="adversarial-library",
    distribution="adv-lib",
    install="rbench[advlib]",
    home="https://github.com/jeromerony/adversarial-library",
    module="adv_lib.attacks",
    version=1,
    words=_Words(
        dict.fromkeys(STEPS, "n_iter"),
        absolute_step_size="alpha",
        restarts="n_restarts",
        eps="start_radius",
        **{ALPHA: "alpha_0", EPSILON: "start_eps"},
    ),
    radius=frozenset(("eps", EPSILON)),
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
    unknown = "rbench does not know what it minimizes"
    return {
        name: REFUSED.get(name, "" if name in ADVLIB else unknown)
        for name in ADV_LIB.exports(inspect.isfunction)
    }


@cache
def named_attack(name: str) -> Attack:
    """Returns the adapter of one function of the library.

    Raises:
        UserError: When the library is missing, has no such function, or it cannot serve here.
    """
    found = ADV_LIB.find(name, library_names)
    return ADV_LIB.attack(name, found, partial(_run, name), ADVLIB[name])


def _run(
    name: str, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs a function of the library on images (b, c, h, w) in [0, 1] with labels (b,).

    Raises:
        UserError: When the radius differs between channels and the attack takes one.
    """
    found = getattr(ADV_LIB.attacks(name), name)
    eps = budget.radius(f"advlib:{name}") if ADVLIB[name].bounded else None
    norm = dict.fromkeys(("norm", "p"), norm_facts(budget.norm).order)
    arguments = ADV_LIB.arguments(found, params, eps, norm)
    with seeded(seed), torch.enable_grad():
        x_adv = found(oracle.module(), x.contiguous(), y, **arguments)
    return torch.as_tensor(x_adv).detach()
