"""A fixed, hashed slice of a data set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.data.images import Images, Split, to_unit_range
from bench.data.named import get_dataset
from bench.data.roots import data_root


@dataclass(frozen=True, eq=False)
class Slice:
    """The images of a slice, with their positions and hash.

    Attributes:
        x: Pixels (n, c, h, w), float32 in [0, 1].
        y: Labels (n,), int64.
        index: Positions in the data set's split (n,), int64.
        sha256: Of shape, pixels and labels, see ``hash_images``.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    index: NDArray[np.int64]
    sha256: str


def take_slice(spec: DataSpec, root: Path | None = None) -> Slice:
    """Loads the images of a slice, in the order of ``slice_index``.

    From a folder of image files, only the images of the slice are decoded.

    Args:
        spec: Which images.
        root: Data root; see ``open_split``.

    Raises:
        UserError: When the data set is missing or damaged, or lacks some of the images.
    """
    split = open_split(spec.name, spec.split, root)
    index = slice_index(spec, split.y)
    images = split.take(index)
    x, y = np.ascontiguousarray(to_unit_range(images.x)), images.y
    return Slice(x, y, index, hash_images(x, y))


def slice_index(spec: DataSpec, y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the positions of a slice's images in its split, in evaluation order.

    Explicit positions of the spec are returned as given. Otherwise the whole split is put into an
    order, of which the slice is ``limit`` images from ``offset`` on. So a smaller limit gives the
    first images of a larger one, and consecutive slices share no image. The order is

    - without a seed, that of the split;
    - with a seed, a permutation drawn from it;
    - if stratified, one image of each class in turn, in a fixed cycle of the classes, the images of
      a class in the order above. Class counts then differ by at most 1 in every slice. The cycle
      goes from the largest class to the smallest, ties in order of appearance; classes that do not
      occur in the split are left out.

    Args:
        spec: Which images.
        y: Labels of the whole split (n,).

    Raises:
        UserError: When a position, offset or limit exceeds the split, or a class has too few
            images.
    """
    n = len(y)
    if spec.index is not None:
        if max(spec.index) >= n:
            raise UserError(
                f"{_describe(spec)}: expected positions below the split's {n} images, found "
                f"{max(spec.index)}"
            )
        return np.array(spec.index, dtype=np.int64)
    if spec.offset >= n:
        raise UserError(
            f"{_describe(spec)}: expected an offset below the split's {n} images, "
            f"found {spec.offset}"
        )
    stop = n if spec.limit is None else spec.offset + spec.limit
    if stop > n:
        raise UserError(
            f"{_describe(spec)}: expected a limit of at most {n - spec.offset} ({n} images less "
            f"the offset {spec.offset}), found {spec.limit}"
        )
    order = np.arange(n, dtype=np.int64) if spec.seed is None else _permutation(n, spec.seed)
    if spec.stratified:
        order = _stratified(spec, y, order, stop)
    return order[spec.offset : stop]


def first_images(data: Slice, n: int) -> Slice:
    """Returns the first ``n`` images of a slice, as a slice."""
    x, y = data.x[:n], data.y[:n]
    return Slice(x, y, data.index[:n], hash_images(x, y))


def hash_images(x: NDArray[np.float32], y: NDArray[np.int64]) -> str:
    """Returns the sha256 of shape, pixels and labels, the same on every machine.

    The hash covers the shape as JSON and a line feed, the pixels as little-endian float32, and the
    labels as little-endian int64.
    """
    hasher = hashlib.sha256(json.dumps(list(x.shape)).encode() + b"\n")
    hasher.update(np.ascontiguousarray(x, "<f4").data)
    hasher.update(np.ascontiguousarray(y, "<i8").data)
    return hasher.hexdigest()


def _permutation(n: int, seed: int) -> NDArray[np.int64]:
    # Sorted raw draws: numpy keeps the bits of PCG64 in every version, but not those of
    # Generator.permutation.
    draws = np.random.PCG64(seed).random_raw(n)
    return np.argsort(draws, kind="stable").astype(np.int64)


def _stratified(
    spec: DataSpec, y: NDArray[np.int64], order: NDArray[np.int64], stop: int
) -> NDArray[np.int64]:
    """Returns the order with the classes in turn; raises if a class runs out before ``stop``."""
    labels = y[order]
    classes, first, which, counts = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    cycle = np.lexsort((first, -counts))
    place = np.empty(len(classes), np.int64)
    place[cycle] = np.arange(len(classes))
    starts = np.cumsum(counts) - counts
    by_class = np.argsort(which, kind="stable")
    turn = np.empty(len(labels), np.int64)
    turn[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    in_turn = np.lexsort((place[which], turn))
    unbroken = place[which[in_turn]] == np.arange(len(labels)) % len(classes)
    balanced = len(labels) if unbroken.all() else int(np.argmin(unbroken))
    if stop > balanced:
        short = cycle[balanced % len(classes)]
        raise UserError(
            f"{_describe(spec)}: expected enough images of each class for a stratified slice, "
            f"found {counts[short]} of class {classes[short]}; limit + offset can be at most "
            f"{balanced}, found {stop}"
        )
    return order[in_turn]


def _describe(spec: DataSpec) -> str:
    return f"{spec.name} ({spec.split})"


def open_split(name: str, split: str, root: Path | None = None) -> Split:
    """Opens a split; an image folder's pixels stay on disk until they are taken.

    Args:
        name: A name in ``DATASETS``, ``npz:PATH`` or ``folder:PATH``.
        split: ``test`` or ``train``.
        root: Data root; ``None`` for the default, see ``data_root``. Files that are not there are
            looked for in the package, then in the system's folder of data sets.

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
    """Returns all images of a split; those of an image folder are decoded now."""
    if isinstance(split, Images):
        return split
    return split.take(np.arange(len(split.y), dtype=np.int64))
