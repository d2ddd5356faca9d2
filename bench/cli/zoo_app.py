"""The commands of ``rbench zoo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options as completing
from bench.cli.options import AsJson, Checkpoints, DataRoot, Device, console
from bench.cli.run_app import Workers

zoo_app = typer.Typer(
    help="Checkpoints: bring others' in, check them all, show one.", no_args_is_help=True
)


@zoo_app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .pt, .pth, .th or .safetensors file.")],
    arch: Annotated[str, typer.Option("--arch", help="See: rbench list models.")],
    norm: Annotated[str, typer.Option("--norm", help="bn, or '{name: gn, groups: 8}', ...")],
    dataset: Annotated[str, typer.Option("--dataset", help="What it was trained on.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Of the checkpoint (default: the file's).")
    ] = None,
    channels: Annotated[int | None, typer.Option("--channels", min=1)] = None,
    size: Annotated[int | None, typer.Option("--size", min=8, help="Height and width.")] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=2)] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", help="What its authors subtracted, as 0.49,0.48,0.45."),
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", help="What its authors divided by, alike.")
    ] = None,
    shortcut: Annotated[
        str, typer.Option("--shortcut", help="pad or conv, of ResNet-20, -38 and -50.")
    ] = "pad",
    key: Annotated[
        str | None, typer.Option("--key", help="Where in the file the state dict is.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", help="OLD=NEW, prefixes of names; may be repeated."),
    ] = None,
    score_on: Annotated[
        str | None,
        typer.Option("--score-on", help="Data set to score on (default: that of --dataset)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint.")] = False,
    checkpoints: Checkpoints = None,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Bring in weights that others trained; what is not given is taken from the data set."""
    from bench.cli.importing import ImportRequest, import_command

    request = ImportRequest(
        file=file,
        arch=arch,
        norm=norm,
        dataset=dataset,
        name=name,
        channels=channels,
        size=size,
        classes=classes,
        mean=mean,
        std=std,
        shortcut=shortcut,
        key=key,
        renames=tuple(rename or ()),
        score_on=score_on,
        force=force,
        checkpoints=checkpoints,
        data_root=data_root,
        device=device,
    )
    import_command(console, request)


@zoo_app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checkpoints (default: all).",
            show_default=False,
            autocompletion=completing.checkpoints,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Score on so many images, compare by interval."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave PGD-20 out.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Write numbers that are missing or differ.")
    ] = False,
    attacked: Annotated[
        int | None,
        typer.Option(
            "--attacked",
            min=1,
            help="Images of PGD-20 (default: 128, by interval; with --update the card's, or 512).",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Markdown file that is written too.")
    ] = None,
    checkpoints: Checkpoints = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Hash and score checkpoints again; exit code 1 where one differs from its card."""
    from bench.cli.zoo import verify_command
    from bench.evaluation.device import pick_device
    from bench.train.quality import AuditOptions

    options = AuditOptions(data_root, pick_device(device), limit, quick, update, attacked)
    code = verify_command(console, names or [], checkpoints, options, out, as_json, workers)
    raise typer.Exit(code)


@zoo_app.command()
def readme(
    check: Annotated[bool, typer.Option("--check", help="Exit 1 if it is stale.")] = False,
    recipes: Annotated[
        Path | None, typer.Option("--recipes", help="(default: recipes/ beside the checkpoints).")
    ] = None,
    checkpoints: Checkpoints = None,
) -> None:
    """Write the README of the checkpoints from their cards and the recipes."""
    from bench.cli.zoo import readme_command

    raise typer.Exit(readme_command(console, checkpoints, recipes, check))


@zoo_app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A checkpoint's name or folder.", autocompletion=completing.checkpoints
        ),
    ],
    checkpoints: Checkpoints = None,
    as_json: AsJson = False,
) -> None:
    """Print a checkpoint's card."""
    from bench.cli.zoo import show_command

    show_command(console, name, checkpoints, as_json)
