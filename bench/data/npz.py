"""Images and labels in a numpy ``.npz`` file."""

from __future__ import annotations

import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import DAMAGED, UserError, words_of
from bench.data.images import Images, Pixels

_CHANNELS = (1, 3)
_DAMAGED: tuple[type[Exception], ...] = (
    *DAMAGED,
    RuntimeError,  # encrypted, or compressed in an unknown way
    tokenize.TokenError,  # its headers are read as Python literals, never run
    zipfile.BadZipFile,
)


def read_npz(path: Path) -> Images:
    """Reads keys ``x`` and ``y`` of an ``.npz`` file; other keys are ignored.

    ``x`` is uint8, or floating point in [0, 1]; its shape is (n, h, w), (n, h, w, c) or
    (n, c, h, w) with square images of 1 or 3 channels. ``y`` is (n,), integers from 0. Pickled
    objects are never loaded.

    Raises:
        UserError: When the file is missing, damaged, or not of this form.
    """
    x, y = _read_arrays(path)
    images = Images(_pixels(path, _channels_first(path, x)), _labels(path, y))
    if len(images.x) != len(images.y):
        raise UserError(
            f"{path}: expected as many labels as images, found {len(images.y)} labels in 'y' and "
            f"{len(images.x)} images in 'x'"
        )
    return images


def _read_arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise UserError(f"{path}: expected an .npz file with keys x and y, found one array")
        with content:
            absent = [key for key in ("x", "y") if key not in content]
            if absent:
                found = ", ".join(content) or "none"
                raise UserError(f"{path}: expected keys x and y, found {found}")
            return content["x"], content["y"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected an .npz file with keys x and y") from None
    except _DAMAGED as error:
        why = words_of(error, 200)
        raise UserError(f"{path}: not a readable .npz file of plain arrays ({why})") from None


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
