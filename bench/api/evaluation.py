"""From a model in memory and images to the cells of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from torch import nn

from bench.api.result import AttackResult, EvaluationResult
from bench.core.cell import CellSpec, DataSpec
from bench.core.errors import UserError
from bench.core.threat import ThreatModel
from bench.data import Slice
from bench.models import Classifier
from bench.run.catalog import attack_info
from bench.run.cell import run_cell
from bench.run.in_memory import as_slice, as_target, evaluation_mode, state_hash
from bench.run.target import Target, stats_in_force
from bench.suite import AttackEntry, AttackInfo
from bench.suite.spec import repeated_labels

IN_MEMORY = "in-memory"
"""What the checkpoint and the data set of an evaluation without files are called."""

AttackLike = str | tuple[str, Mapping[str, Any]] | Mapping[str, Any]
"""A name, a name with parameters, or ``{"attack": ..., "params": ..., "label": ...}`` with the
keys of an attack in a suite."""


def evaluate(
    model: nn.Module,
    x: Any,
    y: Any,
    threat: str | ThreatModel | Mapping[str, Any] = "linf:8/255",
    attacks: Sequence[AttackLike] = ("pgd", "autoattack"),
    *,
    stochastic: bool | None = None,
    batch_dependent: bool | None = None,
    batch_size: int = 128,
    eot_iter: int = 1,
    n_draws: int = 20,
    seed: int = 0,
    device: str | None = None,
) -> EvaluationResult:
    """Attacks a model and returns verified, per-image results, as a suite would store them.

    The model is evaluated in eval mode; afterwards every layer is in the mode it was in.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, classes); it normalizes its own
            input.
        x: Images (n, c, h, w), tensor or array: uint8 in 0..255, or floats in [0, 1].
        y: Labels (n,), whole numbers from 0.
        threat: ``"linf:8/255"``, ``"l2:0.5"``, or a threat model as suites have it.
        attacks: Names, ``(name, params)``, or ``{"attack", "params", "label", "eot_iter"}``.
        stochastic: Whether passes draw at random; ``None`` to find out from a few images.
        batch_dependent: Whether images of a batch share statistics; ``None`` to find out the same
            way. Such a model is attacked and scored in fixed batches.
        batch_size: Images that are attacked and scored together.
        eot_iter: Draws over which gradients are averaged, at least 1, for a stochastic model.
        n_draws: Fresh draws that score each image of a stochastic model.
        seed: Of everything random; the model's own draws are seeded too, where they come from the
            global generators.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``; ``None`` stays where the model is.

    Raises:
        UserError: When an argument does not fit; when an attack drops images from the batch of a
            batch-dependent model. An attack that fails is no error: its cell is incomplete.
    """
    ball = _threat_model(threat)
    if ball.eps_space == "normalized" and not isinstance(model, Classifier):
        raise UserError("threat: eps in normalized units needs the model's std; give it in pixels")
    entries = _entries(attacks)
    infos = [attack_info(entry.attack, entry.params, ball.norm) for entry in entries]
    data = as_slice(x, y)
    cells: dict[str, AttackResult] = {}
    with evaluation_mode(model, device):
        target = as_target(model, data, stochastic, batch_dependent, seed)
        common = _common(model, data, ball) | {"batch_size": batch_size, "seed": seed}
        common["n_draws"] = n_draws if target.stochastic else 1
        specs = [
            _spec(common, entry, info, target, eot_iter)
            for entry, info in zip(entries, infos, strict=True)
        ]
        for entry, spec in zip(entries, specs, strict=True):
            info, rows = run_cell(spec, target, data)
            cells[entry.label] = AttackResult(info, tuple(rows))
    return EvaluationResult(cells)


def _threat_model(threat: str | ThreatModel | Mapping[str, Any]) -> ThreatModel:
    if isinstance(threat, ThreatModel):
        return threat
    if isinstance(threat, str):
        norm, colon, eps = threat.partition(":")
        if not colon:
            raise UserError(f"threat: expected for example linf:8/255 or l2:0.5, found '{threat}'")
        threat = {"norm": norm.strip(), "eps": eps}
    try:
        return ThreatModel.model_validate(dict(threat))
    except ValidationError as error:
        raise UserError(f"threat: {_first(error)}") from None


def _entries(attacks: Sequence[AttackLike]) -> list[AttackEntry]:
    if isinstance(attacks, str) or not attacks:
        raise UserError(f"attacks: expected a list such as ['pgd'], found {attacks!r}")
    entries = []
    for i, one in enumerate(attacks):
        value = {"attack": one[0], "params": dict(one[1])} if isinstance(one, tuple) else one
        try:
            entries.append(AttackEntry.model_validate(value))
        except ValidationError as error:
            raise UserError(f"attacks[{i}]: {_first(error)}") from None
    for later, first in repeated_labels(entries):
        raise UserError(
            f"attacks[{later}]: '{entries[later].label}' is the label of attacks[{first}] too; "
            "give it a label of its own"
        )
    return entries


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    simple = isinstance(first["input"], str | int | float) and "found" not in text
    return f"{where}: " * bool(where) + text + f", found {first['input']!r}" * simple


def _common(model: nn.Module, data: Slice, ball: ThreatModel) -> dict[str, Any]:
    """Returns the part of the cells' identity that does not depend on the attack."""
    stats = stats_in_force(model)
    return {
        "checkpoint": IN_MEMORY,
        "sha256": state_hash(model),
        "stats": stats[0] if len(stats) == 1 else None,
        "data": DataSpec(name=IN_MEMORY, limit=len(data.y)),
        "data_hash": data.sha256,
        "threat_model": ball,
        "protocol": "white_box",
    }


def _spec(
    common: Mapping[str, Any], entry: AttackEntry, info: AttackInfo, target: Target, eot_iter: int
) -> CellSpec:
    if target.batch_dependent and not info.keeps_batch:
        raise UserError(
            f"attack '{entry.attack}' drops samples from the batch, which changes a "
            "batch-dependent model; choose another attack"
        )
    try:
        return CellSpec(
            **common,
            attack=entry.attack,
            attack_version=info.version,
            attack_params=info.params,
            eot_iter=(entry.eot_iter or eot_iter) if target.stochastic else 1,
        )
    except ValidationError as error:
        raise UserError(_first(error)) from None
