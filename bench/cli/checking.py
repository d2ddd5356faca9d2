"""``rbench check``."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.check.compare import Rules, compare
from bench.check.outputs.annotations import to_annotations
from bench.check.outputs.json_output import to_json
from bench.check.outputs.junit import to_junit
from bench.check.outputs.markdown import to_markdown
from bench.check.record import read_run
from bench.check.say import headline, line, p_value, percent, points, sensitivity
from bench.check.source import default_file, open_baseline
from bench.check.verdict import EXIT_FINE, EXIT_REGRESSED, Check, Checked
from bench.cli.github import append_summary, no_commands, print_commands
from bench.core.errors import UserError
from bench.core.places import folder_at
from bench.report.escape import one_line
from bench.store import write_atomically

STDOUT = "-"

MOST_LINES = 40
"""Cells that are told about below the table."""


@dataclass(frozen=True)
class Outputs:
    """Where a check is written beside the terminal.

    Attributes:
        markdown: A file, ``-`` for standard output, or ``None``.
        junit: Likewise.
        json: Likewise.
        github: Whether notes and a summary are made for a job on GitHub.
    """

    markdown: str | None = None
    junit: str | None = None
    json: str | None = None
    github: bool = False

    @property
    def files(self) -> dict[str, str]:
        """What is wanted, by option, and where it goes."""
        given = {"--markdown": self.markdown, "--junit": self.junit, "--json": self.json}
        return {option: file for option, file in given.items() if file is not None}


def check_run(run: str, baseline: str | None, rules: Rules) -> Check:
    """Holds a run against a baseline.

    Args:
        run: A folder or a URL.
        baseline: As ``open_baseline`` takes it; ``None`` for the suite's own.
        rules: When the check fails.

    Raises:
        UserError: When the run or the baseline is not what it should be.
    """
    recording = read_run(folder_at(run))
    where = default_baseline(recording.suite, run) if baseline is None else baseline
    return compare(recording, open_baseline(where), rules)


def check_command(
    console: Console,
    errors: Console,
    run: str,
    baseline: str | None,
    rules: Rules,
    outputs: Outputs,
) -> int:
    """Holds a run against a baseline, prints the result, and writes it where that is wanted.

    Args:
        console: Where it is said; ``errors`` if a file goes to standard output.
        errors: For standard error.
        run: A folder or a URL.
        baseline: As ``open_baseline`` takes it; ``None`` for the suite's own.
        rules: When the check fails.
        outputs: What else is written.

    Returns:
        The exit code. 0: fine. 1: a regression. 3: some cells could not be checked.

    Raises:
        UserError: When an option, the run or the baseline is not what it should be.
    """
    _refuse_misuse(rules, outputs)
    people = errors if STDOUT in outputs.files.values() else console
    with no_commands(people):
        check = check_run(run, baseline, rules)
        show(people, check)
    makers = {"--markdown": to_markdown, "--junit": to_junit, "--json": to_json}
    for option, file in outputs.files.items():
        _write(file, makers[option](check))
    if outputs.github:
        print_commands(people, to_annotations(check))
        append_summary(to_markdown(check))
    return check.exit_code


def _refuse_misuse(rules: Rules, outputs: Outputs) -> None:
    if not 0 < rules.alpha < 1:
        raise UserError(f"--alpha: expected a probability between 0 and 1, found {rules.alpha:g}")
    if not 0 <= rules.min_drop <= 1 or math.isnan(rules.min_drop):
        raise UserError(
            f"--min-drop: expected points from 0 to 100, found {100 * rules.min_drop:g}"
        )
    for file, n in Counter(outputs.files.values()).items():
        if n > 1:
            options = [option for option, other in outputs.files.items() if other == file]
            place = "standard output" if file == STDOUT else file
            raise UserError(f"{' and '.join(options)}: expected a file each, found {place} twice")


def default_baseline(suite: str, run: str) -> str:
    """Returns the file of a suite's own baseline.

    Args:
        suite: The suite's name.
        run: The run folder that is named where there is none.

    Raises:
        UserError: When it is not there.
    """
    path = default_file(suite)
    if not path.is_file():
        raise UserError(
            f"{path}: no baseline of suite '{suite}' yet; make it from a run that is known to be "
            f"good with `rbench baseline update {run}`, or name another with --baseline"
        )
    return str(path)


def _write(file: str, text: str) -> None:
    """Writes a file; a device such as /dev/stderr is written to, and not replaced."""
    if file == STDOUT:
        typer.echo(text, nl=False)
    elif os.path.lexists(file) and not os.path.isfile(file) and not os.path.isdir(file):
        try:
            Path(file).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{file}: cannot be written ({error.strerror or error})") from None
    else:
        write_atomically(Path(file), text.encode())


def style_of(cell: Checked) -> str:
    """Returns the colour of a cell's verdict."""
    if cell.fails:
        return "red"
    if cell.verdict in ("missing", "not comparable", "regressed"):
        return "yellow"
    return {"improved": "green", "same": "dim"}.get(cell.verdict, "")


def show(console: Console, check: Check) -> None:
    """Prints a check for people: a table of all cells, what is wrong, and the verdict last."""
    console.print(table_of(check))
    told = [cell for cell in check.cells if cell.fails or cell.leaves_open]
    for cell in told[:MOST_LINES]:
        _say(console, line(cell, check.tested), style_of(cell))
    if len(told) > MOST_LINES:
        _say(console, f"and {len(told) - MOST_LINES} more; see --json", "yellow")
    for text in (sensitivity(check), *check.notes):
        if text:
            _say(console, text)
    code = check.exit_code
    colour = {EXIT_FINE: "green", EXIT_REGRESSED: "red"}.get(code, "yellow")
    _say(console, headline(check), f"bold {colour}")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(one_line(text), style=style, highlight=False, markup=False, soft_wrap=True)


def table_of(check: Check) -> Table:
    """Returns all cells, those that must be looked at first; accuracies in percent."""
    title = Text(one_line(f"{check.run} against {check.baseline}"))
    table = Table(title=title, title_justify="left")
    for name in ("model", "attack"):
        table.add_column(name, overflow="fold")
    for name in ("before", "now", "difference", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for cell in check.cells:
        texts = (
            one_line(cell.model),
            one_line(cell.attack),
            percent(cell.before),
            percent(cell.now),
            points(cell.difference),
            p_value(cell.adjusted),
            cell.verdict,
        )
        table.add_row(*map(Text, texts), style=style_of(cell))
    return table
