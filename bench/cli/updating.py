"""``rbench baseline update``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.check.baseline_file import LARGEST, from_text, to_text
from bench.check.compare import compare
from bench.check.record import Recording, read_run
from bench.check.say import counts, line
from bench.check.source import default_file, open_baseline
from bench.cli.github import no_commands
from bench.core.errors import UserError
from bench.core.places import folder_at
from bench.report.escape import one_line
from bench.store import write_atomically

NAMED = 10
"""Cells that a message names."""

MOST_LINES = 20
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
                _say(console, f"{file} is this run's already")
                return
            _tell_changes(console, recording, file, force)
        write_atomically(file, content)
        n = len(recording.records)
        _say(console, f"wrote {n} {'cell' if n == 1 else 'cells'} to {file}; commit it")


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
        _say(console, f"replaces what was no baseline: {error}")
        return
    _say(console, f"against the baseline before: {counts(check)}")
    changed = [cell for cell in check.cells if cell.verdict != "same"]
    for cell in changed[:MOST_LINES]:
        _say(console, f"- {line(cell, check.tested)}")
    if len(changed) > MOST_LINES:
        _say(console, f"- and {len(changed) - MOST_LINES} more")


def _say(console: Console, text: str) -> None:
    console.print(one_line(text), highlight=False, markup=False, soft_wrap=True)
