"""From a recipe file to a checkpoint folder."""

from __future__ import annotations

import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

import bench
from bench.core.errors import UserError
from bench.core.spec_file import read_spec
from bench.data.images import Images
from bench.data.load import load_split
from bench.models import Classifier
from bench.train.recipe import Recipe
from bench.train.score import clean_accuracy
from bench.train.trainer import Progress, Trainer, to_pixels
from bench.zoo import Card, Checkpoint, CleanAccuracy, save_checkpoint

SCORING_DRAWS = 5
SCORING_BATCH = 128


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe; raises ``UserError`` naming the file and the key that is wrong."""
    return read_spec(path, Recipe, "a training recipe")


def train_checkpoint(
    recipe: Recipe,
    out: Path,
    data_root: Path | None,
    report: Callable[[Progress], None],
    device: str = "cpu",
    compiled: bool = True,
) -> Checkpoint:
    """Trains a recipe, scores it on the test split and writes ``out/NAME``.

    A killed run is taken up again at its last finished epoch, from ``out/NAME/train_state.pt``,
    which is removed at the end.

    Raises:
        UserError: When the data does not fit the recipe, the state file is of another recipe or
            damaged, or the loss or a weight becomes NaN or infinite.
    """
    folder = out / recipe.name
    state_file = folder / "train_state.pt"
    train, test = (load_split(recipe.dataset, s, data_root) for s in ("train", "test"))
    _check_fit(recipe, train)
    _check_fit(recipe, test)
    if len(train.x) < recipe.batch_size:
        raise UserError(
            f"{recipe.dataset}: its {len(train.x)} training images are less than one batch of "
            f"{recipe.batch_size}; lower batch_size"
        )
    x, y = torch.from_numpy(train.x.copy()), torch.from_numpy(train.y.copy())
    trainer = Trainer(recipe, x, y, state_file, device, compiled)
    model = trainer.run(report).to(memory_format=torch.contiguous_format)
    accuracy = _score(recipe, model, test, device)
    checkpoint = save_checkpoint(folder, model.net, _card(recipe, accuracy, device))
    state_file.unlink(missing_ok=True)
    return checkpoint


def _check_fit(recipe: Recipe, data: Images) -> None:
    model = recipe.model
    expected, found = (model.channels, model.size, model.size), data.x.shape[1:]
    if found != expected:
        raise UserError(
            f"{recipe.dataset}: images are {found}, the recipe's model takes {expected}"
        )
    top = int(data.y.max(initial=0))
    if top >= model.classes:
        raise UserError(
            f"{recipe.dataset}: has label {top}, the recipe's model has {model.classes} classes"
        )


def _score(recipe: Recipe, model: Classifier, test: Images, device: str) -> CleanAccuracy:
    norm = recipe.model.norm
    n_draws = SCORING_DRAWS if norm.stochastic else 1
    x = to_pixels(torch.from_numpy(test.x.copy())).to(device)
    y = torch.from_numpy(test.y.copy()).to(device)
    whole = norm.batch_dependent
    accuracy = clean_accuracy(model, x, y, SCORING_BATCH, n_draws, whole_batch=whole)
    return CleanAccuracy(
        value=round(accuracy, 6),
        n=len(x),
        split=f"{recipe.dataset} test",
        batch_size=SCORING_BATCH if whole else None,
        n_draws=n_draws,
    )


def _card(recipe: Recipe, accuracy: CleanAccuracy, device: str) -> Card:
    return Card(
        name=recipe.name,
        model=recipe.model,
        dataset=recipe.dataset,
        training=recipe.kind,
        recipe=recipe.model_dump(mode="json", exclude={"name", "model"}, exclude_none=True),
        seed=recipe.seed,
        epochs=recipe.epochs,
        clean_accuracy=accuracy,
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "rbench": bench.__version__,
        },
        trained=f"{datetime.now(UTC):%Y-%m-%d}, {_machine(device)}",
        sha256="0" * 64,
    )


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, bf16 autocast"
    return f"CPU, {torch.get_num_threads()} threads, bf16 autocast"
