"""``rbench query``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from bench.cli.options import console, errors, print_table
from bench.core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SHOWN = 1_000
"""Lines of a table on the screen; a file takes any number."""


def query(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its URL.")],
    sql: Annotated[
        str, typer.Argument(help="One SELECT over rows, cells and published (default: columns).")
    ] = "",
    format: Annotated[str, typer.Option("--format", help="table, csv, json, md or parquet.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="A file, in the format of its ending.")
    ] = None,
) -> None:
    """Ask a run by SQL (DuckDB): `rows` has a line an image, `cells` a line a cell."""
    from bench.core.paths import folder_at
    from bench.export.database import VIEWS
    from bench.export.database import query as run_query

    wanted = _format(format, out)
    columns = " union all ".join(
        f"select '{view}' as view, column_name, column_type from (describe {view})"
        for view in VIEWS
    )
    found = run_query(folder_at(run_folder), sql or columns)
    if wanted == "table":
        show(console, found)
    else:
        write_table(found, wanted, out)


def _format(format: str, out: Path | None) -> str:
    """Returns what is asked for: as said, else by the file's ending, else a table to read."""
    wanted = format or (out.suffix.lstrip(".") if out else "table")
    if wanted == "parquet" and out is None:
        raise UserError("--format parquet is no text; say where with --out FILE.parquet")
    if wanted == "table" and out is not None:
        raise UserError(f"--format table is for reading, found --out {out}; use md or csv")
    return wanted


def show(console: Console, table: pa.Table) -> None:
    """Prints a table; into a pipe as wide as it is."""
    from bench.export.write import check_names

    check_names(table)
    shown = Table()
    for field in table.schema:
        shown.add_column(Text(field.name), overflow="fold", justify=_side(str(field.type)))
    for line in table.slice(0, MAX_SHOWN).to_pylist():
        shown.add_row(*[Text(_text(value)) for value in line.values()])
    print_table(console, shown)
    if table.num_rows > MAX_SHOWN:
        left = f"{MAX_SHOWN:,} of {table.num_rows:,} lines; --format csv gives all"
        errors.print(left, style="yellow", highlight=False, soft_wrap=True)


def write_table(table: pa.Table, format: str, out: Path | None) -> None:
    """Writes a table to a file, or to what stdout is."""
    from bench.export import to_bytes
    from bench.store import write_atomically

    content = to_bytes(table, format)
    if out is None:
        typer.echo(content, nl=False)
        return
    write_atomically(out, content)
    console.print(f"wrote {out}", highlight=False, soft_wrap=True)


def _text(value: object) -> str:
    """Returns a value for reading: six digits of a number."""
    from bench.export.write import as_text

    return f"{value:.6g}" if isinstance(value, float) else as_text(value)


def _side(kind: str) -> JustifyMethod:
    return "right" if kind.startswith(("int", "uint", "float", "double", "decimal")) else "left"
