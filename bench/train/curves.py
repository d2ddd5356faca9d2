"""Loss and accuracy of a training, epoch by epoch, as data and as a picture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.store import write_atomically
from bench.train.recipe import Recipe

DATA, PICTURE = "training.csv", "training.png"
_DIGITS = {"loss": 5, "accuracy": 5, "test_accuracy": 5, "pgd_accuracy": 5, "seconds": 1}


def write_curves(folder: Path, recipe: Recipe, history: list[dict[str, float]]) -> None:
    """Writes ``training.csv`` (a line an epoch) and ``training.png``, each in one step.

    Columns: ``epoch`` from 1; ``loss`` and ``accuracy`` on what the epoch trained on, averaged
    while the weights moved; ``seconds``; ``test_accuracy`` after it on 1,024 clean test
    images; ``pgd_accuracy``, of single-step training, under PGD-10 on 256 training images held
    out. Accuracies are in [0, 1].
    """
    table = pd.DataFrame(history).round(_DIGITS)
    table["epoch"] = table["epoch"].astype(int)
    write_atomically(folder / DATA, table.to_csv(index=False).encode())
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
