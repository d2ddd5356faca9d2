"""What a job on GitHub needs beside its output."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from bench.core.errors import UserError

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
