"""``python -m tools.speed``: measures speed side by side, and writes tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Checkpoints, DataRoot, Device, console
from bench.core.errors import UserError
from bench.core.spec import parse_number

speed_app = typer.Typer(help="How fast, side by side with the usual way.", no_args_is_help=True)

RACED = ("fmnist-resnet20-bn-at", "fmnist-resnet20-rna-at")
TRAINED = tuple(f"fmnist-resnet20-{name}" for name in ("bn", "bn-at", "in-at", "rna-at"))


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
    """Compare the trainer with a plain PyTorch loop: images per second, in turns."""
    from bench.core.paths import recipes_folder
    from bench.evaluation.device import pick_device
    from bench.store.files import write_atomically
    from bench.train.recipe import find_recipes
    from tools.speed.host import describe_host, kind_of
    from tools.speed.training import training_speed
    from tools.speed.training_table import (
        training_markdown,
        training_table,
        with_other_processors,
    )

    where, folder = pick_device(device), recipes_folder()
    speeds = []
    for name in recipe or TRAINED:
        for found in find_recipes(name, folder):
            speeds.append(training_speed(found, data_root, where, steps, rounds))
            console.print(
                f"{found.name}: {speeds[-1].plain:.0f} and {speeds[-1].ours:.0f} images/s, "
                f"{speeds[-1].ratio:.2f} times",
                highlight=False,
            )
    table = training_table(speeds, kind_of(where), describe_host(where))
    table = with_other_processors(table, out / "training.csv")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "training.csv", table.to_csv(index=False).encode())
    text = training_markdown(table, steps, rounds)
    write_atomically(out / "training.md", text.encode())
    console.print(str(out / "training.md"), highlight=False)


@speed_app.command()
def attacks(
    attack: Annotated[
        list[str] | None, typer.Option("--attack", help="As pgd or autoattack; repeatable.")
    ] = None,
    contender: Annotated[
        list[str] | None, typer.Option("--contender", help="As foolbox or adv_lib; repeatable.")
    ] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option("--checkpoint", help="A checkpoint's name; repeatable.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Images (default: 100).")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Default: all, up to 128.")
    ] = None,
    eps: Annotated[
        str | None, typer.Option("--eps", help="In linf; default: what the model trained with.")
    ] = None,
    eps_l2: Annotated[
        str | None, typer.Option("--eps-l2", help="In l2; default: what is usual for the data.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Turns (default: 3; AutoAttack: 1).")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few images and steps, to see that all runs.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Measure memory, in other processes.")
    ] = True,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what was measured before.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder.")] = Path("reports/speed"),
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    device: Device = "auto",
) -> None:
    """Compare attacks with those of libraries: seconds, passes, verdicts, memory.

    Without --attack, --contender, --checkpoint and --limit it measures the committed tables:
    quick attacks on 100 images, AutoAttack's on 32; an hour on two cores. A killed run resumes.
    Foolbox and adversarial-library come with rbench[bench].
    """
    from bench.core.paths import checkpoints_folder
    from bench.evaluation.device import pick_device
    from tools.speed.attacks import PROGRAMME, Leg, Wanted, race_attacks

    if attack or contender or checkpoint or limit:
        legs = [
            Leg(name, attack or (), contender or (), limit or 100) for name in checkpoint or RACED
        ]
    else:
        legs = list(PROGRAMME)
    wanted = Wanted(
        legs=legs,
        checkpoints=checkpoints_folder(checkpoints),
        batch_size=batch_size,
        eps=_radius("--eps", eps),
        eps_l2=_radius("--eps-l2", eps_l2),
        rounds=rounds,
        quick=quick,
        memory=memory,
        fresh=fresh,
        out=out,
        data_root=data_root,
        device=pick_device(device),
    )

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    for path in race_attacks(wanted, say):
        say(f"wrote {path}")


@speed_app.command()
def runner(
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="Its name.")] = RACED[0],
    quick: Annotated[
        bool, typer.Option("--quick", help="Two small suites, to see that all runs.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder.")] = Path("reports/speed"),
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
) -> None:
    """Measure the overhead of a run, and how time and memory grow with a suite."""
    from bench.core.paths import checkpoints_folder
    from bench.store.files import write_atomically
    from tools.speed.host import describe_host
    from tools.speed.scaling import (
        ATTACKS,
        CELLS,
        IMAGES,
        growth_markdown,
        growth_table,
        measure_growth,
    )

    sizes = ((8,), (), (2,)) if quick else (IMAGES, ATTACKS, CELLS)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    folder = checkpoints_folder(checkpoints)
    table = growth_table(measure_growth(checkpoint, folder, data_root, 0.1, sizes, say))
    stem = "runner-quick" if quick else "runner"
    text = growth_markdown(table, describe_host("cpu"), checkpoint)
    write_atomically(out / f"{stem}.csv", table.to_csv(index=False).encode())
    write_atomically(out / f"{stem}.md", text.encode())
    say(f"wrote {out / stem}.md")


def _radius(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = parse_number(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None
    if value <= 0:
        raise UserError(f"{option}: expected a number greater than 0, found {text}")
    return value


if __name__ == "__main__":
    try:
        speed_app()
    except UserError as error:
        sys.exit(f"error: {error}")
