"""``rbench selftest``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.core.paths import whole_folder
from bench.selftest import CASES, Summary, check_checkpoints, compare, pick, run_case, trials
from bench.selftest.summary import CASE_COLUMNS, CHECKPOINT_COLUMNS, COMPARISON_COLUMNS
from bench.store import write_atomically

EXIT_MISSED = 1

T = TypeVar("T")


def selftest_command(
    console: Console,
    case_id: str | None,
    out: Path | None,
    checkpoints: Path | None,
    data_root: Path | None,
    *,
    with_checkpoints: bool,
    with_libraries: bool,
) -> int:
    """Runs the planted cases and shows what is caught.

    Args:
        console: Where to print.
        case_id: Runs this case only, without checkpoints; ``None`` for all.
        out: Markdown file that is written too.
        checkpoints: Folder of checkpoints; ``None`` for the default.
        data_root: Where the checkpoints' data sets lie; ``None`` for the defaults.
        with_checkpoints: Whether to look at checkpoints.
        with_libraries: Whether to run pyautoattack and torchattacks too.

    Returns:
        0, or 1 where a case is missed or a sound model raised an alarm.

    Raises:
        UserError: For an unknown case.
    """
    cases = (pick(CASES, case_id),) if case_id else CASES
    results = _collect(console, "planted cases", map(run_case, cases))
    checked = None
    if with_checkpoints and case_id is None:
        folder = whole_folder(checkpoints)
        checked = _collect(console, "checkpoints", check_checkpoints(folder, data_root))
    shown = [t for t in trials() if case_id in (None, t.id)] if with_libraries else []
    comparisons = _collect(console, "libraries", map(compare, shown))
    summary = Summary(results, comparisons, checked)
    _show(console, summary)
    if out is not None:
        _write(out, summary)
    return 0 if summary.passed else EXIT_MISSED


def _write(out: Path, summary: Summary) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, summary.to_markdown().encode())


def _collect(console: Console, what: str, found: Iterable[T]) -> list[T]:
    """Returns everything in a list; a terminal shows how many there are by now."""
    collected: list[T] = []
    with console.status(f"{what} ...") as status:
        for one in found:
            collected.append(one)
            status.update(f"{what}: {len(collected)} done")
    return collected


def _show(console: Console, summary: Summary) -> None:
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
    console.print(summary.line(), style=style, highlight=False, soft_wrap=True)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text, _style(text)) for text in row))
    return table


def _style(text: str) -> str:
    return {"caught": "green", "MISSED": "bold red"}.get(text, "")
