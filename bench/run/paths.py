"""Where checkpoints and suites are looked for."""

from __future__ import annotations

import os
from pathlib import Path

_CHECKOUT = Path(__file__).parents[2]


def checkpoints_folder(given: Path | None = None) -> Path:
    """Returns the folder of checkpoints.

    The first of: the one given, ``RBENCH_CHECKPOINTS``, ``./checkpoints``, that of the checkout
    this package lies in.
    """
    if given is not None:
        return given
    if "RBENCH_CHECKPOINTS" in os.environ:
        return Path(os.environ["RBENCH_CHECKPOINTS"])
    here = Path("checkpoints")
    return here if here.is_dir() else _CHECKOUT / "checkpoints"


def suite_folders() -> list[Path]:
    """Returns the folders in which a suite's bare name is looked up."""
    return [Path("suites"), _CHECKOUT / "suites"]
