"""Import of weights that others trained: a checkpoint with a card and a measured accuracy."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

import bench
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.model_spec import ARCH_TWINS, ModelSpec
from bench.core.paths import Where
from bench.core.spec import parse_number
from bench.data.images import Dataset
from bench.data.inputs import InputScale, scales_in_use
from bench.data.named import get_dataset
from bench.data.slice import Slice, take_slice
from bench.metrics import wilson
from bench.models import Classifier
from bench.train.quality import check_images, score_clean, score_slice
from bench.untrusted.spec_file import check_spec
from bench.untrusted.yaml_text import YamlError, load
from bench.zoo import Card, save_checkpoint
from bench.zoo.checkpoint import CARD, WEIGHTS
from bench.zoo.foreign_names import parse_renames
from bench.zoo.imported import (
    ForeignFile,
    load_foreign,
    own_scale,
    read_foreign,
)

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
        drops: Patterns of entries to leave out.
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
    drops: tuple[str, ...] = ()
    score_on: str | None = None
    force: bool = False


N_TRIED = 2_000
"""Images on which the scales in use are tried."""


@dataclass(frozen=True)
class Tried:
    """The accuracy of a network, or of its twin, with one input scale.

    Attributes:
        scale: Mean and std, and who uses them.
        accuracy: Clean accuracy in [0, 1].
        n: Number of images.
    """

    scale: InputScale
    accuracy: float
    n: int

    def __str__(self) -> str:
        """Returns ``66.50 % with mean 0.286, std 0.353 (Fashion-MNIST's own)``."""
        return f"{self.accuracy:.2%} with {self.scale} ({self.scale.known_from})"

    def beats(self, other: Tried) -> bool:
        """Returns whether the 95 % intervals of both lie apart."""
        low, _ = wilson(self.accuracy * self.n, self.n)
        _, high = wilson(other.accuracy * other.n, other.n)
        return low > high


@dataclass(frozen=True)
class Import:
    """A new checkpoint, and what was assumed for it.

    Attributes:
        folder: Of the checkpoint.
        card: Its card.
        scale: Its input's mean and std, and where they come from.
        tried: The scales that were tried, the best first; empty if they were known.
        notes: What was left out or converted, one sentence each.
        twin: Another architecture that the same weights fit, and its accuracy.
    """

    folder: Path
    card: Card
    scale: InputScale
    tried: tuple[Tried, ...]
    notes: tuple[str, ...]
    twin: tuple[str, float] | None = None

    def rivals(self) -> tuple[Tried, ...]:
        """Returns the scales that are not shown to be worse than the one taken."""
        return tuple(one for one in self.tried[1:] if not self.tried[0].beats(one))


def import_checkpoint(request: ImportRequest, where: Where) -> Import:
    """Imports a file of weights and scores it.

    Mean and std are those given, else those in the file, else the best of those in use.

    Raises:
        UserError: When the name is taken, the file cannot be read, its weights do not fit the
            model, or the images that it is scored on are missing or do not fit.
    """
    folder = _new_folder(request, where.checkpoints)
    spec, scales = _model_spec(request, where)
    file = read_foreign(request.file, request.key)
    scales = _from_file(request, file, spec.channels) or scales
    spec = _with_scale(spec, scales[0])
    imported = load_foreign(file, spec, parse_renames(request.renames), request.drops)
    data = DataSpec(name=request.score_on or request.dataset)
    images, split = take_slice(data, where.data_root), f"{data.name} {data.split}"
    check_images(spec, images, split)
    net = imported.model.to(where.device).net
    tried = _try(Classifier(spec, net).to(where.device).eval(), scales, images)
    scale = tried[0].scale if tried else scales[0]
    spec = _with_scale(spec, scale)
    model = Classifier(spec, net).to(where.device).eval()
    notes = (*imported.notes, *_conflict(file, scale))
    card = Card(
        name=folder.name,
        model=spec,
        dataset=request.dataset,
        training=f"foreign: {request.file.name} (sha256 {file.sha256})",
        clean_accuracy=score_slice(model, images, split),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "rbench": bench.__version__,
        },
        sha256="0" * 64,
        notes=_notes(file, notes, scale, tried),
    )
    card = save_checkpoint(folder, net, card).card
    twin = _score_twin(file, spec, request, images, where)
    return Import(folder, card, scale, tried, notes, twin)


def _with_scale(spec: ModelSpec, scale: InputScale) -> ModelSpec:
    return spec.model_copy(update={"mean": scale.mean, "std": scale.std})


