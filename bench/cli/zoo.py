"""``rbench zoo``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli import options as completing
from bench.cli.options import (
    AsJson,
    Checkpoints,
    DataRoot,
    Device,
    Workers,
    console,
    errors,
    say,
    warn,
    where_of,
)
from bench.cli.working import Working
from bench.core.errors import UserError
from bench.core.model_spec import size_text
from bench.core.paths import checkpoint_roots, checkpoints_folder, recipes_folder, whole_folder

if TYPE_CHECKING:  # imported at every start
    from bench.train.importing import Import
    from bench.train.quality import AuditOptions
    from bench.zoo import Card
    from bench.zoo.audit import Audit

EXIT_DIFFERS = 1
README = "README.md"
_STYLES = {"pass": "green", "updated": "yellow", "hash only": "yellow", "differs": "bold red"}

zoo_app = typer.Typer(help="Checkpoints: import, check and show.", no_args_is_help=True)


@zoo_app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .pt, .pth, .th or .safetensors file.")],
    arch: Annotated[str, typer.Option("--arch", help="Architecture (rbench list models).")],
    norm: Annotated[str, typer.Option("--norm", help="bn, or '{name: gn, groups: 8}', ...")],
    dataset: Annotated[str, typer.Option("--dataset", help="Data set it was trained on.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the checkpoint (default: the file's).")
    ] = None,
    channels: Annotated[int | None, typer.Option("--channels", min=1)] = None,
    size: Annotated[int | None, typer.Option("--size", min=8, help="Height and width.")] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=2)] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            "--mean",
            help="What its authors subtracted, as 0.49,0.48,0.45 (default: the file's own, or "
            "the best of those in use).",
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", help="What its authors divided by, alike.")
    ] = None,
    shortcut: Annotated[
        str, typer.Option("--shortcut", help="pad or conv, of CIFAR's ResNets (6n + 2).")
    ] = "pad",
    key: Annotated[
        str | None, typer.Option("--key", help="Key of the state dict in the file.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", help="OLD=NEW, prefixes of names; may be repeated."),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop", help="Leave entries of these names out, as 'aux_*'; may be repeated."
        ),
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
    """Import a file of weights; options left out are inferred from file and data set."""
    with Working(f"reading {file}, and scoring it"):
        from bench.train.importing import ImportRequest, import_checkpoint

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
            drops=tuple(drop or ()),
            score_on=score_on,
            force=force,
        )
        done = import_checkpoint(request, where_of(checkpoints, data_root, device))
    _show_import(done)


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
    quick: Annotated[bool, typer.Option("--quick", help="Skip PGD-20.")] = False,
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
    out: Annotated[Path | None, typer.Option("--out", help="Also write a Markdown file.")] = None,
    checkpoints: Checkpoints = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Hash and score checkpoints again; exit code 1 if one differs from its card."""
    say(errors, "verifying checkpoints ...")
    from bench.evaluation.device import pick_device
    from bench.store.files import write_atomically
    from bench.train.quality import AuditOptions
    from bench.zoo.audit import passed

    options = AuditOptions(data_root, pick_device(device), limit, quick, update, attacked)
    folders = _folders(names or [], whole_folder(checkpoints))
    audits = _audited(errors if as_json else console, folders, options, workers)
    if as_json:
        typer.echo(json.dumps([_audit_json(audit) for audit in audits], indent=2))
    else:
        _show_audits(audits)
    if out is not None:
        write_atomically(out, _audit_page(audits, options).encode())
    raise typer.Exit(0 if passed(audits) else EXIT_DIFFERS)


