"""``npz:PATH``: images and labels in numpy ``.npz`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.core.model_spec import as_size
from bench.data.images import Dataset, Images, Pixels, own_dataset
from bench.data.roots import locate
from bench.untrusted.archives import read_npz_arrays

_FEW = 4
"""Channels up to which a length is taken for channels beside one that is longer."""


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

    channels, size = test.x.shape[1], as_size(*test.x.shape[2:])
    return own_dataset(name, path, int(test.y.max()) + 1, channels, size, (), test, load_train)


def read_npz(path: Path) -> Images:
    """Reads keys ``x`` and ``y`` of an ``.npz`` file; other keys are ignored.

    ``x`` is uint8, or floating point in [0, 1]; its shape is (n, h, w), (n, h, w, c) or
    (n, c, h, w), see ``_channels_first``. ``y`` is (n,), integers from 0.

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
    """Returns images as (n, c, h, w).

    Where channels may come first or last, square images are preferred, then few channels beside a
    longer length, then the shorter length.
    """
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise UserError(
            f"{path}: expected 'x' as at least one image, (n, h, w), (n, h, w, c) or "
            f"(n, c, h, w), found shape {x.shape}"
        )
    if x.ndim == 3:
        return np.ascontiguousarray(x[:, None])
    _, a, b, c = x.shape
    for first, last in ((b == c, a == b), (a <= _FEW, c <= _FEW), (a < c, c < a)):
        if first != last:
            return np.ascontiguousarray(x if first else x.transpose(0, 3, 1, 2))
    raise UserError(
        f"{path}: expected 'x' as (n, h, w, c) or (n, c, h, w), found shape {x.shape}, which can "
        "be read in two ways; store images of another size"
    )


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
