"""What the commands share: where and how they print, and the options that many of them take."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from bench.core.errors import UserError
from bench.core.paths import checkpoint_roots, checkpoints_folder, suite_folders

EXIT_MISUSE, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 2, 3, 130
UNFOLDED = 100_000
"""Columns of text into a pipe, where tables are as wide as they are."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class PlainConsole(Console):
    """Prints other people's words as they are.

    Square brackets and colons in them are no markup, and codes that a terminal would obey are left
    out: labels, messages and names of files may hold anything.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yields what is printed; rich's own codes come after this."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _CONTROL.sub("", text), style, control)


_wide = sys.stdout.isatty() or "COLUMNS" in os.environ
console: Console = PlainConsole() if _wide else PlainConsole(width=160)
errors: Console = PlainConsole(stderr=True)


def duration(seconds: float) -> str:
    """Returns for example ``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def print_table(console: Console, table: RenderableType) -> None:
    """Prints a table: folded to a terminal, and into a pipe as wide as it is."""
    piped = not console.is_terminal
    (PlainConsole(width=UNFOLDED, file=console.file) if piped else console).print(table)


DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="RBENCH_DATA", help="Folder with data sets."),
]
Checkpoints = Annotated[
    Path | None,
    typer.Option("--checkpoints", envvar="RBENCH_CHECKPOINTS", help="Folder with checkpoints."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or auto.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Let python:MODULE:CALLABLE run that code.")
]


def suites(incomplete: str) -> list[str]:
    """Returns the suites in the folders of suites."""
    from bench.suite import list_suites

    return _begun(list_suites(suite_folders()), incomplete)


def checkpoints(incomplete: str) -> list[str]:
    """Returns the checkpoints of the default folder."""
    roots = checkpoint_roots(checkpoints_folder())
    cards = (card for root in roots for card in root.glob("*/card.yaml"))
    return _begun({card.parent.name for card in cards}, incomplete)


def listings(incomplete: str) -> list[str]:
    """Returns what ``rbench list`` lists."""
    from bench.cli.listing import LISTINGS

    return _begun(LISTINGS, incomplete)


def kinds(incomplete: str) -> list[str]:
    """Returns the kinds of reports."""
    from bench.suite.entry import REPORT_KINDS

    return _begun(REPORT_KINDS, incomplete)


def tables(incomplete: str) -> list[str]:
    """Returns the published tables."""
    from bench.published import table_ids

    try:
        return _begun(table_ids(), incomplete)
    except UserError:  # a user's file is wrong; the command itself says so
        return []


def trackers(incomplete: str) -> list[str]:
    """Returns the trackers."""
    return _begun(("mlflow", "wandb"), incomplete)


def _begun(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
