"""CIFAR-10 and CIFAR-100 from the Python batches in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.data.images import Images
from bench.data.roots import fetch_remedy, missing
from bench.untrusted.pickle_arrays import read_array_pickle

_SHAPE = (3, 32, 32)
_TOO_LARGE = 2**31
"""Stands for larger labels, which may not fit an array."""


def load_cifar10(split: str, root: Path) -> Images:
    """Loads CIFAR-10 from ``ROOT/cifar-10-batches-py``, batches in their own order.

    Raises:
        UserError: When a file is missing, damaged, or no CIFAR batch.
    """
    files = {"test": ["test_batch"], "train": [f"data_batch_{i}" for i in range(1, 6)]}
    return _load("cifar10", split, root / "cifar-10-batches-py", files[split], "labels", 10)


def load_cifar100(split: str, root: Path) -> Images:
    """Loads CIFAR-100 with its 100 fine labels from ``ROOT/cifar-100-python``.

    Raises:
        UserError: When a file is missing, damaged, or no CIFAR batch.
    """
    return _load("cifar100", split, root / "cifar-100-python", [split], "fine_labels", 100)


def _load(
    name: str, split: str, folder: Path, files: list[str], label_key: str, classes: int
) -> Images:
    if not any((folder / file).is_file() for file in files):
        raise missing(name, split, [folder], fetch_remedy(name, folder.name))
    batches = [_read_batch(folder / file, label_key, classes) for file in files]
    return Images(np.concatenate([b.x for b in batches]), np.concatenate([b.y for b in batches]))


def _read_batch(path: Path, label_key: str, classes: int) -> Images:
    batch = read_array_pickle(path)
    x, labels = batch.get("data"), batch.get(label_key)
    n_pixels = int(np.prod(_SHAPE))
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.shape[1:] != (n_pixels,):
        found = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise UserError(f"{path}: expected 'data' as uint8 (n, {n_pixels}), found {found}")
    y = _read_labels(path, labels, label_key)
    if y.shape != (len(x),):
        raise UserError(f"{path}: expected {len(x)} labels in '{label_key}', found {y.shape}")
    if len(y) and not 0 <= y.min() <= y.max() < classes:
        raise UserError(f"{path}: expected labels in 0..{classes - 1}, found {y.min()}..{y.max()}")
    return Images(x.reshape(-1, *_SHAPE), y)


def _read_labels(path: Path, labels: object, label_key: str) -> NDArray[np.int64]:
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        return np.array([min(max(label, -1), _TOO_LARGE) for label in labels], np.int64)
    if isinstance(labels, np.ndarray):
        return labels.astype(np.int64)
    raise UserError(f"{path}: expected a list of integers under '{label_key}'")
