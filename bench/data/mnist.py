"""MNIST and Fashion-MNIST from IDX files in torchvision's layout."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from bench.core.errors import UserError
from bench.data.idx import read_idx
from bench.data.images import Images
from bench.data.roots import SYSTEM_FOLDER, bundled, fetch_remedy, missing

_STEMS = {"test": "t10k", "train": "train"}
_SIZE = 28


def load_mnist(split: str, root: Path) -> Images:
    """Loads MNIST from ``ROOT/MNIST/raw`` or ``ROOT/mnist``, plain or gzipped.

    Raises:
        UserError: When the files are missing, damaged or do not belong together.
    """
    folders = [root / "MNIST" / "raw", root / "mnist"]
    return _load(split, folders, "mnist", fetch_remedy("mnist", "MNIST/raw"))


def load_fashion_mnist(split: str, root: Path) -> Images:
    """Loads Fashion-MNIST from the root, else the package (test split), else Debian's folder.

    Under the root it is looked for in ``FashionMNIST/raw`` and ``fashion-mnist``.

    Raises:
        UserError: When the files are missing, damaged or do not belong together.
    """
    name = "fashion-mnist"
    folders = [
        root / "FashionMNIST" / "raw",
        root / name,
        bundled(name),
        SYSTEM_FOLDER / name,
    ]
    remedy = fetch_remedy(name, "FashionMNIST/raw")
    return _load(split, folders, name, f"{remedy}, or install Debian's dataset-fashion-mnist")


def _load(split: str, folders: Sequence[Traversable], name: str, remedy: str) -> Images:
    stem = _STEMS[split]
    for folder in folders:
        images = _plain_or_gzipped(folder, f"{stem}-images-idx3-ubyte")
        if images is None:
            continue
        labels = _plain_or_gzipped(folder, f"{stem}-labels-idx1-ubyte")
        if labels is None:
            raise UserError(
                f"{images}: there is no {stem}-labels-idx1-ubyte beside it, plain or .gz; {remedy}"
            )
        return _read_pair(images, labels)
    raise missing(name, split, folders, remedy)


def _plain_or_gzipped(folder: Traversable, name: str) -> Traversable | None:
    for candidate in (folder.joinpath(name), folder.joinpath(f"{name}.gz")):
        if candidate.is_file():
            return candidate
    return None


def _read_pair(images: Traversable, labels: Traversable) -> Images:
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or x.shape[1:] != (_SIZE, _SIZE):
        raise UserError(f"{images}: expected images of shape (n, 28, 28), found {x.shape}")
    if y.shape != x.shape[:1]:
        raise UserError(f"{labels}: expected {len(x)} labels, found an array of shape {y.shape}")
    return Images(x[:, None], y.astype(np.int64))
