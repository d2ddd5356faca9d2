"""From a recipe to a checkpoint folder: training, scoring, the card and the curves."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

import bench
from bench.core.host import processor, today
from bench.core.spec import digest
from bench.models import Classifier
from bench.oracle.fast import cached_choice
from bench.store.files import write_atomically
from bench.train.compute import Compute, Layout, fastest_layout, joined
from bench.train.quality import SCORING_DRAWS, score_clean
from bench.train.recipe import Recipe
from bench.train.source import Source, scoring_images, training_source
from bench.train.trainer import Progress, Trainer
from bench.zoo import Card, Checkpoint, CleanAccuracy, save_checkpoint
from bench.zoo.checkpoint import HISTORY

N_VALIDATED = 1024
STATE = "train_state.pt"
PICTURE = "training.png"
_DIGITS = {"loss": 5, "accuracy": 5, "test_accuracy": 5, "pgd_accuracy": 5, "seconds": 1}
CPU = Compute()


def train_checkpoint(
    recipe: Recipe,
    out: Path,
    data_root: Path | None,
    report: Callable[[Progress], None],
    compute: Compute = CPU,
) -> Checkpoint | None:
    """Trains a recipe, scores it on its test images and writes ``out/NAME``.

    A killed run resumes after its last finished epoch, from ``out/NAME/train_state.pt``, which is
    removed at the end. Under ``torchrun`` all processes train together; the first reports, scores
    and writes, and the others return ``None``.

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

    with joined(compute.device) as (ranks, own_device):
        source = training_source(recipe, data_root, torch.device(own_device))

        def validate(model: Classifier) -> float:
            return score(model, min(N_VALIDATED, n_test), 1).value

        own = compute.on(own_device)
        layout = ranks.first(lambda: choose_layout(recipe, source, own))
        device = torch.device(own_device)
        trainer = Trainer(recipe, source, folder / STATE, device, layout, ranks, validate)
        model = trainer.run(report if ranks.rank == 0 else _silent)
        if ranks.rank:
            return None
    model = model.to(memory_format=torch.contiguous_format)
    card = _card(recipe, score(model, n_test, SCORING_DRAWS), own.describe(layout))
    checkpoint = save_checkpoint(folder, model.net, card)
    write_curves(folder, recipe, trainer.history)
    (folder / STATE).unlink(missing_ok=True)
    return checkpoint


def _silent(_: Progress) -> None:
    pass


def choose_layout(recipe: Recipe, source: Source, compute: Compute) -> Layout:
    """Returns the layout in which a recipe's steps are fastest on this machine, by timing.

    The timed steps are discarded. The choice is cached (``bench.oracle.fast``), so that the same
    training repeats itself.
    """
    device, n = torch.device(compute.device), min(recipe.batch_size, len(source))
    n_images = min(recipe.limit or len(source), len(source))

    def stepper(layout: Layout) -> Callable[[], object]:
        generator = torch.Generator().manual_seed(0)
        x, y = next(iter(source.batches(torch.arange(n), n, generator)))
        trial = Trainer(recipe, source, Path(), device, layout)
        return lambda: trial.take_step(0, x, y, generator)

    def time_layouts() -> dict[str, Any]:
        layout = fastest_layout(compute, stepper, recipe.epochs * (n_images // n))
        return asdict(layout) | {"dtype": str(layout.dtype)}

    told = recipe.model_dump(mode="json", include={"model", "kind", "attack", "batch_size"})
    where = [processor(), torch.get_num_threads(), str(torch.__version__), repr(compute)]
    kept = cached_choice(digest(["layout", told, *where]), time_layouts) or {}
    low = kept.get("dtype") == str(torch.bfloat16)
    flags = ("channels_last", "side_by_side", "compiled")
    return Layout(
        torch.bfloat16 if low else torch.float32, *(kept.get(name) is True for name in flags)
    )


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


def write_curves(folder: Path, recipe: Recipe, history: list[dict[str, float]]) -> None:
    """Writes ``training.csv`` (one line per epoch) and ``training.png``, each atomically.

    Columns: ``epoch`` from 1; ``loss`` and ``accuracy`` on the training examples of the epoch,
    averaged while the weights changed; ``seconds``; ``test_accuracy`` after it on 1,024 clean test
    images; ``pgd_accuracy``, for single-step training only, under PGD-10 on 256 held-out training
    images. Accuracies are in [0, 1].
    """
    table = pd.DataFrame(history).round(_DIGITS)
    table["epoch"] = table["epoch"].astype(int)
    write_atomically(folder / HISTORY, table.to_csv(index=False).encode())
    picture = BytesIO()
    _draw(recipe, table).savefig(picture, format="png", dpi=100)
    write_atomically(folder / PICTURE, picture.getvalue())


def _draw(recipe: Recipe, table: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(table["epoch"], table["loss"], color="#0072b2")
    left.set(ylabel="training loss", ylim=(0, None))
    kinds = {"accuracy": ("training", "#0072b2", "-")}
    if "test_accuracy" in table:
        kinds["test_accuracy"] = ("test, clean", "#d55e00", "--")
    if "pgd_accuracy" in table:
        kinds["pgd_accuracy"] = ("held out, PGD-10", "#009e73", ":")
    for column, (label, colour, style) in kinds.items():
        right.plot(table["epoch"], 100 * table[column], style, color=colour, label=label)
    right.set(ylabel="accuracy (%)")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set(xlabel="epoch")
        _whole_epochs(axes, len(table))
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{recipe.name} ({recipe.kind} training)", fontsize=10)
    return figure


def _whole_epochs(axes: Any, n_epochs: int) -> None:
    axes.xaxis.get_major_locator().set_params(integer=True)
    if n_epochs == 1:
        axes.margins(x=0.5)
