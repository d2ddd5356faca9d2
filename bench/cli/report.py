"""``rbench report`` and ``index``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as completing
from bench.cli.options import RunArgument, console, say, say_unfinished
from bench.cli.working import Working
from bench.core.errors import UserError, did_you_mean

if TYPE_CHECKING:  # imported at every start
    from bench.core.paths import Folder
    from bench.store.manifest import Manifest

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
            help="Set this published table, such as rna/table1, beside the run, on its page too; "
            "repeatable.",
            autocompletion=completing.tables,
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            help="The run's suite as it is now: its labels, titles, reports and published rows "
            "count without a new run.",
            autocompletion=completing.suites,
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
        bool, typer.Option("--no-float", help="Omit table, caption and label.")
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
    """Write the reports of a run again from stored rows: tables, figures, report.html."""
    from bench.core.paths import folder_at
    from bench.report.run_view import RunView
    from bench.report.write import FORMATS, PAGE, write_view

    folder, kinds, compared = folder_at(run), kind or [], compare or []
    looks = {"--width": width, "--intervals": intervals, "--no-float": no_float, "--group": groups}
    _check_style(style, [name for name, value in looks.items() if value], formats)
    working = Working(f"writing the reports of {run}")
    if style == PAPER:
        from bench.report.write_paper import paper_style, write_paper_tables

        look = paper_style(width, intervals=intervals, floats=not no_float)
        with working, _manifest(folder, suite) as manifest:
            view = RunView(folder, manifest)
            for path in write_paper_tables(view, kinds, look, groups or [], compared):
                say(console, str(path))
        return say_unfinished(view)
    wanted = [name.strip() for text in formats or [] for name in text.split(",") if name.strip()]
    # The page is of the whole run: with --kind it is written only if it is asked for.
    wanted = wanted or [name for name in FORMATS if name != PAGE or not kinds]
    chosen = None if compared and not kinds else kinds
    with working, _manifest(folder, suite) as manifest:
        view = RunView(folder, manifest)
        for path in write_view(view, chosen, wanted, compared):
            say(console, str(path))
    say_unfinished(view)


@contextmanager
def _manifest(folder: Folder, suite: str | None) -> Iterator[Manifest | None]:
    """Yields a run's manifest in the words of its edited suite, and stores it if all goes well."""
    if suite is None:
        yield None
        return
    from bench.core.paths import suite_folders
    from bench.store.lock import locked
    from bench.store.run_store import RunStore
    from bench.suite.find import find_suite
    from bench.suite.load import read_suite
    from bench.suite.rebuild import edited_manifest

    store = RunStore(folder)
    edited = read_suite(find_suite(suite, suite_folders()))
    store.read_manifest()  # locking makes the folder, so it must be one of a run
    with locked(folder):
        manifest = edited_manifest(store.read_manifest(), edited)
        yield manifest
        store.write_manifest(manifest)


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
    """Write the index of all runs, with the verdicts on the papers' claims."""
    with Working(f"reading the runs in {reports}"):
        from bench.report.papers.index import write_index

        path = write_index(reports)
    say(console, f"wrote {path}")
