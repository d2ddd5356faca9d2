"""``rbench published``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import AsJson, console
from bench.core.errors import UserError

published_app = typer.Typer(
    help="Published tables, to set beside a run: list them, import others' leaderboards.",
    no_args_is_help=True,
)
SOURCES = ("robustbench",)


@published_app.command(name="import")
def import_(
    source: Annotated[str, typer.Argument(help="robustbench.")],
    path: Annotated[
        Path, typer.Argument(help="Its folder model_info, or one in it such as cifar10/Linf.")
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="File (default: published/SOURCE.yaml).")
    ] = None,
) -> None:
    """Turn a leaderboard's files into published tables that suites may name.

    Files *.yaml of ./published, or of the folder RBENCH_PUBLISHED, are found by their names.
    """
    from bench.published import published_folder
    from bench.published.robustbench import import_model_info
    from bench.store import write_atomically
    from bench.untrusted.yaml_text import MAX_BYTES

    if source not in SOURCES:
        raise UserError(f"unknown source '{source}'; expected {', '.join(SOURCES)}")
    text, tables = import_model_info(path)
    if len(text.encode()) > MAX_BYTES:
        raise UserError(f"{path}: too many entries for one file; import a folder in it at a time")
    target = to or published_folder() / f"{source}.yaml"
    write_atomically(target, text.encode())
    console.print(f"wrote {target}", highlight=False, soft_wrap=True)
    for table in tables:
        console.print(f"published: {target.stem}/{table}", highlight=False, soft_wrap=True)
    if target.resolve().parent != published_folder().resolve():
        hint = f"set RBENCH_PUBLISHED={target.parent} for suites and reports to find it"
        console.print(hint, style="yellow", highlight=False, soft_wrap=True)


@published_app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List the published tables that suites and reports may name."""
    from bench.cli.listing import Listing
    from bench.published import load_table, table_ids

    rows = []
    for table in map(load_table, table_ids()):
        rows.append([table.id, len(table.rows), ", ".join(table.columns), table.unit, table.title])
    listing = Listing(["table", "rows", "columns", "unit", "title"], rows)
    if as_json:
        typer.echo(listing.json())
    else:
        console.print(listing.table())
