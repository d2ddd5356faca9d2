"""``rbench report``, ``index`` and ``published``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options as completing
from bench.cli.options import AsJson, RunArgument, console, say, warn
from bench.core.errors import UserError, did_you_mean

published_app = typer.Typer(
    help="Published tables, to set beside a run: list them, import others' leaderboards.",
    no_args_is_help=True,
)
SOURCES = ("robustbench",)
PAPER = "paper"
STYLES = ("full", PAPER)


def report(
    run: RunArgument,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            help="Only this kind of report, in the suite or not; repeatable.",
            autocompletion=completing.kinds,
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Some of md,tex,csv,png,svg,pdf,html (default: all)."),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            help="Set this published table, such as rna/table1, beside the run; repeatable.",
            autocompletion=completing.tables,
        ),
    ] = None,
    style: Annotated[
        str,
        typer.Option("--style", help="full, or paper: each table alone, as LaTeX for a paper."),
    ] = "full",
    width: Annotated[
        str | None,
        typer.Option("--width", help="Of tables in a paper: column, text, or auto (default)."),
    ] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Show 95 % intervals in tables for a paper.")
    ] = False,
    no_float: Annotated[
        bool, typer.Option("--no-float", help="Without table, caption and label, for your own.")
    ] = False,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            help="Group a paper's rows by training, arch, norm, dataset, stats or protocol, or put "
            "models under a heading: HEADING=LABEL, with * and ?; repeatable.",
        ),
    ] = None,
) -> None:
    """Write a run's reports again from its store: tables, figures, and one page of them all."""
    from bench.core.paths import folder_at
    from bench.report.write import FORMATS, PAGE, write_comparisons, write_reports

    folder, kinds, compared = folder_at(run), kind or [], compare or []
    looks = {"--width": width, "--intervals": intervals, "--no-float": no_float, "--group": groups}
    _check_style(style, [name for name, value in looks.items() if value], formats)
    if style == PAPER:
        from bench.report.write_paper import paper_style, write_paper_tables

        look = paper_style(width, intervals=intervals, floats=not no_float)
        for path in write_paper_tables(folder, kinds, look, groups or [], compared):
            say(console, str(path))
        return
    wanted = [name.strip() for text in formats or [] for name in text.split(",") if name.strip()]
    # The page is of the whole run: with --kind it is written only if it is asked for.
    wanted = wanted or [name for name in FORMATS if name != PAGE or not kinds]
    paths = write_comparisons(folder, compared, wanted) if compared else []
    if kinds or not compared:
        paths += write_reports(folder, kinds, wanted)
    for path in paths:
        say(console, str(path))


def _check_style(style: str, looks: list[str], formats: list[str] | None) -> None:
    """Raises ``UserError`` for an unknown style, and for options of the other one."""
    if style not in STYLES:
        raise UserError(f"unknown style '{style}'{did_you_mean(style, STYLES)}")
    if looks and style != PAPER:
        raise UserError(f"{looks[0]} is for tables of a paper: add --style paper")
    if formats and style == PAPER:
        raise UserError("--style paper writes LaTeX only: leave --format out")


def index(
    reports: Annotated[Path, typer.Argument(help="A folder of run folders.")] = Path("reports"),
) -> None:
    """Write the index of all runs: what each is, and which of the papers' claims hold."""
    from bench.report.papers.index import write_index

    say(console, f"wrote {write_index(reports)}")


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
    from bench.cli.listing import Listing
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
