"""Files that do not fit or are damaged, and stores that must be read back exactly."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.core.norm_spec import NormSpec
from bench.core.spec import sha256_file
from bench.evaluation.api import evaluate
from bench.models import build_model
from bench.selftest.attack_cases import THREAT, planted, unclipped
from bench.selftest.case import Case, Outcome, refused
from bench.selftest.exact import Template, images
from bench.store.run_store import RunStore
from bench.zoo import Card, CleanAccuracy, open_checkpoint, save_checkpoint
from bench.zoo.card import write_card
from bench.zoo.checkpoint import CARD, WEIGHTS

Weights = dict[str, Tensor]

SPEC = ModelSpec(
    arch="resnet20",
    norm=NormSpec(name="bn"),
    channels=1,
    size=28,
    classes=10,
    mean=(0.5,),
    std=(0.25,),
)


def _missing(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if name != "fc.bias"}


def _extra(weights: Weights) -> Weights:
    return {**weights, "fc2.bias": torch.zeros(10)}


def _reshaped(weights: Weights) -> Weights:
    return {**weights, "fc.bias": torch.zeros(11)}


def _other_value(weights: Weights) -> Weights:
    return {**weights, "fc.bias": weights["fc.bias"] + 1}


def _tampered(change: Callable[[Weights], Weights], name: str, *, card: bool) -> Outcome:
    """Returns whether a checkpoint with changed weights is refused.

    Args:
        change: Changes the weights.
        name: A word that the refusal must contain.
        card: Whether to update the card's hash, so that only strict loading can notice.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "planted"
        model = build_model(SPEC)
        accuracy = CleanAccuracy(value=0.5, n=1, split="none")
        sound = Card(
            name="planted",
            model=SPEC,
            dataset="fashion-mnist",
            training="natural",
            clean_accuracy=accuracy,
            versions={},
            sha256="0" * 64,
        )
        saved = save_checkpoint(folder, model.net, sound).card
        open_checkpoint(folder).load()
        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
        if card:
            digest = sha256_file(folder / WEIGHTS)
            write_card(folder / CARD, saved.model_copy(update={"sha256": digest}))
        outcome = refused(open_checkpoint(folder).load, name)
        return Outcome(outcome.expected, outcome.got.replace(temporary, "..."), outcome.caught)


def store_round_trip() -> Outcome:
    """Complete and incomplete cells are read back unchanged; damaged ones are refused."""
    data = images(16)
    with planted(unclipped) as name:
        cells = evaluate(Template(), data.x, data.y, THREAT, ["pgd", name]).cells
    with tempfile.TemporaryDirectory() as temporary:
        store = RunStore(Path(temporary))
        for cell in cells.values():
            store.write_cell(cell.info, cell.rows)
        again = [store.read_cell(cell.info.cell_id) for cell in cells.values()]
        same = again == [(cell.info, list(cell.rows)) for cell in cells.values()]
        refusals = [
            file
            for file, cell in zip(("rows.parquet", "info.json"), cells.values(), strict=True)
            if _refuses_half(store, cell.info.cell_id, file)
        ]
    damaged = ", ".join(refusals) or "nothing"
    return Outcome(
        "equal; half of rows.parquet, info.json refused",
        f"{'equal' if same else 'different'}; half of {damaged} refused",
        same and len(refusals) == 2,
    )


def _refuses_half(store: RunStore, cell_id: str, file: str) -> bool:
    """Truncates a stored file to half; returns whether the cell is then refused."""
    path = store.folder / "store" / "cells" / cell_id / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    try:
        store.read_cell(cell_id)
    except UserError:
        return True
    return False


CASES = (
    Case(
        "missing-tensor",
        14,
        "a checkpoint without one of its tensors",
        lambda: _tampered(_missing, "1 missing: fc.bias", card=True),
    ),
    Case(
        "extra-tensor",
        14,
        "a checkpoint with a tensor too many",
        lambda: _tampered(_extra, "1 unexpected: fc2.bias", card=True),
    ),
    Case(
        "reshaped-tensor",
        14,
        "a checkpoint with a tensor of another shape",
        lambda: _tampered(_reshaped, "1 shapes: fc.bias", card=True),
    ),
    Case(
        "altered-tensor",
        14,
        "a checkpoint with another value in a tensor",
        lambda: _tampered(_other_value, "sha256", card=False),
    ),
    Case("store", 16, "stored cells, then the same cut in half", store_round_trip),
)
