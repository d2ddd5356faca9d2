"""``rbench zoo verify``, ``readme`` and ``show``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bench.cli.options import errors
from bench.core.errors import UserError
from bench.core.paths import checkpoint_roots, checkpoints_folder, recipes_folder, whole_folder
from bench.store import write_atomically
from bench.train.recipe import list_recipes
from bench.untrusted.escape import markdown
from bench.zoo import Card, list_folders, open_checkpoint
from bench.zoo.audit import COLUMNS, Audit, how_compared, passed
from bench.zoo.checkpoint import CARD, WEIGHTS
from bench.zoo.readme import read_entries, render_readme

if TYPE_CHECKING:  # what is shown needs no torch
    from bench.train.quality import AuditOptions

EXIT_DIFFERS = 1
README = "README.md"
_STYLES = {"pass": "green", "updated": "yellow", "hash only": "yellow", "differs": "bold red"}


def verify_command(
    console: Console,
    names: Sequence[str],
    checkpoints: Path | None,
    options: AuditOptions,
    out: Path | None,
    as_json: bool = False,
    workers: int | None = None,
) -> int:
    """Checks checkpoints against their cards, side by side, and shows what was found.

    Args:
        console: Where to print.
        names: Of checkpoints, or their folders; none for all.
        checkpoints: Folder of checkpoints; ``None`` for the default.
        options: How they are checked.
        out: A Markdown file that is written too.
        as_json: Whether to print JSON.
        workers: Processes; ``None`` for the default.

    Returns:
        0, or 1 where one differs from its card.

    Raises:
        UserError: For an unknown name, or a folder without checkpoints.
    """
    folders = _folders(names, whole_folder(checkpoints))
    audits = _audited(errors if as_json else console, folders, options, workers)
    if as_json:
        typer.echo(json.dumps([_audit_json(audit) for audit in audits], indent=2))
    else:
        _show_audits(console, audits)
    if out is not None:
        write_atomically(out, _audit_page(audits, options).encode())
    return 0 if passed(audits) else EXIT_DIFFERS


def _audited(
    console: Console, folders: Sequence[Path], options: AuditOptions, workers: int | None
) -> list[Audit]:
    """Returns the audits of checkpoints in their order; says how far it is, the longest first."""
    from bench.run.local import Workers, default_workers
    from bench.train.quality import audit_checkpoint, audit_cost

    cost = {folder: audit_cost(folder, options) for folder in folders}
    ordered = sorted(folders, key=lambda folder: -cost[folder])
    found: dict[Path, Audit] = {}
    columns = TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    n_workers = min(workers or default_workers(options.device), len(folders))
    with bar, Workers(n_workers) as pool:
        task = bar.add_task("", total=len(folders))
        work = partial(audit_checkpoint, options=options)
        for outcome in pool.run(work, ordered, _lost_audit):
            if outcome is None:
                continue
            folder, audit = outcome
            found[folder] = audit
            bar.advance(task)
            line = f"[{len(found)}/{len(folders)}] {audit.name}: {audit.verdict}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    return [found[folder] for folder in folders]


def _lost_audit(folder: Path, why: str) -> Audit:
    return Audit(folder.name, "differs", notes=(why,))


def _show_audits(console: Console, audits: Sequence[Audit]) -> None:
    table = Table(title=_line(audits), title_justify="left")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for audit in audits:
        *cells, verdict = audit.row()
        table.add_row(*map(Text, cells), Text(verdict, _STYLES[audit.verdict]))
    console.print(table)
    console.print(how_compared(), style="dim", highlight=False, soft_wrap=True)


def _audit_json(audit: Audit) -> dict[str, object]:
    """Returns an audit as plain values; accuracies are pairs of the card's and the one found."""
    pairs = {"clean_accuracy": audit.clean, "robust_accuracy": audit.robust}
    return {
        "name": audit.name,
        "verdict": audit.verdict,
        "sha256": audit.sha256,
        **{key: [one and one.value for one in pair] for key, pair in pairs.items()},
        "notes": list(audit.notes),
    }


def _folders(names: Sequence[str], root: Path) -> list[Path]:
    if not names:
        # Weights without a card, too: what is damaged is to be told.
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

    cells = ([markdown(cell) for cell in audit.row()] for audit in audits)
    rows = [COLUMNS, ["---"] * len(COLUMNS), *cells]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    where = f"On {machine(torch.device(options.device))}, torch {torch.__version__}."
    return f"# Verification of the zoo\n\n{_line(audits)}. {where}\n\n{table}\n{how_compared()}\n"


def readme_command(
    console: Console, checkpoints: Path | None, recipes: Path | None, check: bool
) -> int:
    """Writes the folder's README from the cards, or checks that it is up to date.

    Returns:
        0, or 1 where ``check`` finds it stale.

    Raises:
        UserError: When a card or a recipe is wrong.
    """
    folder = whole_folder(checkpoints)
    page = render_readme(read_entries(folder), list_recipes(recipes or recipes_folder(folder)))
    path = folder / README
    if not check:
        write_atomically(path, page.encode())
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)
        return 0
    fresh = path.is_file() and path.read_bytes() == page.encode()
    state = "up to date" if fresh else "stale: run rbench zoo readme"
    console.print(f"{path}: {state}", highlight=False, markup=False, soft_wrap=True)
    return 0 if fresh else EXIT_DIFFERS


def show_command(
    console: Console, name: str, checkpoints: Path | None, as_json: bool = False
) -> None:
    """Prints a checkpoint's card; raises ``UserError`` when there is none."""
    folder = _folders([name], checkpoints_folder(checkpoints))[0]
    if as_json:
        typer.echo(open_checkpoint(folder).card.model_dump_json(indent=2))
        return
    table = Table(show_header=False, title=name, title_justify="left")
    for key, value in _facts(open_checkpoint(folder).card):
        table.add_row(key, Text(value))
    console.print(table)


def _facts(card: Card) -> list[tuple[str, str]]:
    model, clean, robust = card.model, card.clean_accuracy, card.robust_accuracy
    shape = f"{model.channels} x {model.size} x {model.size}, {model.classes} classes"
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
        "sha256": card.sha256,
        "notes": card.notes,
    }
    return [(key, value) for key, value in facts.items() if value]
