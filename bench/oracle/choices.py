"""What was found out about this machine, kept so that it is the same in every run.

Engines are chosen by timing them, and a busy moment may decide between two that are nearly equal.
An answer that is kept makes a repeated run repeat itself to the last bit, and saves the timing.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core.places import cache_folder


def settled(key: str, find_out: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Returns the kept answer to a question, or finds one out and keeps it.

    Of several processes that find out at the same time, the first to finish is believed by all.
    Where nothing can be kept, each finds out for itself.

    Args:
        key: Fit for a file name; names all that the answer depends on.
        find_out: Called without a kept answer; what it returns goes through JSON, ``None`` is not
            kept.
    """
    path = cache_folder() / "engines" / f"{key}.json"
    kept = _read(path)
    if kept is not None:
        return kept
    found = find_out()
    if found is not None:
        _keep(path, found)
        return _read(path) or found
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _keep(path: Path, found: dict[str, Any]) -> None:
    """Writes an answer unless there is one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(found, file)
        try:
            if _read(path) is None:
                path.unlink(missing_ok=True)  # damaged
            os.link(name, path)  # fails where another process was first
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError:
        return
