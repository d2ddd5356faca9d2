"""Where files are found: run folders (local or in an object store), checkpoints, suites, caches."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bench.core.errors import UserError

if TYPE_CHECKING:
    from upath import UPath  # brings fsspec and asyncio, which local folders do without

OWN_CHECKPOINTS = Path("checkpoints")
"""Default folder of checkpoints. What it lacks is looked up among those that ship with rbench."""

Folder: TypeAlias = "Path | UPath"
"""``/runs/one``, ``s3://bucket/one``, or any other URL that fsspec knows."""


@dataclass(frozen=True)
class Where:
    """Where checkpoints and data sets are found, and where models run.

    Attributes:
        checkpoints: Folder of checkpoints, as ``checkpoints_folder`` returns it.
        data_root: Folder of data sets; ``None`` for the default folders.
        device: A torch device: ``cpu``, ``cuda``, ``cuda:1``.
        trust_code: Whether code that a model's URI names may be run.
    """

    checkpoints: Path
    data_root: Path | None = None
    device: str = "cpu"
    trust_code: bool = False


def builtin(what: str) -> Path:
    """Returns a folder that ships with rbench: ``suites`` or ``checkpoints``.

    A wheel holds them inside the package (setup.py puts them there); a checkout beside it.
    """
    package = Path(__file__).parents[1]
    inside = package / "builtin"
    return (inside if inside.is_dir() else package.parent) / what


def checkpoint_roots(root: Path) -> list[Path]:
    """Returns the folders in which a checkpoint is looked up; the first that has it wins.

    Args:
        root: A folder of checkpoints. Any other than the default one is searched alone.
    """
    return [root, builtin("checkpoints")] if root == OWN_CHECKPOINTS else [root]


def folder_at(name: str) -> Folder:
    """Returns a folder by its path or its URL.

    Raises:
        UserError: For a URL whose scheme fsspec does not know, or lacks a package for.
    """
    if "://" not in name:
        return Path(name)
    from upath import UPath

    try:
        found = UPath(name)
        _ = found.fs  # raises where the package for this scheme is not installed
    except (ValueError, ImportError) as error:
        raise UserError(f"{name}: {error}; expected a folder, or a URL that fsspec knows") from None
    return Path(found.path) if is_local(found) else found


def is_local(folder: Folder) -> bool:
    """Says whether a folder is in this machine's file system."""
    return isinstance(folder, Path) or folder.protocol in ("", "file", "local")


def cache_folder() -> Path:
    """Returns ``$RBENCH_CACHE``, or ``rbench`` in the user's cache folder."""
    if chosen := os.environ.get("RBENCH_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rbench"


def checkpoints_folder(given: Path | None = None) -> Path:
    """Returns the folder of checkpoints: ``given``, ``$RBENCH_CHECKPOINTS``, or ``./checkpoints``.

    It may be missing.
    """
    if given is not None:
        return given
    return Path(os.environ.get("RBENCH_CHECKPOINTS", OWN_CHECKPOINTS))


def whole_folder(checkpoints: Path | None = None) -> Path:
    """Returns the folder for commands that handle all checkpoints of a folder, naming none.

    That is ``checkpoints_folder`` if it exists, else the one that ships with rbench.
    """
    folders = checkpoint_roots(checkpoints_folder(checkpoints))
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def recipes_folder(checkpoints: Path | None = None) -> Path:
    """Returns the folder of recipes, beside the checkpoints; it may be missing."""
    folders = [root / "recipes" for root in checkpoint_roots(checkpoints_folder(checkpoints))]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def suite_folders() -> list[Path]:
    """Returns the folders in which a suite is looked up by name."""
    return [Path("suites"), builtin("suites")]


def suite_called(suite: str) -> str | None:
    """Returns the name by which ``rbench run`` finds a suite, from the key ``suite`` in its file.

    Suites are told apart by their place: ``suite: rna_fig1`` is found as ``rna/fig1``. ``None`` if
    there is no such suite.
    """
    for folder in suite_folders():
        found = [path for path in sorted(folder.rglob("*.yaml")) if _suite_in(path) == suite]
        if found:
            return found[0].relative_to(folder).with_suffix("").as_posix()
    return None


def _suite_in(path: Path) -> str:
    """Returns the key ``suite`` of a file, empty if it cannot be read; the file is not parsed."""
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError):
        return ""
    match = re.search(r"""^suite:\s*["']?([a-z0-9_-]+)["']?\s*(?:#.*)?$""", text, re.MULTILINE)
    return match[1] if match else ""
