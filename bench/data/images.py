"""Images in memory, splits and data sets: the types that every loader returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.core.model_spec import Size

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""Images (n, c, h, w): uint8 in 0..255, or float32 in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images with their labels.

    Attributes:
        x: Pixels (n, c, h, w): uint8 in 0..255, or float32 in [0, 1].
        y: Labels (n,), int64, from 0.
    """

    x: Pixels
    y: NDArray[np.int64]

    def take(self, index: NDArray[np.int64]) -> Images:
        """Returns the images at the given positions, in that order."""
        return Images(self.x[index], self.y[index])


class Split(Protocol):
    """A split of a data set: labels in memory, pixels perhaps still on disk."""

    @property
    def y(self) -> NDArray[np.int64]:
        """Labels (n,), int64, from 0."""

    def take(self, index: NDArray[np.int64]) -> Images:
        """Returns the images at the given positions, in that order; reads no others."""


def to_unit_range(x: Pixels) -> NDArray[np.float32]:
    """Returns pixels as float32 in [0, 1]: uint8 is divided by 255, float32 stays."""
    if x.dtype == np.uint8:
        unit = x.astype(np.float32)
        unit /= np.float32(255)
        return unit
    return x.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Dataset:
    """A data set for evaluation and training.

    Attributes:
        name: In suites and ``rbench list datasets``.
        classes: Number of classes. For ``npz:PATH``, the largest label + 1: part of a data set may
            have fewer classes than the whole.
        channels: Of its images.
        size: Height and width in pixels, as one number where they are equal.
        mean: Usual per-channel mean of the training images in [0, 1]; 0 for a path form.
        std: Usual per-channel standard deviation; 1 for a path form.
        class_names: One per class, or empty if unknown.
        splits: Those of ``test`` and ``train`` that exist.
        licence: One line.
        homepage: Address, or the path of a path form.
        loader: Returns a split, from its name and the data root.
        part: Whether it may hold only some of the classes that its labels are from.
    """

    name: str
    classes: int
    channels: int
    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    licence: str
    homepage: str
    loader: Callable[[str, Path], Split] = field(repr=False)
    part: bool = False


SPLIT_PLACEHOLDER = "{split}"


def own_dataset(
    name: str,
    path: str,
    classes: int,
    channels: int,
    size: Size,
    class_names: tuple[str, ...],
    test: Split,
    load_train: Callable[[], Split],
) -> Dataset:
    """Returns the data set of a path form, with a train split if its path has a ``{split}``."""
    return Dataset(
        name=name,
        classes=classes,
        channels=channels,
        size=size,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        class_names=class_names,
        splits=("test", "train") if SPLIT_PLACEHOLDER in path else ("test",),
        licence="your own data",
        homepage=path,
        loader=lambda split, _: test if split == "test" else load_train(),
        part=not class_names,
    )
