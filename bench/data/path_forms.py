"""Data sets named by a path: ``npz:PATH``, ``folder:PATH``.

``{split}`` in the path stands for ``test`` or ``train`` (``npz:cars-{split}.npz``); without it, the
path is a test split. A relative path is looked for in the working directory first, then under the
data root.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.core.errors import UserError
from bench.data.folder import open_folder
from bench.data.images import Dataset
from bench.data.npz import open_npz

PATH_FORMS: dict[str, Callable[[str, str, Path], Dataset]] = {
    "npz": open_npz,
    "folder": open_folder,
}
"""What opens the data set of each prefix, from its whole name, its path and the data root. An
opener reads as much as it takes to know classes, channels and size."""


def is_path_form(name: str) -> bool:
    """Returns whether a data set's name is a path form."""
    form, colon, _ = name.partition(":")
    return bool(colon) and form in PATH_FORMS


def path_dataset(name: str, root: Path) -> Dataset:
    """Opens the data set of a path form.

    Raises:
        UserError: When the path is missing or its content does not have the format of the form.
    """
    form, _, path = name.partition(":")
    if not path:
        raise UserError(f"data set '{name}': expected a path after '{form}:', found none")
    return PATH_FORMS[form](name, path, root)