@zoo_app.command()
def readme(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if it is out of date.")
    ] = False,
    recipes: Annotated[
        Path | None, typer.Option("--recipes", help="(default: recipes/ beside the checkpoints).")
    ] = None,
    checkpoints: Checkpoints = None,
) -> None:
    """Write the README of the checkpoints from their cards and the recipes."""
    from bench.store.files import write_atomically
    from bench.train.recipe import list_recipes
    from bench.zoo.readme import read_entries, render_readme

    folder = whole_folder(checkpoints)
    page = render_readme(read_entries(folder), list_recipes(recipes or recipes_folder(folder)))
    path = folder / README
    if not check:
        write_atomically(path, page.encode())
        say(console, str(path))
        return
    fresh = path.is_file() and path.read_bytes() == page.encode()
    say(console, f"{path}: {'up to date' if fresh else 'stale: run rbench zoo readme'}")
    raise typer.Exit(0 if fresh else EXIT_DIFFERS)


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
    from bench.zoo import open_checkpoint

    card = open_checkpoint(_folders([name], checkpoints_folder(checkpoints))[0]).card
    if as_json:
        typer.echo(card.model_dump_json(indent=2))
        return
    table = Table(show_header=False, title=name, title_justify="left")
    for key, value in _facts(card):
        table.add_row(key, Text(value))
    console.print(table)


def _show_import(done: Import) -> None:
    """Prints what was imported, what was assumed and left out, and what is in doubt."""
    clean, chance = done.card.clean_accuracy, 1 / done.card.model.classes
    for note in done.notes:
        say(console, note)
    if done.tried:
        say(
            console,
            f"The file holds no mean and std, and they were not both given. On {done.tried[0].n} "
            "images, with those in use:",
        )
        for i, one in enumerate(done.tried):
            say(console, f"  {one}" + ", taken" * (i == 0))
    else:
        say(console, f"Input {done.scale}, {done.scale.known_from}.")
    where = f"{clean.n} images ({clean.split})"
    say(console, f"{done.folder}: clean accuracy {clean.value:.2%} on {where}")
    if rivals := done.rivals():
        others = "; ".join(str(one.scale) for one in rivals)
        warn(console, f"not shown to be worse: {others}; give --mean and --std if you know them")
    if done.twin is not None:
        arch, accuracy = done.twin
        better = accuracy > clean.value
        told = f"the same weights fit --arch {arch} too: clean accuracy {accuracy:.2%}"
        (warn if better else say)(console, told)
    if clean.value < 2 * chance:
        warn(
            console,
            f"that is near chance ({chance:.2%}). Assumed were {done.scale} "
            f"({done.scale.known_from}): check --mean, --std, --norm, --shortcut and the order of "
            "the classes",
        )


def _audited(
    console: Console, folders: Sequence[Path], options: AuditOptions, workers: int | None
) -> list[Audit]:
    """Audits checkpoints side by side, the costliest first; returns the audits in their order."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from bench.run import local
    from bench.train.quality import audit_checkpoint, audit_cost

    cost = {folder: audit_cost(folder, options) for folder in folders}
    ordered = sorted(folders, key=lambda folder: -cost[folder])
    found: dict[Path, Audit] = {}
    columns = TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    n_workers = min(workers or local.default_workers(options.device), len(folders))
    with bar, local.Workers(n_workers) as pool:
        task = bar.add_task("", total=len(folders))
        work = partial(audit_checkpoint, options=options)
        for outcome in pool.run(work, ordered, _lost_audit):
            if outcome is None:
                continue
            folder, audit = outcome
            found[folder] = audit
            bar.advance(task)
            say(console, f"[{len(found)}/{len(folders)}] {audit.name}: {audit.verdict}")
    return [found[folder] for folder in folders]


def _lost_audit(folder: Path, why: str) -> Audit:
    from bench.zoo.audit import Audit

    return Audit(folder.name, "differs", notes=(why,))


def _show_audits(audits: Sequence[Audit]) -> None:
    from bench.zoo.audit import COLUMNS, how_compared

    table = Table(title=_line(audits), title_justify="left")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for audit in audits:
        *cells, verdict = audit.row()
        table.add_row(*map(Text, cells), Text(verdict, _STYLES[audit.verdict]))
    console.print(table)
    say(console, how_compared(), "dim")


def _audit_json(audit: Audit) -> dict[str, object]:
    """Returns an audit as plain values; accuracies are pairs: the card's and the one measured."""
    pairs = {"clean_accuracy": audit.clean, "robust_accuracy": audit.robust}
    return {
        "name": audit.name,
        "verdict": audit.verdict,
        "sha256": audit.sha256,
        **{key: [one and one.value for one in pair] for key, pair in pairs.items()},
        "notes": list(audit.notes),
    }


