"""The attacks by name. Listing them imports neither torch nor any attack library."""

from __future__ import annotations

from bench.attacks.base import Attack
from bench.core.errors import UserError, did_you_mean
from bench.core.registry import Registry

LIBRARY_PREFIX = "torchattacks:"
"""``torchattacks:NAME`` also resolves classes of that library that are not listed."""

ATTACKS: Registry[Attack] = Registry("attack")
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
ATTACKS.add_lazy("pyautoattack", "bench.attacks.adapters.autoattack:PYAUTOATTACK")
for _name in ("FGSM", "BIM", "PGD", "MIFGSM", "CW", "DeepFool"):
    _target = f"bench.attacks.adapters.torchattacks:{_name.upper()}"
    ATTACKS.add_lazy(LIBRARY_PREFIX + _name, _target)


def get_attack(name: str) -> Attack:
    """Returns a registered attack, or any usable class of torchattacks as ``torchattacks:NAME``.

    Raises:
        UserError: For an unknown name, with the nearest one; for a class of torchattacks that
            cannot serve here, with the reason.
    """
    if name in ATTACKS:
        return ATTACKS.get(name)
    if name.startswith(LIBRARY_PREFIX):
        from bench.attacks.adapters.torchattacks_named import named_attack

        return named_attack(name.removeprefix(LIBRARY_PREFIX))
    same = [known for known in ATTACKS if known.rpartition(":")[2].lower() == name.lower()]
    hint = f"; did you mean '{same[0]}'?" if same else did_you_mean(name, ATTACKS)
    raise UserError(f"unknown attack '{name}'{hint}")
