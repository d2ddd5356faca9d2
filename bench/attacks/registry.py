"""The attacks by name. Looking up a declared attack imports neither torch nor any library."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

import bench.attacks.declared as declared
import bench.attacks.declared_libraries as declared_libraries
import bench.attacks.declared_search as declared_search
from bench.attacks.base import Attack, dlr_classes, resolved
from bench.attacks.params import param_problems, parse_params
from bench.core.attack import AttackInfo, ParamsError, Traits
from bench.core.ball import norm_facts
from bench.core.cell import CellSpec
from bench.core.errors import UserError, did_you_mean
from bench.core.host import installed
from bench.core.registry import Plugin, Registry
from bench.core.result import CellInfo
from bench.core.spec import Spec

LIBRARIES = {
    "torchattacks": "bench.attacks.adapters.torchattacks",
    "foolbox": "bench.attacks.adapters.foolbox",
    "advlib": "bench.attacks.adapters.adversarial_library",
    "art": "bench.attacks.adapters.art",
}
"""``PREFIX:NAME`` resolves any usable attack of a library through its adapter."""


def _adopt(plugin: Plugin, found: object) -> Attack:
    """Returns a plugin's attack, with the name of its distribution."""
    if not isinstance(found, Attack):
        raise ValueError(f"expected a bench.attacks.Attack, found {type(found).__name__}")
    if found.name != plugin.name:
        raise ValueError(f"its Attack is named '{found.name}', expected '{plugin.name}'")
    return replace(found, distribution=plugin.distribution)


DECLARED: Mapping[str, Attack] = {
    attack.name: attack
    for attack in (*declared.ATTACKS, *declared_search.ATTACKS, *declared_libraries.ATTACKS)
}
ATTACKS: Registry[Attack] = Registry("attack", "rbench.attacks", _adopt)
for _attack in DECLARED.values():
    ATTACKS.add(_attack.name, _attack)


class Adapter(Protocol):
    """The functions of a module in ``LIBRARIES``."""

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
        raise ParamsError(problems, f"attack '{name}'")
    filled = parse_params(attack, params)
    alpha = getattr(filled, "alpha", None)
    if norm_facts(norm).per_pixel and isinstance(alpha, float) and alpha > 1:
        why = f"a step in units of pixels in [0, 1], so at most 1, found {alpha:g}"
        problem = ("alpha", f"{why}; for 8-bit units write {alpha:g}/255")
        raise ParamsError((problem,), f"attack '{name}'")
    return AttackInfo(
        name=name,
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
        follows_gradient=attack.kind != "none" and attack.traits.gradients != "never",
        takes_loss=attack.takes_loss,
        loss=_named_loss(attack, filled),
        takes_target=attack.takes_target,
    )


def _named_loss(attack: Attack, params: Spec) -> str:
    """Returns the loss that parameters name in place of the attack's default; empty if none."""
    field = attack.params.model_fields.get("loss")
    found = getattr(params, "loss", None)
    return str(found) if field is not None and found != field.default else ""


def traits_of(info: CellInfo) -> Traits:
    """Returns the traits of a stored cell's attack.

    Stores from before traits were recorded have those of the declarations instead, which are
    looked up by name without torch; an attack that is not declared there has the default ones.
    """
    if info.traits is not None:
        return info.traits
    name, params = info.spec.attack, info.spec.attack_params
    if name in DECLARED:
        return DECLARED[name].traits_under(params)
    prefix, _, rest = name.rpartition(":")
    facts = declared_libraries.FACTS.get(prefix, {}).get(rest)
    return resolved(facts.traits if facts else Traits(), name, dlr_classes(params))


def unusual_params(spec: CellSpec) -> dict[str, Any]:
    """Returns the parameters of a cell's attack without which its name would mislead.

    Those that differ from the defaults, such as AutoAttack's with fewer steps; of a library's
    attack all, as its defaults are the library's.
    """
    attack = DECLARED.get(spec.attack)
    if attack is None or attack.library:
        return dict(spec.attack_params)
    usual = parse_params(attack, {}).model_dump(mode="json")
    return {k: v for k, v in spec.attack_params.items() if k not in usual or usual[k] != v}
