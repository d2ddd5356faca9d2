"""Where checkpoints, recipes and suites are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from bench.core.builtin import OWN_CHECKPOINTS, builtin, checkpoint_roots


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
