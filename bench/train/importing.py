"""Import of weights that others trained: a checkpoint with a card and a measured accuracy."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

import bench
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.core.paths import Where
from bench.core.spec import parse_number
from bench.data.named import get_dataset
from bench.data.slice import take_slice
from bench.train.quality import score_slice
from bench.untrusted.spec_file import check_spec
from bench.untrusted.yaml_text import YamlError, load
from bench.zoo import Card, save_checkpoint
from bench.zoo.checkpoint import CARD, WEIGHTS
from bench.zoo.imported import ForeignFile, Imported, load_foreign, parse_renames, read_foreign

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class ImportRequest:
    """A file of weights, and what its owner says about it; ``None`` takes it from the data set.

    Attributes:
        file: The weights.
        arch: An architecture, as ``rbench list models`` names it.
        norm: A norm's name, or its specification in YAML.
        dataset: The data set that the model was trained on.
        name: The checkpoint's name; ``None`` for the file's.
        channels: Input channels.
        size: Input height and width in pixels.
        classes: Number of classes.
        mean: Per-channel mean of the input normalization, separated by commas.
        std: Per-channel standard deviation, likewise.
        shortcut: ``pad`` or ``conv``.
        key: Where in the file the state dict is; ``None`` if it holds only one.
        renames: ``OLD=NEW`` prefixes of parameter names.
        score_on: Data set to score on; ``None`` for ``dataset``.
        force: Whether a checkpoint of the same name is replaced.
    """

    file: Path
    arch: str
    norm: str
    dataset: str
    name: str | None = None
    channels: int | None = None
    size: int | None = None
    classes: int | None = None
    mean: str | None = None
    std: str | None = None
    shortcut: str = "pad"
    key: str | None = None
    renames: tuple[str, ...] = ()
    score_on: str | None = None
    force: bool = False


def import_checkpoint(request: ImportRequest, where: Where) -> tuple[Path, Card]:
    """Imports a file of weights and scores it; returns the new checkpoint's folder and card.

    Raises:
        UserError: When the name is taken, the file cannot be read, its weights do not fit the
            model, or the images that it is scored on are missing or do not fit.
    """
    folder = _new_folder(request, where.checkpoints)
    spec = _model_spec(request, where)
    file = read_foreign(request.file, request.key)
    imported = load_foreign(file, spec, parse_renames(request.renames))
    data = DataSpec(name=request.score_on or request.dataset)
    images = take_slice(data, where.data_root)
    model = imported.model.to(where.device)
    card = Card(
        name=folder.name,
        model=spec,
        dataset=request.dataset,
        training=f"foreign: {request.file.name} (sha256 {file.sha256})",
        clean_accuracy=score_slice(model, images, f"{data.name} {data.split}"),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "rbench": bench.__version__,
        },
        sha256="0" * 64,
        notes=_notes(request, file, imported),
    )
    save_checkpoint(folder, model.net, card)
    return folder, card


def _new_folder(request: ImportRequest, checkpoints: Path) -> Path:
    """Returns the checkpoint's folder; raises ``UserError`` if its name is bad or taken."""
    plain = request.file.name.partition(".")[0].lower()
    name = request.name or re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")
    if not _NAME.fullmatch(name):
        raise UserError(f"--name: expected small letters, digits, '.', '_' and '-', found '{name}'")
    folder = checkpoints / name
    taken = any((folder / file).exists() for file in (CARD, WEIGHTS))
    if taken and not request.force:
        raise UserError(f"{folder}: there is a checkpoint already; choose a --name, or --force")
    return folder


def _model_spec(request: ImportRequest, where: Where) -> ModelSpec:
    dataset = get_dataset(request.dataset, where.data_root)
    try:
        norm = load(request.norm)
    except YamlError:
        raise UserError(
            f"--norm: expected a name or for example '{{name: gn, groups: 8}}', found "
            f"'{request.norm}'"
        ) from None
    fields = {
        "arch": request.arch,
        "norm": norm,
        "channels": request.channels or dataset.channels,
        "size": request.size or dataset.size,
        "classes": request.classes or dataset.classes,
        "mean": dataset.mean if request.mean is None else _numbers("--mean", request.mean),
        "std": dataset.std if request.std is None else _numbers("--std", request.std),
        "shortcut": request.shortcut,
    }
    try:
        return check_spec(fields, ModelSpec, "the model")
    except UserError as error:
        raise UserError(str(error).replace("the whole file: ", "")) from None  # there is no file


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(parse_number(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option}: {error}; separate channels by commas") from None


def _notes(request: ImportRequest, file: ForeignFile, imported: Imported) -> str:
    """Returns the card's notes: where mean and std come from, and how the file was converted."""
    given = [f"--{k}" for k in ("mean", "std") if getattr(request, k) is not None]
    source = f"as given by {' and '.join(given)}" if given else ""
    if len(given) < 2:
        usual = f"usual for {request.dataset}, which the file does not confirm"
        source = f"{source}, the other {usual}" if given else usual
    lines = [f"Input mean and std: {source}.", *imported.notes]
    if file.key:
        lines.insert(0, f"Weights found under '{file.key}'.")
    return " ".join([*lines, f"Imported {datetime.now(UTC):%Y-%m-%d}."])
