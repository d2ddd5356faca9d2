"""From a data set's name to its split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.core.errors import UserError
from bench.data.images import Images, Split
from bench.data.registry import get_dataset
from bench.data.roots import data_root


def open_split(name: str, split: str, root: Path | None = None) -> Split:
    """Opens a split; an image folder's pixels stay on disk until they are taken.

    Args:
        name: A name in ``DATASETS``, ``npz:PATH`` or ``folder:PATH``.
        split: ``test`` or ``train``.
        root: Data root; ``None`` takes the default, see ``data_root``. What is
            not there is looked for in the package, then in the system's folder of data sets.

    Raises:
        UserError: When the name or split is unknown, or files are missing or damaged.
    """
    dataset = get_dataset(name, root)
    if split not in dataset.splits:
        hint = ""
        if split in ("test", "train"):
            hint = "; write {split} in the path to give both: it stands for 'test' or 'train'"
        found = ", ".join(dataset.splits)
        raise UserError(f"{name}: there is no split '{split}'; there is: {found}{hint}")
    return dataset.loader(split, data_root(root))


def load_split(name: str, split: str, root: Path | None = None) -> Images:
    """Loads a whole split into memory; arguments and errors are those of ``open_split``."""
    return take_all(open_split(name, split, root))


def take_all(split: Split) -> Images:
    """Returns all images of a split; of an image folder, they are decoded now."""
    if isinstance(split, Images):
        return split
    return split.take(np.arange(len(split.y), dtype=np.int64))
