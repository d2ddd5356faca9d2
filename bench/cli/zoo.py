"""``rbench zoo``: bring checkpoints in, check them, show them."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

import bench
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.core.norm_spec import NormSpec
from bench.core.numbers import parse_number
from bench.core.spec_file import check_spec
from bench.data import get_dataset, take_slice
from bench.report.escape import markdown
from bench.run.cell import machine
from bench.run.device import pick_device
from bench.run.paths import checkpoints_folder
from bench.store import write_atomically
from bench.train.book import list_recipes
from bench.train.quality import AuditOptions, audit_checkpoint, score_clean
from bench.zoo import Card, open_checkpoint, save_checkpoint
from bench.zoo.audit import COLUMNS, Audit, how_compared, passed
from bench.zoo.checkpoint import CARD, WEIGHTS
from bench.zoo.foreign import ForeignFile, Imported, load_foreign, read_foreign
from bench.zoo.naming import parse_renames
from bench.zoo.readme import read_entries, render_readme

EXIT_DIFFERS = 1
README = "README.md"
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
_STYLES = {"pass": "green", "updated": "yellow", "hash only": "yellow", "differs": "bold red"}


@dataclass(frozen=True)
class ImportRequest:
    """What ``rbench zoo import`` was asked for; ``None`` leaves it to the data set or the file.

    Attributes:
        file: The weights.
        arch: Architecture, as ``rbench list models`` names it.
        norm: A norm's name, or its specification in YAML.
        dataset: What the model was trained on.
        name: Of the checkpoint.
        channels: Of its input.
        size: Height and width of its input.
        classes: Number of classes.
        mean: Per-channel mean of its input normalization, separated by commas.
        std: The same of the standard deviation.
        shortcut: ``pad`` or ``conv``.
        key: Where in the file the state dict is.
        renames: ``OLD=NEW`` pairs of prefixes.
        score_on: A data set to score on, in place of ``dataset``.
        force: Whether a checkpoint of that name may be replaced.
        checkpoints: Folder of checkpoints.
        data_root: Where data sets lie.
        device: Where to score.
    """

    file: Path
    arch: str
    norm: str
    dataset: str
    name: str | None = None
    channels: int | None = None
    size: int | None = None
    classes: int | None = None
    mean: str | None = None
    std: str | None = None
    shortcut: str = "pad"
    key: str | None = None
    renames: tuple[str, ...] = ()
    score_on: str | None = None
    force: bool = False
    checkpoints: Path | None = None
    data_root: Path | None = None
    device: str = "cpu"


def import_command(console: Console, request: ImportRequest) -> None:
    """Imports a foreign file, scores it, and says what it reached.

    Raises:
        UserError: When the name is taken, the file is not what it should be, its weights do not fit
            the model, or the images it is scored on are missing or do not fit.
    """
    folder = _new_folder(request)
    spec = _model_spec(request)
    file = read_foreign(request.file, request.key)
    imported = load_foreign(file, spec, parse_renames(request.renames))
    where = DataSpec(name=request.score_on or request.dataset)
    data = take_slice(where, request.data_root)
    model = imported.model.to(pick_device(request.device))
    clean = score_clean(model, data, f"{where.name} {where.split}")
    card = Card(
        name=folder.name,
        model=spec,
        dataset=request.dataset,
        training=f"foreign: {request.file.name} (sha256 {file.sha256})",
        clean_accuracy=clean,
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "rbench": bench.__version__,
        },
        sha256="0" * 64,
        notes=_notes(request, file, imported),
    )
    save_checkpoint(folder, model.net, card)
    reached = f"clean accuracy {clean.value:.2%} on {clean.n} images ({clean.split})"
    console.print(f"{folder}: {reached}", highlight=False, markup=False, soft_wrap=True)
    if clean.value < 2 / spec.classes:
        doubt = "that is near chance: do norm, mean, std and the order of classes belong to it?"
        console.print(doubt, style="yellow", highlight=False, soft_wrap=True)


def _new_folder(request: ImportRequest) -> Path:
    plain = request.file.name.partition(".")[0].lower()
    name = request.name or re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")
    if not _NAME.match(name):
        raise UserError(f"--name: expected small letters, digits, '.', '_' and '-', found '{name}'")
    folder = checkpoints_folder(request.checkpoints) / name
    taken = any((folder / file).exists() for file in (CARD, WEIGHTS))
    if taken and not request.force:
        raise UserError(f"{folder}: there is a checkpoint already; choose a --name, or --force")
    return folder


def _model_spec(request: ImportRequest) -> ModelSpec:
    dataset = get_dataset(request.dataset, request.data_root)
    try:
        norm = check_spec(yaml.safe_load(request.norm), NormSpec, "--norm")
    except yaml.YAMLError:
        raise UserError(
            f"--norm: expected a name or for example '{{name: gn, groups: 8}}', found "
            f"'{request.norm}'"
        ) from None
    fields = {
        "arch": request.arch,
        "norm": norm,
        "channels": request.channels or dataset.channels,
        "size": request.size or dataset.size,
        "classes": request.classes or dataset.classes,
        "mean": dataset.mean if request.mean is None else _numbers("--mean", request.mean),
        "std": dataset.std if request.std is None else _numbers("--std", request.std),
        "shortcut": request.shortcut,
    }
    return check_spec(fields, ModelSpec, "the model")


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(parse_number(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option}: {error}; separate channels by commas") from None


def _notes(request: ImportRequest, file: ForeignFile, imported: Imported) -> str:
    given = [f"--{k}" for k in ("mean", "std") if getattr(request, k) is not None]
    source = f"as given by {' and '.join(given)}" if given else ""
    if len(given) < 2:
        usual = f"usual for {request.dataset}, which the file does not confirm"
        source = f"{source}, the other {usual}" if given else usual
    lines = [f"Input mean and std: {source}.", *imported.notes]
    if file.key:
        lines.insert(0, f"Weights found under '{file.key}'.")
    return " ".join([*lines, f"Imported {datetime.now(UTC):%Y-%m-%d}."])


def verify_command(
    console: Console,
    names: Sequence[str],
    checkpoints: Path | None,
    options: AuditOptions,
    out: Path | None,
) -> int:
    """Checks checkpoints against their cards and shows what was found.

    Args:
        console: Where to print.
        names: Of checkpoints, or their folders; none for all.
        checkpoints: Folder of checkpoints; ``None`` for the default.
        options: How they are checked.
        out: A Markdown file that is written too.

    Returns:
        0, or 1 where one differs from its card.

    Raises:
        UserError: For an unknown name, or a folder without checkpoints.
    """
    folders = _folders(names, checkpoints_folder(checkpoints))
    audits: list[Audit] = []
    with console.status("verifying ...") as status:
        for i, folder in enumerate(folders):
            status.update(f"{folder.name} ({i + 1} of {len(folders)})")
            audits.append(audit_checkpoint(folder, options))
    table = Table(title=_line(audits), title_justify="left")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for audit in audits:
        *cells, verdict = audit.row()
        table.add_row(*map(Text, cells), Text(verdict, _STYLES[audit.verdict]))
    console.print(table)
    console.print(how_compared(), style="dim", highlight=False, soft_wrap=True)
    if out is not None:
        write_atomically(out, _audit_page(audits, options).encode())
    return 0 if passed(audits) else EXIT_DIFFERS


def _folders(names: Sequence[str], root: Path) -> list[Path]:
    if not names:
        files = [*root.glob(f"*/{CARD}"), *root.glob(f"*/{WEIGHTS}")]
        if not files:
            raise UserError(f"{root}: expected checkpoints, found none; see --checkpoints")
        return sorted({path.parent for path in files})
    folders = [Path(name) if Path(name).is_dir() else root / name for name in names]
    for folder in folders:
        if not folder.is_dir():
            open_checkpoint(folder)  # raises, with the nearest name
    return folders


def _line(audits: Sequence[Audit]) -> str:
    counts = {v: sum(audit.verdict == v for audit in audits) for v in _STYLES}
    return f"{len(audits)} checkpoints: " + ", ".join(f"{n} {v}" for v, n in counts.items() if n)


def _audit_page(audits: Sequence[Audit], options: AuditOptions) -> str:
    columns = [
        name if name != "found" else f"{COLUMNS[i - 1]} found" for i, name in enumerate(COLUMNS)
    ]
    rows = [columns, ["---"] * len(columns), *([markdown(c) for c in a.row()] for a in audits)]
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
    folder = checkpoints_folder(checkpoints)
    page = render_readme(read_entries(folder), list_recipes(recipes or folder / "recipes"))
    path = folder / README
    if not check:
        write_atomically(path, page.encode())
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)
        return 0
    fresh = path.is_file() and path.read_bytes() == page.encode()
    state = "up to date" if fresh else "stale: run rbench zoo readme"
    console.print(f"{path}: {state}", highlight=False, markup=False, soft_wrap=True)
    return 0 if fresh else EXIT_DIFFERS


def show_command(console: Console, name: str, checkpoints: Path | None) -> None:
    """Prints a checkpoint's card; raises ``UserError`` when there is none."""
    folder = _folders([name], checkpoints_folder(checkpoints))[0]
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
