"""``rbench verify`` and ``rbench repair``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from bench.cli import options as completing
from bench.cli.options import (
    EXIT_INCOMPLETE,
    AsJson,
    Checkpoints,
    DataRoot,
    Device,
    RunArgument,
    TrustCode,
    console,
    say,
    where_of,
)
from bench.cli.working import Working
from bench.core.cell import Adversary, DataSpec
from bench.core.errors import UserError
from bench.core.paths import Where, folder_at

if TYPE_CHECKING:  # imported at every start
    from bench.core.cell import CellSpec
    from bench.core.result import CellInfo, Row
    from bench.evaluation.verdict import ExamplesVerdict
    from bench.run.reverify import Verdict
    from bench.store.run_store import RunStore

EXIT_FAILED = 1
SHOWN = 5
"""Failed images of a cell that are described."""


def verify(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Run folder or URL whose stored examples are checked."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="A checkpoint, or a URI.", autocompletion=completing.checkpoints
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Its images: a name, or '{name: ..., offset: 100}' as in a suite."
        ),
    ] = None,
    x_adv: Annotated[
        Path | None,
        typer.Option("--x-adv", help="A file of adversarial examples: .npz, .npy or .pt."),
    ] = None,
    threat: Annotated[
        str | None, typer.Option("--threat", help="For example linf:8/255, l2:0.5 or l1:12.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Key of x_adv, if the file contains several arrays.")
    ] = None,
    stats: Annotated[
        str | None, typer.Option("--stats", help="Inference statistics, such as batch.")
    ] = None,
    adversary: Annotated[
        Adversary | None,
        typer.Option("--adversary", help="joint (default) or single, for a batch-dependent model."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Images that are scored together.")
    ] = None,
    n_draws: Annotated[
        int | None,
        typer.Option("--n-draws", min=1, help="Fresh draws of a stochastic model (default: 20)."),
    ] = None,
    as_json: AsJson = False,
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Check adversarial examples, of a run or from another tool, without their attack."""
    others: dict[str, object] = {
        "--model": model,
        "--data": data,
        "--x-adv": x_adv,
        "--threat": threat,
        "--key": key,
        "--stats": stats,
        "--adversary": adversary,
        "--batch-size": batch_size,
        "--n-draws": n_draws,
        "--json": as_json or None,
    }
    given = [name for name, value in others.items() if value is not None]
    if run is not None and given:
        raise UserError(
            f"RUN and {', '.join(given)} do not go together: RUN alone checks what a run stored; "
            "for a file of other tools leave RUN out"
        )
    where = where_of(checkpoints, data_root, device, trust_code)
    if run is not None:
        raise typer.Exit(_verify_run(run, where))
    if model is None or data is None or x_adv is None or threat is None:
        needed = [name for name in ("--model", "--data", "--x-adv", "--threat") if not others[name]]
        raise UserError(
            "expected RUN, the folder of a run; or --model, --data, --x-adv and --threat, to judge "
            f"a file of other tools; found neither: {', '.join(needed)} missing"
        )
    options: dict[str, Any] = {"key": key, "stats": stats, "batch_size": batch_size}
    options |= {"adversary": adversary, "n_draws": n_draws}
    options = {name: value for name, value in options.items() if value is not None}
    raise typer.Exit(_verify_file(model, data, x_adv, threat, where, options, as_json=as_json))


def _verify_file(
    model: str,
    data: str,
    x_adv: Path,
    threat: str,
    where: Where,
    options: dict[str, Any],
    *,
    as_json: bool,
) -> int:
    """Judges a file of other tools and prints what it proves; returns 1 if some are not valid."""
    with Working(f"scoring {x_adv}"):
        from bench.evaluation.examples import verify_file

        verdict = verify_file(model, _data_spec(data), x_adv, threat, where, **options)
    if as_json:
        typer.echo(json.dumps(verdict.as_dict(), indent=2))
    else:
        _print_verdict(verdict, f"{x_adv} on {model}, {data}")
    return 0 if verdict.all_valid else EXIT_FAILED


def _data_spec(text: str) -> DataSpec:
    from bench.untrusted.spec_file import check_spec
    from bench.untrusted.yaml_text import YamlError, load

    if not text.startswith("{"):
        return DataSpec(name=text)
    try:
        return check_spec(load(text), DataSpec, "--data")
    except YamlError as error:
        raise UserError(f"--data: {error}") from None


def _print_verdict(verdict: ExamplesVerdict, title: str) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, number in verdict.lines():
        table.add_row(name, number)
    console.print(table)
    for line in verdict.remarks():
        say(console, line)


def _verify_run(run: str, where: Where) -> int:
    """Checks every stored example of a run anew, without its attack; returns the exit code."""
    from bench.store.run_store import RunStore

    store = RunStore(folder_at(run))
    table = Table(title=f"Stored examples of {store.folder}", title_justify="left")
    for name in ("model", "attack"):
        table.add_column(name)
    for name in ("images", "adversarial by their rows", "of these mismatches", "mismatches"):
        table.add_column(name, justify="right")
    table.add_column("note")
    failed = unchecked = 0
    lines: list[str] = []
    cells = store.read_manifest().cells
    with Working(f"checking {store.folder}", len(cells)) as working:
        for cell in cells:
            names = (cell.model_label, cell.attack_label)
            working.step(f"checking {names[0]} / {names[1]}")
            if cell.refused or cell.cell_id is None or not store.stored(cell.cell_id):
                continue
            info, rows = store.read_cell(cell.cell_id)
            if info.attack_kind == "none":
                continue  # the clean image itself
            try:
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
    return _conclude(failed, unchecked, table.row_count)


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
        text = f"mismatches in {failed} of {cells} cells: stored examples and results differ"
        say(console, text, "bold red")
        return EXIT_FAILED
    if cells == unchecked:
        text = "nothing was checked: run with --save-adv to store adversarial examples"
        say(console, text, "yellow")
        return EXIT_INCOMPLETE
    if unchecked:
        say(console, f"no mismatches, but {unchecked} of {cells} cells were not checked", "yellow")
        return EXIT_INCOMPLETE
    say(console, "All stored adversarial examples match their results")
    return 0


def repair(run: RunArgument) -> None:
    """Check a run folder for damage, and rebuild a lost run.json."""
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
