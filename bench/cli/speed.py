"""``rbench speed``: tables of how fast, side by side, measured here and now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import DataRoot, Device, console

speed_app = typer.Typer(help="How fast, side by side with the usual way.", no_args_is_help=True)

TRAINED = ("fmnist-resnet20-bn", "fmnist-resnet20-bn-at", "fmnist-resnet20-rna-at")


@speed_app.command()
def training(
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help="A recipe's name; repeatable.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps a round.")] = 12,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of each loop.")] = 5,
    out: Annotated[Path, typer.Option("--out", help="Folder.")] = Path("reports/speed"),
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """The trainer beside a plain PyTorch loop: images per second, in turns."""
    from bench.run.device import pick_device
    from bench.run.paths import checkpoints_folder
    from bench.speed.host import describe_host
    from bench.speed.table import training_markdown, training_table
    from bench.speed.training import training_speed
    from bench.store import write_atomically
    from bench.train.book import find_recipes

    where, folder = pick_device(device), checkpoints_folder() / "recipes"
    speeds = []
    for name in recipe or TRAINED:
        for found in find_recipes(name, folder):
            speeds.append(training_speed(found, data_root, where, steps, rounds))
            console.print(
                f"{found.name}: {speeds[-1].plain:.0f} and {speeds[-1].ours:.0f} images/s, "
                f"{speeds[-1].ratio:.2f} times",
                highlight=False,
            )
    table = training_table(speeds)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "training.csv", table.to_csv(index=False).encode())
    text = training_markdown(table, describe_host(where), steps, rounds)
    write_atomically(out / "training.md", text.encode())
    console.print(str(out / "training.md"), highlight=False)
