"""A check as GitHub's workflow commands, which set notes at a job and at a pull request.

Format and escapes: docs.github.com, "Workflow commands for GitHub Actions", and ``escapeData`` and
``escapeProperty`` of actions/toolkit, packages/core/src/command.ts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from bench.check.compare import Check, Checked
from bench.check.say import SHOWN, headline, line
from bench.untrusted.escape import one_line

Level = Literal["error", "warning", "notice"]

MOST = 9
"""Notes of each level: GitHub shows ten of a step, and the last is kept for what it says itself of
the exit code."""

LONGEST = 4_000
"""Characters of a message."""


def to_annotations(check: Check) -> list[str]:
    """Returns a line for each cell that must be looked at, the worst first, and for the whole.

    Errors are regressions, warnings leave the check open, notices are all else that has changed.
    """
    found: dict[Level, list[Checked]] = {"error": [], "warning": [], "notice": []}
    for cell in check.cells:
        level = _level(cell)
        if level is not None:
            found[level].append(cell)
    whole: Level = "notice" if check.exit_code == 0 else "error"
    lines = [command(whole, f"rbench check {check.suite}", headline(check))]
    for level, cells in found.items():
        # The headline takes one of its level's places.
        room = MOST - 1 if level == whole else MOST
        lines += _of_level(level, cells, room, check.tested)
    return lines


def _level(cell: Checked) -> Level | None:
    if cell.fails:
        return "error"
    if cell.leaves_open or cell.verdict == "regressed":
        return "warning"
    return None if cell.verdict == "same" else "notice"


def _of_level(level: Level, cells: list[Checked], room: int, tested: int) -> Iterator[str]:
    shown = cells if len(cells) <= room else cells[: room - 1]
    for cell in shown:
        yield command(level, f"{cell.verdict}: {cell.name}", line(cell, tested))
    rest = cells[len(shown) :]
    if rest:
        names = ", ".join(cell.name for cell in rest[:SHOWN])
        more = ", ..." if len(rest) > SHOWN else ""
        yield command(level, f"{len(rest)} more cells", f"{names}{more}")


def command(level: Level, title: str, message: str) -> str:
    """Returns a workflow command.

    Args:
        level: Its kind.
        title: In bold above the message.
        message: Any text; control characters and line breaks in it are lost.
    """
    title = _data(one_line(title)[:200]).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{_data(one_line(message)[:LONGEST])}"


def _data(text: str) -> str:
    # The percent sign first, as it starts the others' escapes.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