def _folders(names: Sequence[str], root: Path) -> list[Path]:
    """Returns the folders of checkpoints, all of ``root`` if no names are given.

    Raises:
        UserError: For a name that is not there, or a folder without checkpoints.
    """
    from bench.zoo import list_folders, open_checkpoint
    from bench.zoo.checkpoint import CARD, WEIGHTS

    if not names:
        # Folders with weights but no card count: their damage must be reported.
        found = list_folders([root], (CARD, WEIGHTS))
        if not found:
            raise UserError(f"{root}: expected checkpoints, found none; see --checkpoints")
        return found
    wheres = [[Path(name), *(one / name for one in checkpoint_roots(root))] for name in names]
    folders = [next((one for one in some if one.is_dir()), root / some[0]) for some in wheres]
    for folder in folders:
        if not folder.is_dir():
            open_checkpoint(folder)  # raises, with the nearest name
    return folders


def _line(audits: Sequence[Audit]) -> str:
    counts = {v: sum(audit.verdict == v for audit in audits) for v in _STYLES}
    return f"{len(audits)} checkpoints: " + ", ".join(f"{n} {v}" for v, n in counts.items() if n)


def _audit_page(audits: Sequence[Audit], options: AuditOptions) -> str:
    import torch

    from bench.evaluation.model import machine
    from bench.untrusted.escape import markdown
    from bench.zoo.audit import COLUMNS, how_compared

    cells = ([markdown(cell) for cell in audit.row()] for audit in audits)
    rows = [COLUMNS, ["---"] * len(COLUMNS), *cells]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    where = f"On {machine(torch.device(options.device))}, torch {torch.__version__}."
    return f"# Verification of the zoo\n\n{_line(audits)}. {where}\n\n{table}\n{how_compared()}\n"


def _facts(card: Card) -> list[tuple[str, str]]:
    """Returns what a card says, as names and values."""
    import yaml

    from bench.zoo.checkpoint import identity

    model, clean, robust = card.model, card.clean_accuracy, card.robust_accuracy
    shape = f"{model.channels} x {size_text(model.size)}, {model.classes} classes"
    scored = f"{clean.value:.2%} on {clean.n} images ({clean.split})"
    scored += f", in batches of {clean.batch_size}" if clean.batch_size else ""
    scored += f", {clean.n_draws} draws an image" if clean.n_draws > 1 else ""
    attacked = "not measured"
    if robust is not None:
        ends = [f"{end:.1%}" for end in (robust.low, robust.high) if end is not None]
        attacked = f"{robust.value:.1%} [{', '.join(ends)}] on {robust.n} images, {robust.attack}"
        attacked += f", {robust.protocol} ({robust.split})"
    recipe = yaml.safe_dump(card.recipe, sort_keys=False, width=80).strip() if card.recipe else ""
    facts = {
        "model": f"{model.arch}, norm {model.norm.label()}, shortcut {model.shortcut}",
        "input": shape,
        "mean, std": f"{', '.join(map(str, model.mean))}; {', '.join(map(str, model.std))}",
        "data set": card.dataset,
        "training": card.training,
        "recipe": recipe,
        "seed": "" if card.seed is None else str(card.seed),
        "epochs": "" if card.epochs is None else str(card.epochs),
        "clean accuracy": scored,
        "PGD-20": attacked,
        "trained": card.trained,
        "versions": ", ".join(f"{k} {v}" for k, v in card.versions.items()),
        "file_sha256": card.sha256,
        "weights_sha256": identity(card),
        "notes": card.notes,
    }
    return [(key, value) for key, value in facts.items() if value]
