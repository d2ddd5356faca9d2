"""Checkpoints on disk: ``NAME/model.safetensors`` and ``NAME/card.yaml``.

Reading a card does not import torch, which takes seconds; loading weights does.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.checkpoint import Epoch, ModelFacts
from bench.core.errors import MissingCheckpointError, UserError, did_you_mean, message_of
from bench.core.model_spec import ModelSpec
from bench.core.paths import checkpoint_roots, checkpoints_folder, recipes_folder
from bench.core.spec import canonical_json, digest, sha256_file
from bench.store.files import write_atomically
from bench.untrusted.spec_file import read_yaml
from bench.zoo.card import Card, read_card, write_card

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.models import Classifier


WEIGHTS, CARD, HISTORY = "model.safetensors", "card.yaml", "training.csv"
TORCH_SUFFIXES = (".pt", ".pth", ".th", ".tar", ".ckpt", ".bin")
FOREIGN_SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
"""Files of other people's weights that ``rbench zoo import`` reads."""
FILE_ENDINGS = (*FOREIGN_SUFFIXES, ".pt2", ".pkl", ".onnx", ".h5", ".keras", ".npz", ".py")
"""A model's name that ends like this is meant as a file, not as the name of a checkpoint."""
MAX_NAME = 200
"""Characters of a checkpoint's name; file systems allow 255 bytes."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and card; ``load`` reads the weights."""

    folder: Path
    card: Card

    def facts(self) -> ModelFacts:
        """Returns the facts on its card; the weights are not read."""
        card = self.card
        return ModelFacts.of(
            identity(card),
            card.model,
            card.dataset,
            card.training,
            seed=card.seed,
            recipe=digest(card.recipe) if card.recipe else "",
            file_sha256=card.sha256,
        )

    def load(self, stats: str | None = None) -> Classifier:
        """Builds the model in eval mode and loads its weights, strictly.

        Args:
            stats: Inference statistics in place of the card's, ``None`` to keep those. The model's
                ``spec`` tells which are in force.

        Raises:
            UserError: When the weights are missing, truncated, altered, not finite, or do not fit
                the card; or when the card's norm does not fit its network or lacks these stats.
        """
        from bench.models import build_model
        from bench.untrusted.weights import read_safetensors

        path = self.folder / WEIGHTS
        verify_hash(path, self.card)
        spec = self.card.model
        try:
            if stats is not None:
                spec = spec.model_copy(update={"norm": spec.norm.with_stats(stats)})
            model = build_model(spec)
        except UserError as error:
            raise UserError(f"{self.folder / CARD}: {error}") from None
        _load_strict(model.net, read_safetensors(path), path, spec)
        return model.eval()


def identity(card: Card) -> str:
    """Returns the sha256 of everything that decides a checkpoint's logits: weights and model.

    The same weights with another norm, std or power are another model. The inference statistics are
    left out: a cell's identity holds those that are in force.
    """
    model = card.model.model_dump(mode="json")
    del model["norm"]["stats"]
    said = canonical_json({"weights": card.sha256, "model": model})
    return hashlib.sha256(said.encode()).hexdigest()


