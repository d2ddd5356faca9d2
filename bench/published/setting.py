"""Under what conditions a published number was measured, as data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from bench.core.ball import Norm
from bench.core.spec import Number, Spec

_OF_EPS = re.compile(r"eps/([0-9.]+)")
_FROM_ROW = {"model": "arch", "dataset": "dataset", "eps": "eps", "training": "training"}
"""Which keys of a table's row say something about its setting, and what."""


class AttackSetting(Spec):
    """The attack behind a column.

    Attributes:
        attack: The name of ours that stands for it.
        eps: Its own radius, in place of the table's.
        bounded: Whether it keeps within eps. One that does not counts as a success at any distance.
        params: Those that the paper or its code states, in our words; ``eps/10`` is a share of the
            radius.
    """

    attack: str
    eps: Number | None = None
    bounded: bool = True
    params: dict[str, Any] = Field(default_factory=dict)


class Setting(Spec):
    """Everything known about how a number was measured; empty or ``None`` is not known.

    Attributes:
        dataset: As data sets are named here.
        arch: As architectures are named here.
        training: ``natural``, ``adversarial`` or ``black-box``.
        norm: Of the ball.
        eps: Its radius, in units of ``eps_space``.
        eps_space: ``pixel`` or ``normalized``.
        protocol: In our words.
        stats: Inference statistics.
        batch_size: Images that were attacked and scored together.
        box: What images were clipped to, where it is not [0, 1].
        attack: Of the column; ``None`` where nothing is known of it.
        caveat: What a reader must know of this number, in a sentence.
        n_images: Of the whole test set. The papers say no n, so that this is the most it can be.
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
        layers: What holds for the paper, then for the table.
        exceptions: What holds instead where the row has all values of ``where`` and the column is
            among ``columns``; either may be left out.
        row: The row's keys.
        column: The column.
        attack: Fields of an ``AttackSetting``, if the column has one.
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
    """Returns 0.1 for ``eps/10``, and ``None`` for what is no share of the radius."""
    match = _OF_EPS.fullmatch(value) if isinstance(value, str) else None
    return 1 / float(match[1]) if match else None
