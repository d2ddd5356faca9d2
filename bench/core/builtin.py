"""Where the suites and checkpoints that come with rbench lie."""

from __future__ import annotations

from pathlib import Path

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
