"""``rbench export``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from bench.cli.options import EXIT_INCOMPLETE, console, errors
from bench.core.errors import UserError, did_you_mean
from bench.core.paths import Folder, folder_at

FORMATS = ("csv", "parquet", "robustbench", "hf")
STDOUT = "-"


def export(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its URL.")],
    to: Annotated[str, typer.Option("--to", help=f"{', '.join(FORMATS)}.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="File for csv (- is stdout) and parquet, folder for the others."
        ),
    ] = None,
) -> None:
    """Write a run for other tools, below RUN/export: one table, RobustBench entries, model cards.

    csv and parquet hold a line for each image of each cell. Exit code 3: some models are no entry
    for RobustBench; each is named with what is missing.
    """
    if to not in FORMATS:
        raise UserError(f"--to: unknown format '{to}'{did_you_mean(to, FORMATS)}")
    folder = folder_at(run_folder)
    if to in ("csv", "parquet"):
        _table(folder, to, out)
        return
    where = folder_at(out) if out else folder / "export" / to
    refused: Mapping[str, str] = {}
    if to == "hf":
        files = _cards(folder)
    else:
        files, refused = _entries(folder)
    for name, content in files.items():
        _write(where / name, content)
    for label, why in refused.items():
        line = f"no entry for {label}: {why}"
        errors.print(line, style="yellow", highlight=False, soft_wrap=True)
    if refused:
        raise typer.Exit(EXIT_INCOMPLETE)


def _table(folder: Folder, format: str, out: str | None) -> None:
    """Writes all rows of a run as one table."""
    from bench.export import rows_table, to_bytes
    from bench.report.run_view import RunView

    if out == STDOUT and format != "csv":
        raise UserError(f"--to {format} is no text; say where with --out FILE.{format}")
    content = to_bytes(rows_table(RunView(folder)), format)
    if out == STDOUT:
        typer.echo(content, nl=False)
        return
    _write(folder_at(out) if out else folder / "export" / f"rows.{format}", content)


def _cards(folder: Folder) -> dict[str, bytes]:
    from bench.export.huggingface import export_cards
    from bench.report.run_view import RunView

    files = export_cards(RunView(folder))
    if not files:
        raise UserError(f"{folder}: expected a complete cell to write a card of, found none")
    return files


def _entries(folder: Folder) -> tuple[dict[str, bytes], dict[str, str]]:
    from bench.export.robustbench import export_robustbench
    from bench.report.run_view import RunView

    exported = export_robustbench(RunView(folder))
    return exported.files, exported.refused


def _write(path: Folder, content: bytes) -> None:
    from bench.store import write_atomically

    write_atomically(path, content)
    console.print(f"wrote {path}", highlight=False, soft_wrap=True)
