"""Where files lie: a run's, in a local folder or an object store, and what is kept for all runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bench.core.errors import UserError

if TYPE_CHECKING:
    from upath import UPath  # brings fsspec and asyncio, which local folders do without

Folder: TypeAlias = "Path | UPath"
"""``/runs/one``, ``s3://bucket/one``, or what else fsspec knows."""


def folder_at(name: str) -> Folder:
    """Returns a folder by its path or its URL.

    Raises:
        UserError: For a URL of a kind that is not known here.
    """
    if "://" not in name:
        return Path(name)
    from upath import UPath

    try:
        found = UPath(name)
        _ = found.fs  # finds out whether what serves it is installed
    except (ValueError, ImportError) as error:
        raise UserError(f"{name}: {error}; expected a folder, or a URL that fsspec knows") from None
    return Path(found.path) if is_local(found) else found


def is_local(folder: Folder) -> bool:
    """Says whether a folder lies in this machine's file system."""
    return isinstance(folder, Path) or folder.protocol in ("", "file", "local")


def cache_folder() -> Path:
    """Returns ``$RBENCH_CACHE``, else ``rbench`` in the user's folder for caches."""
    if chosen := os.environ.get("RBENCH_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rbench"
