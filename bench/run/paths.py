"""Where checkpoints, recipes and suites are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from bench.core.builtin import OWN_CHECKPOINTS, builtin


def checkpoints_folder(given: Path | None = None) -> Path:
    """Returns the folder of checkpoints: the one given, ``RBENCH_CHECKPOINTS``, ``./checkpoints``.

    It may be missing. What the last lacks is looked for among those that come with rbench.
    """
    if given is not None:
        return given
    return Path(os.environ.get("RBENCH_CHECKPOINTS", OWN_CHECKPOINTS))


def recipes_folder(checkpoints: Path | None = None) -> Path:
    """Returns the folder of recipes: beside the checkpoints, else that of rbench."""
    beside = checkpoints_folder(checkpoints) / "recipes"
    return beside if beside.is_dir() else builtin("checkpoints") / "recipes"


def suite_folders() -> list[Path]:
    """Returns the folders in which a suite's bare name is looked up."""
    return [Path("suites"), builtin("suites")]