def _try(model: Classifier, scales: Sequence[InputScale], images: Slice) -> tuple[Tried, ...]:
    """Scores a network with each scale, on images from all over the slice; the best first.

    Returns nothing where there is no choice.
    """
    if len(scales) < 2:
        return ()
    step = -(-len(images.y) // N_TRIED)  # a slice may be sorted by class
    x, y = torch.from_numpy(images.x[::step]), torch.from_numpy(images.y[::step])
    device = model.mean.device
    found = []
    for scale in scales:
        spec = _with_scale(model.spec, scale)  # type: ignore[arg-type]
        scaled = Classifier(spec, model.net).to(device).eval()
        found.append(Tried(scale, score_clean(scaled, x, y, "").value, len(y)))
    return tuple(sorted(found, key=lambda one: -one.accuracy))  # of equals, the more usual first


def _score_twin(
    file: ForeignFile, spec: ModelSpec, request: ImportRequest, images: Slice, where: Where
) -> tuple[str, float] | None:
    """Returns the network that the same names and shapes fit too, and its clean accuracy."""
    arch = ARCH_TWINS.get(spec.arch)
    if arch is None:
        return None
    other = spec.model_copy(update={"arch": arch})
    model = load_foreign(file, other, parse_renames(request.renames), request.drops).model
    return arch, score_slice(model.to(where.device), images, "").value


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


def _model_spec(request: ImportRequest, where: Where) -> tuple[ModelSpec, tuple[InputScale, ...]]:
    """Returns the network that a request describes, and the input scales that it may have.

    Raises:
        UserError: With everything that is wrong with the request, one line each.
    """
    problems: list[str] = []
    fields: dict[str, object] = {"arch": request.arch, "shortcut": request.shortcut}
    scales: tuple[InputScale, ...] = ()
    try:
        fields["norm"] = _norm(request.norm)
    except UserError as error:
        problems.append(str(error))
    try:
        dataset = get_dataset(request.dataset, where.data_root)
        scales = _scales(request, dataset)
        fields |= {
            "channels": request.channels or dataset.channels,
            "size": request.size or dataset.size,
            "classes": request.classes or dataset.classes,
            "mean": scales[0].mean,
            "std": scales[0].std,
        }
    except UserError as error:
        problems.append(str(error))
    try:
        spec = check_spec(_STAND_IN | fields, ModelSpec, "the model")
    except UserError as error:  # there is no file
        problems.append(str(error).replace("the whole file: ", ""))
    if problems:
        raise UserError("\n  ".join(problems))
    return spec, scales


_STAND_IN = {"norm": "bn", "channels": 1, "size": 28, "classes": 10, "mean": [0], "std": [1]}
"""Keeps the place of what is wrong in itself, so that the rest is checked in the same go."""


def _norm(text: str) -> object:
    try:
        return load(text)
    except YamlError:
        raise UserError(
            f"--norm: expected a name or for example '{{name: gn, groups: 8}}', found '{text}'"
        ) from None


def _scales(request: ImportRequest, dataset: Dataset) -> tuple[InputScale, ...]:
    """Returns the mean and std that were given, or those in use for the data set."""
    mean = None if request.mean is None else _numbers("--mean", request.mean)
    std = None if request.std is None else _numbers("--std", request.std)
    if mean is not None and std is not None:
        return (InputScale(mean, std, "as given by --mean and --std"),)
    return scales_in_use(dataset, request.channels or dataset.channels, mean, std)


def _from_file(request: ImportRequest, file: ForeignFile, channels: int) -> tuple[InputScale, ...]:
    """Returns the mean and std in the file, unless one of them was given."""
    own = own_scale(file, channels) if request.mean is None and request.std is None else None
    return (InputScale(own.mean, own.std, own.note),) if own else ()


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(parse_number(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option}: {error}; separate channels by commas") from None


def _notes(
    file: ForeignFile, notes: Sequence[str], scale: InputScale, tried: Sequence[Tried]
) -> str:
    """Returns the card's notes: where mean and std come from, and how the file was converted."""
    lines = [f"Weights found under '{file.key}'."] if file.key else []
    if tried:
        lines.append(
            f"Input mean and std: the best of those in use, on {tried[0].n} images: "
            f"{'; '.join(map(str, tried))}."
        )
    else:
        lines.append(f"Input mean and std: {scale.known_from}.")
    return " ".join([*lines, *notes, f"Imported {datetime.now(UTC):%Y-%m-%d}."])


def _conflict(file: ForeignFile, scale: InputScale) -> list[str]:
    """Returns a sentence about a mean and std in the file, where others were given."""
    own = own_scale(file, len(scale.mean))
    if own is None or own.agrees(scale.mean, scale.std):
        return []
    other = InputScale(own.mean, own.std, own.note)
    return [f"Not taken, as others were given: {other}, {own.note}."]
