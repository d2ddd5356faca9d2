"""Where files lie: a run's, in a local folder or an object store, and what is kept for all runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bench.core.errors import UserError

if TYPE_CHECKING:
    from upath import UPath  # brings fsspec and asyncio, which local folders do without


OWN_CHECKPOINTS = Path("checkpoints")
"""The default folder of checkpoints; what it lacks is looked for among those of rbench."""


def builtin(what: str) -> Path:
    """Returns a folder that comes with rbench: ``suites`` or ``checkpoints``.

    A wheel holds them inside the package (setup.py puts them there); a checkout beside it.
    """
    package = Path(__file__).parents[1]
    inside = package / "builtin"
    return (inside if inside.is_dir() else package.parent) / what


def checkpoint_roots(root: Path) -> list[Path]:
    """Returns the folders in which a checkpoint is looked up, the first to have it wins.

    Args:
        root: A folder of checkpoints. One that was chosen stands alone.
    """
    return [root, builtin("checkpoints")] if root == OWN_CHECKPOINTS else [root]


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


def checkpoints_folder(given: Path | None = None) -> Path:
    """Returns the folder of checkpoints: the one given, ``RBENCH_CHECKPOINTS``, ``./checkpoints``.

    It may be missing. What the last lacks is looked for among those that come with rbench.
    """
    if given is not None:
        return given
    return Path(os.environ.get("RBENCH_CHECKPOINTS", OWN_CHECKPOINTS))


def whole_folder(checkpoints: Path | None = None) -> Path:
    """Returns the folder of checkpoints that is meant as a whole, where none is named.

    That is ``checkpoints_folder``, or, where there is none, that of rbench.
    """
    folders = checkpoint_roots(checkpoints_folder(checkpoints))
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def recipes_folder(checkpoints: Path | None = None) -> Path:
    """Returns the folder of recipes, beside the checkpoints; it may be missing."""
    folders = [root / "recipes" for root in checkpoint_roots(checkpoints_folder(checkpoints))]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def suite_folders() -> list[Path]:
    """Returns the folders in which a suite's bare name is looked up."""
    return [Path("suites"), builtin("suites")]
