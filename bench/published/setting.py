"""The conditions under which a published number was measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from bench.core.ball import Norm
from bench.core.spec import Number, Spec

_OF_EPS = re.compile(r"eps/([0-9.]+)")
_FROM_ROW = {"model": "arch", "dataset": "dataset", "eps": "eps", "training": "training"}
"""Keys of a row that are fields of its setting."""


class AttackSetting(Spec):
    """The attack of a column.

    Attributes:
        attack: The name of the equivalent attack of rbench.
        eps: Radius, where it differs from the table's.
        bounded: Whether it stays within eps; otherwise it counted as a success at any distance.
        params: Parameters that the paper or its code states, by their names in rbench; ``eps/10``
            is a share of the radius.
    """

    attack: str
    eps: Number | None = None
    bounded: bool = True
    params: dict[str, Any] = Field(default_factory=dict)


class Setting(Spec):
    """How a number was measured, as far as known; empty or ``None`` for unknown.

    Attributes:
        dataset: Name of the data set in rbench.
        arch: Name of the architecture in rbench.
        training: ``natural``, ``adversarial`` or ``black-box``.
        norm: Norm of the threat model.
        eps: Radius of the threat model, in units of ``eps_space``.
        eps_space: ``pixel`` or ``normalized``.
        protocol: Name of the protocol in rbench.
        stats: Statistics of normalization layers at inference.
        batch_size: Number of images that were attacked and scored together.
        box: Range that images were clipped to, where it is not [0, 1].
        attack: The attack of the column; ``None`` where it is unknown.
        caveat: A sentence that readers of this number must know.
        n_images: Size of the whole test set, an upper bound on n, which the papers do not state.
    """

    dataset: str = ""
    arch: str = ""
    training: str = ""
    norm: Norm = "linf"
    eps: Number | None = None
    eps_space: Literal["pixel", "normalized"] = "pixel"
    protocol: str = ""
    stats: str | None = None
    batch_size: int | None = None
    box: str = ""
    attack: AttackSetting | None = None
    caveat: str = ""
    n_images: int | None = None


def resolve(
    layers: Iterable[Mapping[str, Any]],
    exceptions: Iterable[Mapping[str, Any]],
    row: Mapping[str, object],
    column: str,
    attack: Mapping[str, Any] | None,
    test_images: Mapping[str, int],
) -> Setting:
    """Returns the setting of one number.

    Args:
        layers: Fields of ``Setting`` of the paper, then of the table.
        exceptions: Fields that hold instead where the row has all values of ``where`` and the
            column is among ``columns``; either may be left out.
        row: Keys of the row.
        column: The column.
        attack: Fields of the column's ``AttackSetting``, if any.
        test_images: Number of test images by data set.
    """
    known: dict[str, Any] = {}
    for layer in layers:
        known.update(layer)
    known.update({ours: row[key] for key, ours in _FROM_ROW.items() if key in row})
    for one in exceptions:
        where, columns = one.get("where", {}), one.get("columns", [column])
        if column in columns and all(row.get(key) == value for key, value in where.items()):
            known.update({k: v for k, v in one.items() if k not in ("where", "columns")})
    known["n_images"] = test_images.get(known.get("dataset", ""))
    if attack is not None:
        stated = dict(attack.get("params", {}))
        stated.update({"c": row["c"]} if attack["attack"] == "cw" and "c" in row else {})
        known["attack"] = {**attack, "params": stated}
        known["eps"] = attack.get("eps", known.get("eps"))
    return Setting.model_validate(known)


def share_of_eps(value: object) -> float | None:
    """Returns the factor of a share of the radius, such as 0.1 for ``eps/10``; else ``None``."""
    match = _OF_EPS.fullmatch(value) if isinstance(value, str) else None
    return 1 / float(match[1]) if match else None