def verify_hash(path: Path, card: Card) -> None:
    """Raises ``UserError`` unless the weights have the SHA-256 on the card."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected weights of sha256 {card.sha256}")
    found = sha256_file(path)
    if found != card.sha256:
        raise UserError(
            f"{path}: expected sha256 {card.sha256} (from {CARD}), found {found}; the file is "
            "truncated or altered: restore it, for example from git"
        )


def _load_strict(
    net: nn.Module, weights: Mapping[str, Tensor], path: Path, spec: ModelSpec
) -> None:
    expected = net.state_dict()
    missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    types = [
        f"{name} is {_type(weights[name])}, expected {_type(expected[name])}"
        for name in expected
        if name in weights and weights[name].dtype != expected[name].dtype
    ]
    if missing or extra or shapes or types:
        found = {"missing": missing, "unexpected": extra, "shapes": shapes, "types": types}
        parts = [_some(name, some) for name, some in found.items()]
        what = "; ".join(filter(None, parts))
        built = f"{spec.arch} with norm {spec.norm.label()}"
        raise UserError(
            f"{path}: the weights do not fit {built}, which {CARD} names ({what}); correct the "
            "card, or restore the weights that belong to it"
        )
    refuse_not_finite(weights, str(path), "restore the file or train again")
    net.load_state_dict(dict(weights), strict=True)


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _some(what: str, found: list[str]) -> str:
    """Returns ``"2 missing: a, b"``, cut after three."""
    return f"{len(found)} {what}: {', '.join(found[:3])}{', ...' * (len(found) > 3)}" * bool(found)


def refuse_not_finite(weights: Mapping[str, Tensor], what: str, advice: str) -> None:
    """Raises ``UserError``, with some names, if tensors hold NaN or infinite values."""
    bad = [k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise UserError(f"{what}: {_some('tensors with NaN or infinite values', bad)}; {advice}")


def save_checkpoint(folder: Path, net: nn.Module, card: Card) -> Checkpoint:
    """Writes weights and card; the card's ``sha256`` is filled in here.

    Each file is replaced atomically. A kill between the two leaves a pair that loading refuses.

    Raises:
        UserError: When a weight is NaN or infinite, in which case nothing is written; or when a
            file cannot be written.
    """
    from safetensors.torch import save

    weights = {k: v.detach().cpu().contiguous().clone() for k, v in net.state_dict().items()}
    refuse_not_finite(
        weights, f"{folder}: not saved", "the training diverged; lower lr or set clip"
    )
    content = save(weights)
    card = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    write_atomically(folder / WEIGHTS, content)
    write_card(folder / CARD, card)
    return Checkpoint(folder, card)


def checkpoint_folder(root: Path, name: str) -> Path:
    """Returns the folder of a checkpoint by name, whether it exists or not.

    Raises:
        UserError: When the name leads out of the folder of checkpoints.
    """
    plain = Path(name).name == name and name not in (".", "..") and len(name) <= MAX_NAME
    folders = [folder / name for folder in checkpoint_roots(root)] if plain else []
    there = next((folder for folder in folders if folder.is_dir()), None)
    if there is None and name.endswith(FILE_ENDINGS) and len(name) <= MAX_NAME:
        raise UserError(
            f"checkpoint '{name}': expected the name of a folder in checkpoints, found a file; "
            f"{file_remedy(name)}"
        )
    if not plain:
        raise UserError(
            f"checkpoint '{name[:MAX_NAME]}': expected the name of a folder in checkpoints; one "
            "elsewhere is file:PATH"
        )
    return there or folders[0]


def file_remedy(name: str) -> str:
    """Returns how a model in a file of one's own is used: by import, or as Python code."""
    if name.endswith(".py"):
        return "name the function in it that returns the network, python:MODULE:FUNCTION"
    if name.endswith(FOREIGN_SUFFIXES):
        return (
            f"bring it in once with: rbench zoo import {name} --arch ... --norm ... --dataset ...; "
            "for a network that rbench list models lacks, write a function that builds and loads "
            "it, and name that as python:MODULE:FUNCTION"
        )
    return "write a function that builds and loads it, and name that as python:MODULE:FUNCTION"


def open_checkpoint(folder: Path) -> Checkpoint:
    """Reads a checkpoint's card.

    Raises:
        MissingCheckpointError: When there is no such folder.
        UserError: When the card is missing or invalid.
    """
    if not folder.is_dir():
        hint = _training(folder) or did_you_mean(folder.name, list_checkpoints(folder.parent))
        raise MissingCheckpointError(f"{folder}: no such checkpoint{hint}")
    return Checkpoint(folder, read_card(folder / CARD))


def _training(folder: Path) -> str:
    """Returns how a recipe makes a checkpoint that is not there; empty where none does."""
    root, name = folder.parent, folder.name
    if name not in _recipe_names(recipes_folder(root)):
        return ""
    out = "" if root == checkpoints_folder() else f" --out {root}"
    return f"; its recipe makes it: rbench train {name}{out}"


@lru_cache(maxsize=4)
def _recipe_names(folder: Path) -> frozenset[str]:
    """Returns the names of the recipes in a folder; files that cannot be read have none."""
    found: list[object] = []
    for path in folder.rglob("*.yaml"):
        try:
            data = read_yaml(path, "training recipes")
        except UserError:  # rbench train and rbench list recipes report it
            continue
        parts = data.get("recipes", [data]) if isinstance(data, Mapping) else []
        found += [one.get("name") for one in parts if isinstance(one, Mapping)]
    return frozenset(name for name in found if isinstance(name, str))


def list_checkpoints(root: Path) -> list[str]:
    """Returns the names of the checkpoints in a folder, sorted."""
    return [folder.name for folder in list_folders(checkpoint_roots(root))]


def list_folders(roots: Iterable[Path], files: Sequence[str] = (CARD,)) -> list[Path]:
    """Returns the checkpoints in some folders, sorted by name; of equal names, the first.

    Args:
        roots: Folders of checkpoints; may be missing.
        files: A folder that contains one of these is a checkpoint.
    """
    found: dict[str, Path] = {}
    for root in roots:
        for path in (path for file in files for path in root.glob(f"*/{file}")):
            found.setdefault(path.parent.name, path.parent)
    return [found[name] for name in sorted(found)]


def read_history(folder: Path) -> tuple[Epoch, ...]:
    """Reads a checkpoint's ``training.csv``; returns no epochs if there is none.

    Raises:
        UserError: When the file lacks a column or contains anything but numbers.
    """
    path = folder / HISTORY
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return tuple(
                Epoch(
                    epoch=int(line["epoch"]),
                    loss=float(line["loss"]),
                    accuracy=float(line["accuracy"]),
                    test_accuracy=float(line["test_accuracy"]) if "test_accuracy" in line else None,
                )
                for line in csv.DictReader(handle)
            )
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path}: expected the columns epoch, loss, accuracy and test_accuracy with a number "
            f"in each line, as a training writes them ({message_of(error, 80)}); "
            "remove the file, or train again"
        ) from None
