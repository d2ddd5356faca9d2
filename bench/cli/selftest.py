"""``rbench selftest``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from bench.cli.options import Checkpoints, DataRoot, console, errors, say
from bench.cli.working import Working
from bench.core.paths import whole_folder

if TYPE_CHECKING:  # imported at every start
    from bench.selftest import Summary

EXIT_MISSED = 1

T = TypeVar("T")


def selftest(
    case: Annotated[str | None, typer.Option("--case", help="Run only this case.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write a Markdown file.")] = None,
    no_checkpoints: Annotated[
        bool, typer.Option("--no-checkpoints", help="Skip the checkpoints.")
    ] = False,
    no_libraries: Annotated[
        bool, typer.Option("--no-libraries", help="Skip pyautoattack and torchattacks.")
    ] = False,
    checkpoints: Checkpoints = None,
    data_root: DataRoot = None,
) -> None:
    """Test that rbench notices known evaluation mistakes (four minutes on two cores)."""
    say(errors, "selftest: about four minutes on two cores ..." if case is None else f"{case} ...")
    from bench.selftest import CASES, Processes, Summary, compare, pick, run_case, trials
    from bench.zoo import list_folders

    if case is not None:
        results = [run_case(pick(CASES, case))]
        shown = [] if no_libraries else [trial for trial in trials() if trial.id == case]
        summary = Summary(results, _collect("libraries", map(compare, shown), len(shown)))
    else:
        with Processes() as processes:
            folders = [] if no_checkpoints else list_folders([whole_folder(checkpoints)])
            looks = processes.check_checkpoints(folders, data_root)  # the longest first
            tried = [] if no_libraries else list(trials())
            compared = processes.compare(tried)
            results = _collect("planted cases", processes.run_cases(CASES), len(CASES))
            comparisons = _collect("libraries", compared, len(tried))
            looked = _collect("checkpoints", looks, len(folders))
            summary = Summary(results, comparisons, None if no_checkpoints else looked)
    _show(summary)
    if out is not None:
        _write(out, summary)
    raise typer.Exit(0 if summary.passed else EXIT_MISSED)


def _write(out: Path, summary: Summary) -> None:
    from bench.store.files import write_atomically

    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, summary.to_markdown().encode())


def _collect(what: str, found: Iterable[T], total: int) -> list[T]:
    """Returns all of an iterable, and shows how far it is."""
    collected: list[T] = []
    with Working(f"selftest: {what}", total) as working:
        for one in found:
            collected.append(one)
            working.step()
    return collected


def _show(summary: Summary) -> None:
    from bench.selftest.summary import CASE_COLUMNS, CHECKPOINT_COLUMNS, COMPARISON_COLUMNS

    rows = [
        (name, f"{planted}: {expected}", got, verdict)
        for name, planted, expected, got, verdict in summary.case_rows()
    ]
    columns = (CASE_COLUMNS[0], *CASE_COLUMNS[2:])
    console.print(_table("planted cases", columns, rows))
    if summary.checkpoints:
        console.print(_table("sound checkpoints", CHECKPOINT_COLUMNS, summary.checkpoint_rows()))
    if summary.comparisons:
        console.print(_table("side by side", COMPARISON_COLUMNS, summary.comparison_rows()))
    style = "bold green" if summary.passed else "bold red"
    say(console, summary.line(), style)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text, _style(text)) for text in row))
    return table


def _style(text: str) -> str:
    return {"caught": "green", "MISSED": "bold red"}.get(text, "")
