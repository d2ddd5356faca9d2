"""MNIST and Fashion-MNIST from IDX files in torchvision's layout."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.data.images import Images
from bench.data.roots import SYSTEM_FOLDER, bundled, fetch_remedy, missing

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DIMENSIONS = 8
MAX_BYTES = 2**28
"""Once unpacked; MNIST's largest has 2**26."""


def read_idx(path: Traversable) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes into an array of its own shape.

    Whether it is gzipped is seen from its first bytes, not from its name.

    Raises:
        UserError: When the file is missing, truncated, or not an IDX file of unsigned bytes.
    """
    try:
        raw = _read(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected an IDX file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise UserError(f"{path}: expected an IDX file of at most {MAX_BYTES} bytes, found more")
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        found = f"starts with {raw[:4].hex()}" if raw else "is empty"
        raise UserError(f"{path}: expected an IDX file of unsigned bytes, found one that {found}")
    if raw[3] > _MAX_DIMENSIONS:
        raise UserError(
            f"{path}: expected at most {_MAX_DIMENSIONS} dimensions in an IDX file, found {raw[3]}"
        )
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise UserError(f"{path}: truncated IDX file (its header is cut off); fetch it again")
    shape = tuple(np.frombuffer(raw, ">u4", raw[3], 4).tolist())
    expected, found_bytes = math.prod(shape), len(raw) - start
    if found_bytes != expected:
        raise UserError(
            f"{path}: truncated or damaged IDX file: expected {expected} bytes of data, "
            f"found {found_bytes}; fetch it again"
        )
    try:
        return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
    except ValueError:  # no bytes, in dimensions that are too large together
        raise UserError(f"{path}: damaged IDX file: its shape is {shape}") from None


def _read(path: Traversable) -> bytes:
    """Returns the unpacked bytes, no more of them than show that there are too many."""
    with path.open("rb") as handle:
        packed = handle.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        handle.seek(0)
        if not packed:
            return handle.read(MAX_BYTES + 1)
        with gzip.GzipFile(fileobj=handle) as unpacked:
            return unpacked.read(MAX_BYTES + 1)


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
