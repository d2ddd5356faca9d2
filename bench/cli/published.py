"""``rbench published``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as completing
from bench.cli.listing import Listing
from bench.cli.options import AsJson, console, print_table, say, warn
from bench.core.errors import UserError

if TYPE_CHECKING:
    from bench.published import PublishedTable

published_app = typer.Typer(
    help="Published tables to compare runs with: list, show, import.",
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
    """Convert a leaderboard's files into published tables for suites.

    Suites find tables in ./published/*.yaml, or in the folder that RBENCH_PUBLISHED names.
    """
    from bench.published import published_folder
    from bench.published.robustbench import import_model_info
    from bench.store.files import write_atomically
    from bench.untrusted.yaml_text import MAX_BYTES

    if source not in SOURCES:
        raise UserError(f"unknown source '{source}'; expected {', '.join(SOURCES)}")
    text, tables = import_model_info(path)
    if len(text.encode()) > MAX_BYTES:
        raise UserError(f"{path}: too many entries for one file; import a folder in it at a time")
    target = to or published_folder() / f"{source}.yaml"
    write_atomically(target, text.encode())
    say(console, f"wrote {target}")
    for table in tables:
        say(console, f"published: {target.stem}/{table}")
    if target.resolve().parent != published_folder().resolve():
        warn(
            console,
            f"set RBENCH_PUBLISHED={target.parent} for suites and reports to find it",
        )


@published_app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List the published tables that suites and reports may name."""
    from bench.published import load_table, table_ids

    rows = [
        [table.id, len(table.rows), ", ".join(table.columns), table.unit, table.title]
        for table in map(load_table, table_ids())
    ]
    listing = Listing(["table", "rows", "columns", "unit", "title"], rows)
    if as_json:
        typer.echo(listing.json())
    else:
        console.print(listing.table())


@published_app.command()
def show(
    table: Annotated[
        str,
        typer.Argument(
            help="Name of a table (rbench published list).", autocompletion=completing.tables
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show a published table, and how a suite refers to its rows and columns."""
    from bench.published import load_table
    from bench.published.rows import all_keys

    found = load_table(table)
    keys = all_keys(found.keys)
    raw = [
        [*(row.get(key) for key in keys), *(values[name] for name in found.columns)]
        for row, values in found.rows
    ]
    if as_json:
        typer.echo(Listing([*keys, *found.columns], raw).json())
        return
    say(console, f"{found.id}: {found.title} ({found.unit})")
    print_table(
        console, Listing([*keys, *found.columns], [list(map(_text, r)) for r in raw]).table()
    )
    print_table(console, _columns(found).table())
    _say_use(found)


def _text(value: object) -> str:
    """Returns a key or a number as a suite has it; empty where the row has none."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _columns(table: PublishedTable) -> Listing:
    """Returns the attack behind each column, in rbench's words."""
    from bench.published.rows import in_yaml

    rows = []
    for name in table.columns:
        attack = table.settings[0][name].attack
        params = in_yaml(attack.params) if attack and attack.params else ""
        rows.append([name, attack.attack if attack else "not known", params])
    return Listing(["column", "attack in rbench", "parameters that the source states"], rows)


def _say_use(table: PublishedTable) -> None:
    """Prints how the source measured, and how a suite sets its numbers beside its own."""
    from bench.published.rows import in_yaml, shortest
    from bench.report.papers.match import ACCURACY

    for about, text in (("Measured", table.measured), ("Attacks", table.attacks)):
        if text:
            say(console, f"{about}: {text}")
    column = next((n for n in table.columns if n != "natural"), table.columns[0])
    attack = table.settings[0][column].attack
    say(console, "\nIn a suite:")
    row = in_yaml(shortest(table.keys[0], table.keys))
    say(console, f"  models:  - {{checkpoint: NAME, published: {row}}}")
    name = attack.attack if attack else "NAME"
    say(console, f"  attacks: - {{attack: {name}, published: {column}}}")
    if table.unit == ACCURACY:
        say(console, f"then: rbench report RUN --suite SUITE --compare {table.id}")
