"""What commands share: consoles, options that several of them take, and shell completion.

Every start of ``rbench`` imports this, so nothing here imports torch, suites or stores at the top.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from bench.core.errors import UserError
from bench.core.paths import Where, checkpoint_roots, checkpoints_folder, suite_folders

if TYPE_CHECKING:
    from bench.report.run_view import RunView

EXIT_MISUSE, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 2, 3, 130
UNFOLDED = 100_000
"""Columns of text into a pipe, where tables are not folded."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class PlainConsole(Console):
    """Prints texts from files as they are: labels, messages and file names may hold anything.

    Square brackets and colons are no markup, and control codes that a terminal would obey are
    dropped.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yields what is printed; rich adds its own codes later."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _CONTROL.sub("", text), style, control)


_wide = sys.stdout.isatty() or "COLUMNS" in os.environ
console: Console = PlainConsole() if _wide else PlainConsole(width=160)
errors: Console = PlainConsole(stderr=True)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Prints a text without markup, colours of its own or line breaks."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def warn(console: Console, text: str) -> None:
    """Prints a text that should not be overlooked."""
    say(console, text, "yellow")


def duration(seconds: float) -> str:
    """Returns for example ``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def say_unfinished(view: RunView) -> None:
    """Warns of cells and analyses that a run still lacks, and how to run them."""
    from bench.report.page.summary import unfinished_words

    if words := unfinished_words(view):
        warn(errors, words)


def print_table(console: Console, table: RenderableType) -> None:
    """Prints a table: folded on a terminal, unfolded into a pipe."""
    piped = not console.is_terminal
    (PlainConsole(width=UNFOLDED, file=console.file) if piped else console).print(table)


def where_of(
    checkpoints: Path | None, data_root: Path | None, device: str, trust_code: bool = False
) -> Where:
    """Returns the values of the options below as one; ``auto`` becomes a device.

    Raises:
        UserError: When the device does not exist here.
    """
    from bench.evaluation.device import pick_device

    return Where(checkpoints_folder(checkpoints), data_root, pick_device(device), trust_code)


DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="RBENCH_DATA", help="Folder of data sets."),
]
Checkpoints = Annotated[
    Path | None,
    typer.Option("--checkpoints", envvar="RBENCH_CHECKPOINTS", help="Folder of checkpoints."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or auto.")]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Allow python:MODULE:CALLABLE, which runs code.")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Number of processes (default: one per core; GPU: 1)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run folder or URL.")]


def suites(incomplete: str) -> list[str]:
    """Completes the name of a suite."""
    from bench.suite.find import list_suites

    return starting(list_suites(suite_folders()), incomplete)


def checkpoints(incomplete: str) -> list[str]:
    """Completes the name of a checkpoint in the default folder."""
    roots = checkpoint_roots(checkpoints_folder())
    cards = (card for root in roots for card in root.glob("*/card.yaml"))
    return starting({card.parent.name for card in cards}, incomplete)


def kinds(incomplete: str) -> list[str]:
    """Completes a kind of report."""
    from bench.suite.report_kinds import REPORT_KINDS

    return starting(REPORT_KINDS, incomplete)


def tables(incomplete: str) -> list[str]:
    """Completes the name of a published table."""
    from bench.published import table_ids

    try:
        return starting(table_ids(), incomplete)
    except UserError:  # a user's file is wrong; the command itself reports it
        return []


def trackers(incomplete: str) -> list[str]:
    """Completes the name of a tracker."""
    return starting(("mlflow", "wandb"), incomplete)


def starting(names: Iterable[str], incomplete: str) -> list[str]:
    """Returns the names that start like a word that is being typed, sorted."""
    return sorted(name for name in names if name.startswith(incomplete))


SuiteArgument = Annotated[
    str,
    typer.Argument(help="Suite file, or the name of one in suites/.", autocompletion=suites),
]
OutFolder = Annotated[
    str | None, typer.Option("--out", help="Run folder or URL (default: reports/SUITE).")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Attack in float32 throughout; overrides the suite.")
]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Skip models whose checkpoint is missing.")
]
