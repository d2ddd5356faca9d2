"""``npz:PATH``: images and labels in numpy ``.npz`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.data.images import Dataset, Images, Pixels, own_dataset
from bench.data.roots import locate
from bench.untrusted.archives import read_npz_arrays

_CHANNELS = (1, 3)


def open_npz(name: str, path: str, root: Path) -> Dataset:
    """Opens ``npz:PATH``; the largest label of the test split tells the number of classes."""
    test = read_npz(locate(path, "test", root))

    def load_train() -> Images:
        train = read_npz(locate(path, "train", root))
        if train.x.shape[1:] != test.x.shape[1:]:
            raise UserError(
                f"{name}: expected train images of shape {test.x.shape[1:]} like the test images, "
                f"found {train.x.shape[1:]}"
            )
        return train

    channels, size = test.x.shape[1], test.x.shape[2]
    return own_dataset(name, path, int(test.y.max()) + 1, channels, size, (), test, load_train)


def read_npz(path: Path) -> Images:
    """Reads keys ``x`` and ``y`` of an ``.npz`` file; other keys are ignored.

    ``x`` is uint8, or floating point in [0, 1]; its shape is (n, h, w), (n, h, w, c) or
    (n, c, h, w) with square images of 1 or 3 channels. ``y`` is (n,), integers from 0.

    Raises:
        UserError: When the file is missing, damaged, or not of this form.
    """
    x, y = read_npz_arrays(path)
    images = Images(_pixels(path, _channels_first(path, x)), _labels(path, y))
    if len(images.x) != len(images.y):
        raise UserError(
            f"{path}: expected as many labels as images, found {len(images.y)} labels in 'y' and "
            f"{len(images.x)} images in 'x'"
        )
    return images


def _channels_first(path: Path, x: NDArray[Any]) -> NDArray[Any]:
    if x.ndim == 3 and x.shape[1] == x.shape[2]:
        candidates = [x[:, None]]
    elif x.ndim == 4:
        last = x.shape[3] in _CHANNELS and x.shape[1] == x.shape[2]
        first = x.shape[1] in _CHANNELS and x.shape[2] == x.shape[3]
        candidates = [x.transpose(0, 3, 1, 2)] if last else []
        candidates += [x] if first else []
    else:
        candidates = []
    if len(candidates) != 1 or 0 in x.shape:
        why = ", which can be read in two ways" if len(candidates) > 1 else ""
        raise UserError(
            f"{path}: expected 'x' as at least one square image, (n, h, w), (n, h, w, c) or "
            f"(n, c, h, w) with c 1 or 3, found shape {x.shape}{why}"
        )
    return np.ascontiguousarray(candidates[0])


def _pixels(path: Path, x: NDArray[Any]) -> Pixels:
    if x.dtype == np.uint8:
        return x
    if not np.issubdtype(x.dtype, np.floating):
        raise UserError(
            f"{path}: expected 'x' as uint8 or as floats in [0, 1], found {x.dtype}; convert it "
            "with x.astype('uint8')"
        )
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"{path}: expected floats in [0, 1] in 'x', found {low:g} to {high:g}; store pixels "
            "without normalization, divided by 255 if they are 0 to 255"
        )
    return x.astype(np.float32)


def _labels(path: Path, y: NDArray[Any]) -> NDArray[np.int64]:
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise UserError(
            f"{path}: expected 'y' as integers of shape (n,), found {y.dtype} of shape {y.shape}"
        )
    labels = y.astype(np.int64)
    if len(labels) and labels.min() < 0:
        raise UserError(f"{path}: expected labels from 0 in 'y', found {labels.min()}")
    return labels
