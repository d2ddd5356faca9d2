"""``rbench train``: a progress bar around the trainer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.core.errors import UserError, did_you_mean
from bench.core.paths import checkpoints_folder, recipes_folder
from bench.evaluation.device import pick_device
from bench.train.build import train_checkpoint
from bench.train.compute import Compute
from bench.train.recipe import Recipe, find_recipes, recipe_digest
from bench.train.trainer import Progress as Step
from bench.zoo import Card, read_card
from bench.zoo.checkpoint import CARD


def train_command(
    console: Console,
    what: str,
    only: list[str],
    out: Path | None,
    data_root: Path | None,
    compute: Compute,
    force: bool,
) -> None:
    """Trains recipes one after the other, leaving alone what is there."""
    folder = checkpoints_folder(out)
    recipes = _chosen(find_recipes(what, recipes_folder()), only, what)
    own = compute.on(pick_device(compute.device))
    for recipe in recipes:
        there = folder / recipe.name / CARD
        if there.is_file() and not force:
            _say(console, f"{recipe.name}: {_kept(recipe, read_card(there))}")
            continue
        _train_one(console, recipe, folder, data_root, own)


def _chosen(recipes: list[Recipe], only: list[str], what: str) -> list[Recipe]:
    names = [recipe.name for recipe in recipes]
    for name in only:
        if name not in names:
            raise UserError(f"{what}: has no recipe '{name}'{did_you_mean(name, names)}")
    return [recipe for recipe in recipes if not only or recipe.name in only]


def _kept(recipe: Recipe, card: Card) -> str:
    """Says why a checkpoint that is there is not trained again."""
    told = {**card.recipe, "name": card.name, "model": card.model}
    try:
        same = recipe_digest(Recipe.model_validate(told)) == recipe_digest(recipe)
    except ValueError:
        same = False
    trained = "trained" if same else "trained by another recipe"
    return f"is there already, {trained}; --force trains it anew"


def _train_one(
    console: Console,
    recipe: Recipe,
    folder: Path,
    data_root: Path | None,
    compute: Compute,
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    silent = not console.is_terminal or os.environ.get("RANK", "0") != "0"
    with Progress(*columns, console=console, disable=silent) as bar:
        show = _display(console, bar, recipe)
        checkpoint = train_checkpoint(recipe, folder, data_root, show, compute)
    if checkpoint is not None:
        clean = checkpoint.card.clean_accuracy
        reached = f"clean accuracy {clean.value:.2%} on {clean.n} images ({clean.split})"
        _say(console, f"{checkpoint.folder}: {reached}")


def _display(console: Console, bar: Progress, recipe: Recipe) -> Callable[[Step], None]:
    """Returns what shows each step on a terminal, and each epoch's end elsewhere."""
    task = bar.add_task(recipe.name, total=None)
    last: int | None = None

    def show(step: Step) -> None:
        nonlocal last
        if last is None:  # a training that goes on has epochs behind it
            last = (step.step - 1) * recipe.epochs // step.n_steps
        text = (
            f"{recipe.name}: epoch {step.epoch}/{recipe.epochs}, loss {step.loss:.3f}, "
            f"accuracy {step.accuracy:.1%}, {step.rate:.0f} images/s"
        )
        bar.update(task, completed=step.step, total=step.n_steps, description=escape(text))
        finished = step.step * recipe.epochs // step.n_steps
        if finished > last and not console.is_terminal:
            _say(console, text)
        last = finished

    return show


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
