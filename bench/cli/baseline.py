"""``rbench baseline``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.check import no_commands
from bench.cli.options import RunArgument, console, say
from bench.core.errors import UserError

if TYPE_CHECKING:  # imported at every start
    from bench.check.compare import Check
    from bench.check.record import Recording

baseline_app = typer.Typer(
    help="Manage baselines, which rbench check compares runs with.", no_args_is_help=True
)

NAMED = 10
"""Cells that an error message names."""

MOST_LINES = 20
"""Changes that are printed."""


@baseline_app.command()
def update(
    run: RunArgument,
    to: Annotated[
        Path | None, typer.Option("--to", help="File (default: suites/baselines/SUITE.jsonl).")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Accept a run that is incomplete or has alarms."),
    ] = False,
    accept_regressions: Annotated[
        bool,
        typer.Option(
            "--accept-regressions",
            help="Replace the baseline even if the run is a regression.",
        ),
    ] = False,
) -> None:
    """Write a run's results as the new baseline, and print what changes."""
    from bench.check.record import read_run
    from bench.check.source import default_file
    from bench.core.paths import folder_at
    from bench.store.files import write_atomically

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
                _say(f"{file} is this run's already")
                return
            check = _changes(recording, file, force)
            if check is not None:
                _say_changes(check)
                if not accept_regressions:
                    _refuse_regressions(check, file)
        write_atomically(file, content)
        n = len(recording.records)
        _say(f"wrote {n} {'cell' if n == 1 else 'cells'} to {file}; commit it")


def _refuse_doubtful(recording: Recording, run: str) -> None:
    """Raises ``UserError`` for a run that is incomplete or has alarms."""
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
    """Returns the file's content, after reading it back as a later check will."""
    from bench.check.baseline_file import LARGEST, from_text, to_text

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
        return False  # the error is reported where the file is opened


def _changes(recording: Recording, file: Path, force: bool) -> Check | None:
    """Compares a run with the baseline that is there; ``None`` for a file that is no baseline."""
    from bench.check.compare import compare
    from bench.check.source import open_baseline

    try:
        return compare(recording, open_baseline(str(file)))
    except UserError as error:
        if not force:
            raise UserError(f"{error}; --force replaces it") from None
        _say(f"replaces what was no baseline: {error}")
        return None


def _refuse_regressions(check: Check, file: Path) -> None:
    """Raises ``UserError`` where numbers changed as ``rbench check`` would not let pass.

    New alarms alone are the matter of ``--force``.
    """
    worse = [
        cell.name
        for cell in check.cells
        if cell.fails and cell.adjusted is not None and cell.adjusted <= check.alpha
    ]
    if worse:
        raise UserError(
            f"{file}: expected no regression against the baseline that is there, found "
            f"{len(worse)}: {_some(worse)}; look for the cause, or accept what changed with "
            "--accept-regressions"
        )


def _say_changes(check: Check) -> None:
    """Prints what changes compared with the file that is there."""
    from bench.check.text import counts, line

    _say(f"against the baseline before: {counts(check)}")
    changed = [cell for cell in check.cells if cell.verdict != "same"]
    for cell in changed[:MOST_LINES]:
        _say(f"- {line(cell, check.tested)}")
    if len(changed) > MOST_LINES:
        _say(f"- and {len(changed) - MOST_LINES} more")


def _say(text: str) -> None:
    from bench.untrusted.escape import one_line

    say(console, one_line(text))
