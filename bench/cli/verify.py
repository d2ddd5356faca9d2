"""``rbench verify`` and ``rbench repair``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from bench.cli.options import (
    EXIT_INCOMPLETE,
    Checkpoints,
    DataRoot,
    Device,
    RunArgument,
    TrustCode,
    console,
    say,
    where_of,
)
from bench.core.errors import UserError
from bench.core.paths import Where, folder_at

if TYPE_CHECKING:  # imported at every start
    from bench.core.cell import CellSpec
    from bench.core.result import CellInfo, Row
    from bench.run.reverify import Verdict
    from bench.store.run_store import RunStore

EXIT_FAILED = 1
SHOWN = 5
"""Failed images of a cell that are described."""


def verify(
    run: RunArgument,
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Check every stored adversarial example of a run anew, without its attack."""
    from bench.store.run_store import RunStore

    where = where_of(checkpoints, data_root, device, trust_code)
    store = RunStore(folder_at(run))
    table = Table(title=f"Stored examples of {store.folder}", title_justify="left")
    for name in ("model", "attack", "images", "claims", "claims that fail", "rows that differ"):
        table.add_column(name, justify="left" if name in ("model", "attack") else "right")
    table.add_column("note")
    failed = unchecked = 0
    lines: list[str] = []
    for cell in store.read_manifest().cells:
        if cell.refused or cell.cell_id is None or not store.stored(cell.cell_id):
            continue
        info, rows = store.read_cell(cell.cell_id)
        if info.attack_kind == "none":
            continue  # the clean image itself
        names = (cell.model_label, cell.attack_label)
        try:
            with console.status(Text(f"checking {names[0]} / {names[1]}")):
                verdict = _reverified(store, info, rows, where)
        except UserError as error:
            unchecked += 1
            table.add_row(*names, "", "", "", "", f"not checked: {error}", style="yellow")
            continue
        failed += bool(verdict.failures)
        table.add_row(*names, *_numbers(verdict), style="red" if verdict.failures else None)
        for failure in verdict.failures[:SHOWN]:
            lines.append(f"{names[0]} / {names[1]}, image {failure.index}: {failure.why}")
    console.print(table)
    for line in lines:
        say(console, line, "red")
    raise typer.Exit(_conclude(failed, unchecked, table.row_count))


def _reverified(store: RunStore, info: CellInfo, rows: list[Row], where: Where) -> Verdict:
    """Checks the examples of a cell.

    Raises:
        UserError: When the cell is incomplete, has no examples, or cannot be checked.
    """
    from bench.run.job import Job
    from bench.run.reverify import reverify

    if not info.complete:
        raise UserError(f"incomplete: {info.error}")
    if not store.examples.batches(info.cell_id):
        raise UserError("stored without examples; run the suite with --save-adv")
    return reverify(Job(info.spec, info.attack_kind, where, 1.0, len(rows)), info, rows, store)


def _numbers(verdict: Verdict) -> list[str]:
    counts = (verdict.images, verdict.claims, verdict.failed_claims, len(verdict.failures))
    return [f"{count:,}" for count in counts]


def _conclude(failed: int, unchecked: int, cells: int) -> int:
    """Prints the conclusion; returns 0, 1 if rows are wrong, or 3 if cells were not checked."""
    if failed:
        console.print(f"{failed} cells do not hold what they claim", style="bold red")
        return EXIT_FAILED
    if cells == unchecked:
        text = "nothing was checked: run with --save-adv to store adversarial examples"
        say(console, text, "yellow")
        return EXIT_INCOMPLETE
    say(console, "every checked example is what its row says")
    return EXIT_INCOMPLETE if unchecked else 0


def repair(run: RunArgument) -> None:
    """Look through a run's store, name what is damaged, and write a lost run.json again."""
    from bench.store.lock import locked
    from bench.store.run_store import RunStore
    from bench.suite.rebuild import rebuild_manifest

    folder = folder_at(run)
    if not (folder / "store").is_dir():
        raise UserError(f"{folder}: expected the folder of a run, as `rbench run --out` makes")
    store = RunStore(folder)
    with locked(folder):
        specs, damaged = _readable(store)
        for line in damaged:
            say(console, line, "red")
        console.print(f"{len(specs)} cells can be read, {len(damaged)} are damaged")
        try:
            store.read_manifest()
            console.print("the manifest is in order")
        except UserError as error:
            say(console, str(error), "yellow")
            name = re.sub("[^a-z0-9_-]+", "_", folder.name.lower()) or "rebuilt"
            store.write_manifest(rebuild_manifest(list(specs.values()), name))
            say(
                console,
                "wrote it again from the cells, with default labels and a leaderboard; "
                "`rbench run SUITE` brings back the suite's own",
            )
    raise typer.Exit(EXIT_INCOMPLETE if damaged else 0)


def _readable(store: RunStore) -> tuple[dict[str, CellSpec], list[str]]:
    """Returns the specs of cells and chunks that can be read, by id, and the errors of the rest."""
    specs: dict[str, CellSpec] = {}
    damaged: list[str] = []
    for cell_id in store.cell_ids():
        try:
            specs[cell_id] = store.read_cell(cell_id)[0].spec
        except UserError as error:
            damaged.append(str(error))
    for cell_id in store.chunks.cell_ids():
        try:
            for chunk in store.chunks.read(cell_id):
                specs[cell_id] = chunk.info.spec
        except UserError as error:
            damaged.append(str(error))
    return specs, damaged
