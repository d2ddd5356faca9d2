"""``rbench check``."""

from __future__ import annotations

import math
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.check.baseline_file import LARGEST, from_text, to_text
from bench.check.compare import EXIT_FINE, EXIT_REGRESSED, Check, Checked, Rules, compare
from bench.check.formats import to_annotations, to_json, to_junit
from bench.check.markdown import to_markdown
from bench.check.record import Recording, read_run
from bench.check.source import default_file, open_baseline
from bench.check.text import counts, headline, line, p_value, percent, points, sensitivity
from bench.core.errors import UserError
from bench.core.paths import folder_at
from bench.store import write_atomically
from bench.untrusted.escape import one_line

SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable that names the file of a job's summary."""


def on_github() -> bool:
    """Says whether this runs in a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


@contextmanager
def no_commands(console: Console) -> Iterator[None]:
    """Keeps GitHub from obeying what is printed meanwhile.

    It takes any line that starts with two colons, or has ``##[`` somewhere, for a command, and
    labels and messages may hold that.
    """
    if not on_github():
        yield
        return
    token = secrets.token_hex(16)
    _print(console, f"::stop-commands::{token}")
    try:
        yield
    finally:
        _print(console, f"::{token}::")


def print_commands(console: Console, commands: list[str]) -> None:
    """Prints workflow commands, each on a line of its own however long it is."""
    for command in commands:
        _print(console, command)


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def append_summary(markdown: str) -> None:
    """Appends to the summary of the job, where there is one.

    Raises:
        UserError: When it cannot be written.
    """
    name = os.environ.get(SUMMARY, "")
    if not name:
        return
    try:
        with Path(name).open("a", encoding="utf-8") as handle:
            handle.write(markdown)
    except OSError as error:
        raise UserError(
            f"{name}: cannot be written ({error.strerror or error}); expected {SUMMARY} to name a "
            "file, or --no-annotations"
        ) from None


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


NAMED = 10
"""Cells that a message names."""

MOST_LINES_UPDATING = 20
"""Changes that are told about."""


def update_command(console: Console, run: str, to: Path | None, force: bool) -> None:
    """Writes the baseline of a run, and says what changes against the one before.

    Args:
        console: Where it is said.
        run: A folder or a URL.
        to: The file; ``None`` for the suite's own.
        force: Whether a run that is incomplete or has alarms will do, and whether a file that is
            no baseline is replaced.

    Raises:
        UserError: When the run will not do, or the file cannot be read or written.
    """
    recording = read_run(folder_at(run))
    if not recording.records:
        raise UserError(f"{run}: expected at least one complete cell, found none; run it first")
    if not force:
        _refuse_doubtful(recording, run)
    file = default_file(recording.suite) if to is None else to
    content = _content(recording, run)
    with no_commands(console):
        if file.is_file():
            if _holds(file, content):
                _say_updating(console, f"{file} is this run's already")
                return
            _tell_changes(console, recording, file, force)
        write_atomically(file, content)
        n = len(recording.records)
        _say_updating(console, f"wrote {n} {'cell' if n == 1 else 'cells'} to {file}; commit it")


def _refuse_doubtful(recording: Recording, run: str) -> None:
    if recording.missing:
        cells = [f"{' / '.join(key)} ({why})" for key, why in recording.missing.items()]
        raise UserError(
            f"{run}: expected a complete run, found {len(cells)} cells without a number: "
            f"{_some(cells)}; run the suite again, or leave them out with --force"
        )
    cells = [
        f"{' / '.join(key)} ({', '.join(record.alarms)})"
        for key, record in recording.records.items()
        if record.alarms
    ]
    if cells:
        raise UserError(
            f"{run}: expected numbers to trust, found alarms in {len(cells)} cells: "
            f"{_some(cells)}; see what they say in the run's report, or accept them with --force"
        )


def _some(names: Sequence[str]) -> str:
    more = "" if len(names) <= NAMED else f" and {len(names) - NAMED} more"
    return ", ".join(names[:NAMED]) + more


def _content(recording: Recording, run: str) -> bytes:
    """Returns the file's content, which has been read back: one that cannot be is of no use."""
    try:
        text = to_text(recording)
        content = text.encode()
        from_text(text, "what was to be written")
    except (ValueError, UserError) as error:
        raise UserError(f"{run}: cannot be written as a baseline: {error}") from None
    if len(content) > LARGEST:
        raise UserError(
            f"{run}: expected a baseline of at most {LARGEST:,} bytes, found {len(content):,}; "
            "check a smaller suite"
        )
    return content


def _holds(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except OSError:
        return False  # what is wrong with it is said where it is opened


def _tell_changes(console: Console, recording: Recording, file: Path, force: bool) -> None:
    """Says what changes against the file that is there."""
    try:
        check = compare(recording, open_baseline(str(file)))
    except UserError as error:
        if not force:
            raise UserError(f"{error}; --force replaces it") from None
        _say_updating(console, f"replaces what was no baseline: {error}")
        return
    _say_updating(console, f"against the baseline before: {counts(check)}")
    changed = [cell for cell in check.cells if cell.verdict != "same"]
    for cell in changed[:MOST_LINES_UPDATING]:
        _say_updating(console, f"- {line(cell, check.tested)}")
    if len(changed) > MOST_LINES_UPDATING:
        _say_updating(console, f"- and {len(changed) - MOST_LINES_UPDATING} more")


def _say_updating(console: Console, text: str) -> None:
    console.print(one_line(text), highlight=False, markup=False, soft_wrap=True)
