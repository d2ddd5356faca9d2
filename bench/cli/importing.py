"""``rbench zoo import``: a foreign file becomes a checkpoint with a card and a number."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console

import bench
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.core.paths import checkpoints_folder
from bench.core.spec import parse_number
from bench.data import get_dataset, take_slice
from bench.evaluation.device import pick_device
from bench.train.quality import score_slice
from bench.untrusted.spec_file import check_spec
from bench.untrusted.yaml_text import YamlError, load
from bench.zoo import Card, save_checkpoint
from bench.zoo.checkpoint import CARD, WEIGHTS
from bench.zoo.imported import ForeignFile, Imported, load_foreign, parse_renames, read_foreign

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class ImportRequest:
    """What ``rbench zoo import`` was asked for; ``None`` leaves it to the data set or the file.

    Attributes:
        file: The weights.
        arch: Architecture, as ``rbench list models`` names it.
        norm: A norm's name, or its specification in YAML.
        dataset: What the model was trained on.
        name: Of the checkpoint.
        channels: Of its input.
        size: Height and width of its input.
        classes: Number of classes.
        mean: Per-channel mean of its input normalization, separated by commas.
        std: The same of the standard deviation.
        shortcut: ``pad`` or ``conv``.
        key: Where in the file the state dict is.
        renames: ``OLD=NEW`` pairs of prefixes.
        score_on: A data set to score on, in place of ``dataset``.
        force: Whether a checkpoint of that name may be replaced.
        checkpoints: Folder of checkpoints.
        data_root: Where data sets lie.
        device: Where to score.
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
    checkpoints: Path | None = None
    data_root: Path | None = None
    device: str = "cpu"


def import_command(console: Console, request: ImportRequest) -> None:
    """Imports a foreign file, scores it, and says what it reached.

    Raises:
        UserError: When the name is taken, the file is not what it should be, its weights do not fit
            the model, or the images it is scored on are missing or do not fit.
    """
    folder = _new_folder(request)
    spec = _model_spec(request)
    file = read_foreign(request.file, request.key)
    imported = load_foreign(file, spec, parse_renames(request.renames))
    where = DataSpec(name=request.score_on or request.dataset)
    data = take_slice(where, request.data_root)
    model = imported.model.to(pick_device(request.device))
    clean = score_slice(model, data, f"{where.name} {where.split}")
    card = Card(
        name=folder.name,
        model=spec,
        dataset=request.dataset,
        training=f"foreign: {request.file.name} (sha256 {file.sha256})",
        clean_accuracy=clean,
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "rbench": bench.__version__,
        },
        sha256="0" * 64,
        notes=_notes(request, file, imported),
    )
    save_checkpoint(folder, model.net, card)
    reached = f"clean accuracy {clean.value:.2%} on {clean.n} images ({clean.split})"
    console.print(f"{folder}: {reached}", highlight=False, markup=False, soft_wrap=True)
    if clean.value < 2 / spec.classes:
        doubt = "that is near chance: do norm, mean, std and the order of classes belong to it?"
        console.print(doubt, style="yellow", highlight=False, soft_wrap=True)


def _new_folder(request: ImportRequest) -> Path:
    plain = request.file.name.partition(".")[0].lower()
    name = request.name or re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")
    if not _NAME.fullmatch(name):
        raise UserError(f"--name: expected small letters, digits, '.', '_' and '-', found '{name}'")
    folder = checkpoints_folder(request.checkpoints) / name
    taken = any((folder / file).exists() for file in (CARD, WEIGHTS))
    if taken and not request.force:
        raise UserError(f"{folder}: there is a checkpoint already; choose a --name, or --force")
    return folder


def _model_spec(request: ImportRequest) -> ModelSpec:
    dataset = get_dataset(request.dataset, request.data_root)
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
    given = [f"--{k}" for k in ("mean", "std") if getattr(request, k) is not None]
    source = f"as given by {' and '.join(given)}" if given else ""
    if len(given) < 2:
        usual = f"usual for {request.dataset}, which the file does not confirm"
        source = f"{source}, the other {usual}" if given else usual
    lines = [f"Input mean and std: {source}.", *imported.notes]
    if file.key:
        lines.insert(0, f"Weights found under '{file.key}'.")
    return " ".join([*lines, f"Imported {datetime.now(UTC):%Y-%m-%d}."])
