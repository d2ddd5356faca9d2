"""From a recipe to a checkpoint folder."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import bench
from bench.core.host import today
from bench.models import Classifier
from bench.train.compute import Compute
from bench.train.curves import write_curves
from bench.train.images import scoring_images, training_source
from bench.train.quality import SCORING_DRAWS, score_clean
from bench.train.recipe import Recipe
from bench.train.trainer import Progress, Trainer, choose_layout
from bench.train.world import joined
from bench.zoo import Card, Checkpoint, CleanAccuracy, save_checkpoint

N_VALIDATED = 1024
STATE = "train_state.pt"
CPU = Compute()


def train_checkpoint(
    recipe: Recipe,
    out: Path,
    data_root: Path | None,
    report: Callable[[Progress], None],
    compute: Compute = CPU,
) -> Checkpoint | None:
    """Trains a recipe, scores it on its test images and writes ``out/NAME``.

    A killed run is taken up again at its last finished epoch, from ``out/NAME/train_state.pt``,
    which is removed at the end. Under ``torchrun``, all processes train together, the first of
    them reports, scores and writes, and the others return ``None``.

    Raises:
        UserError: When the data does not fit the recipe, the state file is of another recipe or
            damaged, or the loss or a weight becomes NaN or infinite.
    """
    folder = out / recipe.name
    test = scoring_images(recipe, data_root)
    n_test = len(test.y)
    split = f"{recipe.score_on or recipe.dataset} test"

    def score(model: Classifier, n: int, n_draws: int) -> CleanAccuracy:
        # Evenly spaced, since an image folder is sorted by class.
        images = test.take(np.arange(n, dtype=np.int64) * n_test // n)
        x, y = torch.from_numpy(images.x), torch.from_numpy(images.y)
        return score_clean(model, x, y, split, n_draws=n_draws)

    with joined(compute.device) as (world, own_device):
        source = training_source(recipe, data_root, torch.device(own_device))

        def validate(model: Classifier) -> float:
            return score(model, min(N_VALIDATED, n_test), 1).value

        own = compute.on(own_device)
        layout = world.first(lambda: choose_layout(recipe, source, own))
        device = torch.device(own_device)
        trainer = Trainer(recipe, source, folder / STATE, device, layout, world, validate)
        model = trainer.run(report if world.rank == 0 else _silent)
        if world.rank:
            return None
    model = model.to(memory_format=torch.contiguous_format)
    card = _card(recipe, score(model, n_test, SCORING_DRAWS), own.describe(layout))
    checkpoint = save_checkpoint(folder, model.net, card)
    write_curves(folder, recipe, trainer.history)
    (folder / STATE).unlink(missing_ok=True)
    return checkpoint


def _silent(_: Progress) -> None:
    pass


def _card(recipe: Recipe, accuracy: CleanAccuracy, trained: str) -> Card:
    told = recipe.model_dump(mode="json", exclude={"name", "model", "notes"}, exclude_none=True)
    return Card(
        name=recipe.name,
        model=recipe.model,
        dataset=recipe.dataset,
        training=recipe.kind,
        recipe=told,
        seed=recipe.seed,
        epochs=recipe.epochs,
        clean_accuracy=accuracy,
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "rbench": bench.__version__,
        },
        trained=f"{today()}, {trained}",
        sha256="0" * 64,
        notes=recipe.notes,
    )
