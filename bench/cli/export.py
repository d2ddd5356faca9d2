"""``rbench export`` and ``rbench query``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from bench.cli.options import (
    EXIT_INCOMPLETE,
    RunArgument,
    console,
    errors,
    print_table,
    say,
    say_unfinished,
    warn,
)
from bench.core.errors import UserError, did_you_mean
from bench.core.paths import Folder, folder_at

if TYPE_CHECKING:
    import pyarrow as pa

    from bench.report.run_view import RunView

FORMATS = ("csv", "parquet", "robustbench", "hf")
STDOUT = "-"
SCREEN = "table"
"""The format of a query that is read on the screen."""

MAX_SHOWN = 1_000
"""Lines of a table on the screen; a file takes any number."""


def export(
    run: RunArgument,
    to: Annotated[str, typer.Option("--to", help=f"{', '.join(FORMATS)}.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="File for csv (- is stdout) and parquet; folder for other formats."
        ),
    ] = None,
) -> None:
    """Export a run for other tools: one table, RobustBench entries, model cards.

    csv and parquet have a line for each image under each attack. Exit code 3: some models do not
    qualify as RobustBench entries; each is listed with the reason.
    """
    from bench.export.huggingface import export_cards
    from bench.export.robustbench import export_robustbench
    from bench.report.run_view import RunView

    if to not in FORMATS:
        raise UserError(f"--to: unknown format '{to}'{did_you_mean(to, FORMATS)}")
    folder = folder_at(run)
    view = RunView(folder)
    if to in ("csv", "parquet"):
        _export_rows(view, to, out)
        say_unfinished(view)
        return
    refused: Mapping[str, str] = {}
    if to == "hf":
        files = export_cards(view)
        if not files:
            raise UserError(f"{folder}: expected a complete cell to write a card of, found none")
    else:
        exported = export_robustbench(view)
        files, refused = exported.files, exported.refused
    target = folder_at(out) if out else folder / "export" / to
    for name, content in files.items():
        _write(target / name, content)
    if to == "hf":  # an entry for RobustBench is refused with what it lacks
        say_unfinished(view)
    for label, why in refused.items():
        warn(errors, f"no entry for {label}: {why}")
    if refused:
        raise typer.Exit(EXIT_INCOMPLETE)


def _export_rows(view: RunView, format: str, out: str | None) -> None:
    """Writes all rows of a run as one table."""
    from bench.export import rows_table, to_bytes

    if out == STDOUT and format != "csv":
        raise UserError(f"--to {format} is no text; say where with --out FILE.{format}")
    content = to_bytes(rows_table(view), format)
    if out == STDOUT:
        typer.echo(content, nl=False)
    else:
        _write(folder_at(out) if out else view.folder / "export" / f"rows.{format}", content)


def query(
    run: RunArgument,
    sql: Annotated[
        str, typer.Argument(help="One SELECT over rows, cells and published (default: columns).")
    ] = "",
    format: Annotated[str, typer.Option("--format", help="table, csv, json, md or parquet.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; its extension sets the format.")
    ] = None,
) -> None:
    """Query a run with SQL (DuckDB): `rows` (images) and `cells` (a model under an attack)."""
    from bench.export import database, to_bytes

    wanted = _format(format, out)
    columns = " union all ".join(
        f"select '{view}' as view, column_name, column_type from (describe {view})"
        for view in database.VIEWS
    )
    found = database.query(folder_at(run), sql or columns)
    if wanted == SCREEN:
        _show(console, found)
    elif out is None:
        typer.echo(to_bytes(found, wanted), nl=False)
    else:
        _write(out, to_bytes(found, wanted))


def _format(format: str, out: Path | None) -> str:
    """Returns the format asked for, else the one of the file's ending, else ``table``."""
    from bench.export import FORMATS as FILES

    wanted = format or (out.suffix.lstrip(".") if out else SCREEN)
    if wanted not in (SCREEN, *FILES):
        where, known = ("--format", (SCREEN, *FILES)) if format else (f"--out {out}", tuple(FILES))
        raise UserError(f"{where}: unknown format '{wanted}'{did_you_mean(wanted, known)}")
    if wanted == "parquet" and out is None:
        raise UserError("--format parquet is no text; say where with --out FILE.parquet")
    if wanted == SCREEN and out is not None:
        raise UserError(f"--format table is for reading, found --out {out}; use md or csv")
    return wanted


def _show(console: Console, table: pa.Table) -> None:
    """Prints a table, numbers with six digits."""
    from bench.export.write import as_text, check_names

    check_names(table)
    shown = Table()
    for field in table.schema:
        shown.add_column(Text(field.name), overflow="fold", justify=_side(str(field.type)))
    for line in table.slice(0, MAX_SHOWN).to_pylist():
        texts = [f"{v:.6g}" if isinstance(v, float) else as_text(v) for v in line.values()]
        shown.add_row(*map(Text, texts))
    print_table(console, shown)
    if table.num_rows > MAX_SHOWN:
        warn(errors, f"{MAX_SHOWN:,} of {table.num_rows:,} lines; --format csv gives all")


def _side(kind: str) -> JustifyMethod:
    return "right" if kind.startswith(("int", "uint", "float", "double", "decimal")) else "left"


def _write(path: Folder, content: bytes) -> None:
    from bench.store.files import write_atomically

    write_atomically(path, content)
    say(console, f"wrote {path}")
