"""``rbench train``: a progress bar around the trainer."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.run.device import pick_device
from bench.run.paths import checkpoints_folder
from bench.train.build import read_recipe, train_checkpoint
from bench.train.trainer import Progress as Step


def train_command(
    console: Console,
    recipe_path: Path,
    out: Path | None,
    data_root: Path | None,
    device: str,
    compiled: bool,
) -> None:
    """Trains, showing epoch, accuracy, rate and time left, then says what was reached."""
    recipe = read_recipe(recipe_path)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    last = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(recipe.name, total=None)

        def show(step: Step) -> None:
            nonlocal last
            text = (
                f"{recipe.name}: epoch {step.epoch}/{recipe.epochs}, loss {step.loss:.3f}, "
                f"accuracy {step.accuracy:.1%}, {step.rate:.0f} images/s"
            )
            bar.update(task, completed=step.step, total=step.n_steps, description=text)
            finished = step.step * recipe.epochs // step.n_steps
            if finished > last and not console.is_terminal:
                console.print(text, highlight=False, markup=False, soft_wrap=True)
            last = finished

        folder = checkpoints_folder(out)
        checkpoint = train_checkpoint(
            recipe, folder, data_root, show, pick_device(device), compiled
        )
    clean = checkpoint.card.clean_accuracy
    reached = f"clean accuracy {clean.value:.2%} on {clean.n} images ({clean.split})"
    console.print(f"{checkpoint.folder}: {reached}", highlight=False, soft_wrap=True)
