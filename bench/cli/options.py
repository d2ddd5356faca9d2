"""What the commands share: where they print, and the options that many of them take."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=160)
errors = Console(stderr=True)

DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="RBENCH_DATA", help="Folder with data sets."),
]
Checkpoints = Annotated[
    Path | None,
    typer.Option("--checkpoints", envvar="RBENCH_CHECKPOINTS", help="Folder with checkpoints."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or auto.")]
