"""``rbench init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import console
from bench.core.errors import UserError


def init(
    folder: Annotated[
        Path, typer.Argument(help="Where to work; suites/mine.yaml is written in it.")
    ] = Path(),
) -> None:
    """Write a commented suite to start from; nothing is replaced."""
    from bench.store import write_atomically
    from bench.suite.find import NAME, starter_suite

    path = folder / "suites" / f"{NAME}.yaml"
    if path.exists():
        raise UserError(f"{path}: is there already; change it, or choose another folder")
    write_atomically(path, starter_suite().encode())
    console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    steps = f"rbench plan {NAME}" if folder == Path() else f"cd {folder} && rbench plan {NAME}"
    console.print(f"next: {steps}", highlight=False, soft_wrap=True)
