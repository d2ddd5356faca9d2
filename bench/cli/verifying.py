"""``rbench verify``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli.options import EXIT_INCOMPLETE
from bench.core.errors import UserError
from bench.core.paths import Folder, checkpoints_folder
from bench.evaluation.device import pick_device
from bench.run.job import Job
from bench.run.reverify import Verdict, reverify
from bench.store import RunStore

EXIT_FAILED = 1
SHOWN = 5


def verify_command(
    console: Console,
    run_folder: Folder,
    data_root: Path | None,
    checkpoints: Path | None,
    device: str,
    *,
    trust_code: bool = False,
) -> int:
    """Checks a run's stored examples, says what it found; returns the exit code.

    0: all hold. 1: some do not. 3: some cells have no examples, or cannot be checked.
    """
    store, device = RunStore(run_folder), pick_device(device)
    manifest = store.read_manifest()
    zoo = checkpoints_folder(checkpoints)
    table = Table(title=f"Stored examples of {run_folder}", title_justify="left")
    for name in ("model", "attack", "images", "claims", "claims that fail", "rows that differ"):
        table.add_column(name, justify="left" if name in ("model", "attack") else "right")
    table.add_column("note")
    failed = unchecked = 0
    lines: list[str] = []
    for cell in manifest.cells:
        if cell.refused or cell.cell_id is None or not store.stored(cell.cell_id):
            continue
        info, rows = store.read_cell(cell.cell_id)
        names = (cell.model_label, cell.attack_label)
        if info.attack_kind == "none":
            continue  # the clean image itself
        places = (zoo, data_root, device)
        job = Job(info.spec, info.attack_kind, *places, 1.0, len(rows), trust_code=trust_code)
        try:
            if not info.complete:
                raise UserError(f"incomplete: {info.error}")
            if not store.examples.batches(cell.cell_id):
                raise UserError("stored without examples; run the suite with --save-adv")
            with console.status(Text(f"checking {names[0]} / {names[1]}")):
                verdict = reverify(job, info, rows, store)
        except UserError as error:
            unchecked += 1
            table.add_row(*names, "", "", "", "", f"not checked: {error}", style="yellow")
            continue
        failed += bool(verdict.failures)
        table.add_row(*names, *_numbers(verdict), style="red" if verdict.failures else None)
        lines += [
            f"{names[0]} / {names[1]}, image {failure.index}: {failure.why}"
            for failure in verdict.failures[:SHOWN]
        ]
    console.print(table)
    for line in lines:
        console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
    if failed:
        console.print(f"{failed} cells do not hold what they claim", style="bold red")
        return EXIT_FAILED
    if table.row_count == unchecked:
        text = "nothing was checked: run with --save-adv to store adversarial examples"
        console.print(text, style="yellow", highlight=False, soft_wrap=True)
        return EXIT_INCOMPLETE
    console.print("every checked example is what its row says", highlight=False)
    return EXIT_INCOMPLETE if unchecked else 0


def _numbers(verdict: Verdict) -> list[str]:
    counts = (verdict.images, verdict.claims, verdict.failed_claims, len(verdict.failures))
    return [f"{count:,}" for count in counts]
