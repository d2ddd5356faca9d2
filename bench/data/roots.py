"""Places where data sets are looked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from bench.core.errors import UserError
from bench.core.paths import cache_folder
from bench.data.images import SPLIT_PLACEHOLDER

ENVIRONMENT_VARIABLE = "RBENCH_DATA"
SYSTEM_FOLDER = Path("/usr/share/datasets")
"""Folder of Debian's ``dataset-*`` packages."""


def data_root(root: Path | None = None) -> Path:
    """Returns the data root: the argument, ``RBENCH_DATA``, or ``data`` in the cache folder.

    The cache folder is ``$RBENCH_CACHE``, else ``rbench`` in the user's cache folder
    (``~/.cache``).
    """
    if root is not None:
        return root.expanduser()
    from_environment = os.environ.get(ENVIRONMENT_VARIABLE)
    if from_environment:
        return Path(from_environment).expanduser()
    return cache_folder() / "data"


def bundled(name: str) -> Traversable:
    """Returns the folder of a data set inside the package; it may not exist."""
    return files("bench.data").joinpath("bundled", name)


def missing(name: str, split: str, looked: Iterable[object], remedy: str) -> UserError:
    """Returns the error for a split that was found in none of the places."""
    places = ", ".join(str(place) for place in looked)
    return UserError(f"{name}: the {split} split was not found; looked in {places}; {remedy}")


def fetch_remedy(name: str, folder: str) -> str:
    """Returns advice on a missing data set that ``rbench data fetch`` can download."""
    return (
        f"get it with 'rbench data fetch {name}', or point --data-root or "
        f"{ENVIRONMENT_VARIABLE} at the folder that holds {folder}"
    )


def locate(path: str, split: str, root: Path) -> Path:
    """Returns the place of a split of a path form; under the data root if only found there."""
    try:
        here = Path(path.replace(SPLIT_PLACEHOLDER, split)).expanduser()
        under_root = root / here
        return under_root if not here.exists() and under_root.exists() else here
    except (OSError, RuntimeError) as error:  # a name that is too long, an unknown user's home
        raise UserError(f"data set '{path[:100]}': no such file ({error})") from None
