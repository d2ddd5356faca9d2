"""``rbench train``: a progress bar around the trainer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import DataRoot, Device, console, say
from bench.cli.working import Working
from bench.core.errors import UserError, did_you_mean
from bench.core.paths import checkpoints_folder, recipes_folder

if TYPE_CHECKING:  # imported at every start
    from bench.train.compute import Compute
    from bench.train.recipe import Recipe
    from bench.train.trainer import Progress as Step
    from bench.zoo import Card


def train(
    recipe: Annotated[
        str, typer.Argument(help="Name of a recipe, or of a file in checkpoints/recipes.")
    ],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this recipe of the file; repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of checkpoints (default: checkpoints).")
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    compile_model: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Use torch.compile, or not (default: on a GPU, and where it is faster).",
            show_default=False,
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Train in float32, even where bfloat16 is faster.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train even if the checkpoint exists.")
    ] = False,
) -> None:
    """Train recipes to checkpoints; an interrupted training resumes.

    On several GPUs: torchrun --nproc-per-node 4 -m bench train NAME
    """
    from bench.evaluation.device import pick_device
    from bench.train.compute import Compute
    from bench.train.recipe import find_recipes
    from bench.zoo import read_card
    from bench.zoo.checkpoint import CARD

    folder = checkpoints_folder(out)
    recipes = _chosen(find_recipes(recipe, recipes_folder()), only or [], recipe)
    compute = Compute(pick_device(device), compile_model, exact)
    for one in recipes:
        there = folder / one.name / CARD
        if there.is_file() and not force:
            say(console, f"{one.name}: {_why_kept(one, read_card(there))}")
        else:
            _train_one(one, folder, data_root, compute)


def _chosen(recipes: list[Recipe], only: list[str], what: str) -> list[Recipe]:
    names = [recipe.name for recipe in recipes]
    for name in only:
        if name not in names:
            raise UserError(f"{what}: has no recipe '{name}'{did_you_mean(name, names)}")
    return [recipe for recipe in recipes if not only or recipe.name in only]


def _why_kept(recipe: Recipe, card: Card) -> str:
    """Returns why a checkpoint that is there is not trained again."""
    from bench.train.recipe import Recipe, recipe_digest

    of_card = {**card.recipe, "name": card.name, "model": card.model}
    try:
        same = recipe_digest(Recipe.model_validate(of_card)) == recipe_digest(recipe)
    except ValueError:
        same = False
    trained = "trained" if same else "trained by another recipe"
    return f"is there already, {trained}; --force trains it anew"


def _train_one(recipe: Recipe, folder: Path, data_root: Path | None, compute: Compute) -> None:
    text = f"{recipe.name}: reading images, timing a few steps, compiling if that pays"
    with Working(text, every=60, silent=os.environ.get("RANK", "0") != "0") as working:
        from bench.train.build import train_checkpoint

        show = _display(working, recipe)
        checkpoint = train_checkpoint(recipe, folder, data_root, show, compute)
    if checkpoint is not None:
        clean = checkpoint.card.clean_accuracy
        reached = f"clean accuracy {clean.value:.2%} on {clean.n} images ({clean.split})"
        say(console, f"{checkpoint.folder}: {reached}")


def _display(working: Working, recipe: Recipe) -> Callable[[Step], None]:
    """Returns a callback that shows each step, and off a terminal the end of each epoch."""
    last: int | None = None

    def show(step: Step) -> None:
        nonlocal last
        if last is None:  # a resumed training has epochs behind it
            last = (step.step - 1) * recipe.epochs // step.n_steps
        text = (
            f"{recipe.name}: epoch {step.epoch}/{recipe.epochs}, loss {step.loss:.3f}, "
            f"accuracy {step.accuracy:.1%}, {step.rate:.0f} images/s"
        )
        working.step(text, step.step, step.n_steps)
        finished = step.step * recipe.epochs // step.n_steps
        if finished > last and not console.is_terminal:
            say(console, text)
        last = finished

    return show
