"""The attacks by name. Listing them imports neither torch nor any attack library."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

from bench.attacks.base import Attack
from bench.attacks.params import param_problems, parse_params
from bench.core.attack import AttackInfo, ParamsError
from bench.core.errors import UserError, did_you_mean
from bench.core.host import installed
from bench.core.registry import Plugin, Registry

LIBRARY_PREFIX = "torchattacks:"

LIBRARIES = {
    "torchattacks": "bench.attacks.adapters.torchattacks",
    "foolbox": "bench.attacks.adapters.foolbox",
    "advlib": "bench.attacks.adapters.adversarial_library",
    "art": "bench.attacks.adapters.art",
}
"""``PREFIX:NAME`` resolves any usable attack of a library, by way of its adapter."""


def _adopt(plugin: Plugin, found: object) -> Attack:
    """Returns a plugin's attack, which tells where it comes from."""
    if not isinstance(found, Attack):
        raise ValueError(f"expected a bench.attacks.Attack, found {type(found).__name__}")
    if found.name != plugin.name:
        raise ValueError(f"its Attack is named '{found.name}', expected '{plugin.name}'")
    return replace(found, distribution=plugin.distribution)


ATTACKS: Registry[Attack] = Registry("attack", "rbench.attacks", _adopt)
ATTACKS.add_lazy("natural", "bench.attacks.natural:NATURAL")
for _file, _name in (
    ("fgsm", "fgsm"),
    ("bim", "bim"),
    ("pgd", "pgd"),
    ("mim", "mim"),
    ("noise", "noise"),
    ("cw", "cw"),
    ("cw", "cw_linf"),
    ("deepfool", "deepfool"),
    ("apgd", "apgd"),
    ("apgd", "apgd_t"),
    ("fab", "fab_t"),
    ("square", "square"),
    ("autoattack", "autoattack"),
    ("auto", "auto"),
):
    ATTACKS.add_lazy(_name, f"bench.attacks.{_file}:{_name.upper()}")
ATTACKS.add_lazy("pyautoattack", "bench.attacks.adapters.pyautoattack:PYAUTOATTACK")
for _name in ("FGSM", "BIM", "PGD", "MIFGSM", "CW", "DeepFool"):
    _target = f"bench.attacks.adapters.torchattacks:{_name.upper()}"
    ATTACKS.add_lazy(LIBRARY_PREFIX + _name, _target)


class Adapter(Protocol):
    """What a module in ``LIBRARIES`` offers."""

    def named_attack(self, name: str) -> Attack:
        """Returns the adapter of an attack, named without its prefix."""

    def library_names(self) -> dict[str, str]:
        """Returns every attack of the library with the reason to refuse it, or ``""``."""


def adapter(prefix: str) -> Adapter:
    """Returns the adapter of a library; this does not import the library."""
    return cast(Adapter, importlib.import_module(LIBRARIES[prefix]))


def library_attacks(prefix: str) -> list[Attack]:
    """Returns every usable attack of a library.

    Raises:
        UserError: When the library is not installed; the message says how to install it.
    """
    found = adapter(prefix)
    return [found.named_attack(name) for name, why in found.library_names().items() if not why]


def get_attack(name: str) -> Attack:
    """Returns a registered attack, or any usable one of a library, as ``foolbox:LinfPGD``.

    Raises:
        UserError: For an unknown name, with the nearest one; for an attack of a library that
            cannot serve here, with the reason; for a library that is not installed.
    """
    if name in ATTACKS:
        return ATTACKS.get(name)
    prefix, colon, rest = name.partition(":")
    if colon and prefix in LIBRARIES:
        return adapter(prefix).named_attack(rest)
    same = [known for known in ATTACKS if known.rpartition(":")[2].lower() == name.lower()]
    hint = f"; did you mean '{same[0]}'?" if same else did_you_mean(name, ATTACKS)
    raise UserError(f"unknown attack '{name}'{hint}")


def attack_info(name: str, params: Mapping[str, Any], norm: str) -> AttackInfo:
    """Returns an attack with its parameters filled in, under a threat model's norm.

    Raises:
        ParamsError: For unknown or bad parameters.
        UserError: For an unknown attack, or one that cannot serve the norm.
    """
    attack = get_attack(name)
    if norm not in attack.norms:
        known = " and ".join(attack.norms)
        raise UserError(f"attack '{name}' serves norm {known}, not {norm}")
    problems = param_problems(attack, params)
    if problems:
        raise ParamsError(problems)
    filled = parse_params(attack, params)
    alpha = getattr(filled, "alpha", None)
    if norm == "linf" and isinstance(alpha, float) and alpha > 1:
        why = f"a step in units of pixels in [0, 1], so at most 1, found {alpha:g}"
        raise ParamsError((("alpha", f"{why}; for 8-bit units write {alpha:g}/255"),))
    return AttackInfo(
        version=attack.version,
        library=", ".join(
            f"{name} {version}"
            for name, version in installed(attack.library, attack.distribution).items()
        ),
        params=filled.model_dump(mode="json"),
        kind=attack.kind,
        keeps_batch=attack.keeps_batch,
        may_be_fast=attack.may_be_fast,
        passes_per_image=attack.passes(filled) if attack.passes else None,
    )
