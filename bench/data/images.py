"""Images in memory, and what every loader returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
    """A data set's split whose labels are known and whose pixels may still be on disk."""

    @property
    def y(self) -> NDArray[np.int64]:
        """Labels (n,), int64, from 0."""

    def take(self, index: NDArray[np.int64]) -> Images:
        """Returns the images at the given positions, in that order; reads only those."""


def to_unit_range(x: Pixels) -> NDArray[np.float32]:
    """Returns pixels as float32 in [0, 1]: uint8 divided by 255, float32 as it is."""
    if x.dtype == np.uint8:
        unit = x.astype(np.float32)
        unit /= np.float32(255)
        return unit
    return x.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Dataset:
    """A data set that can be evaluated on.

    Attributes:
        name: As suites and ``rbench list datasets`` name it.
        classes: Number of classes. Of an ``npz:PATH``: largest label + 1, so a part of a data set
            may show fewer classes than the whole has.
        channels: 1 or 3.
        size: Height and width in pixels.
        mean: Usual per-channel mean of the training images in [0, 1]; 0 for a path form.
        std: Usual per-channel standard deviation; 1 for a path form.
        class_names: One a class, or empty where they are not known.
        splits: Of ``test`` and ``train``, those that there are.
        licence: In one line.
        homepage: Address, or the path of a path form.
        loader: Takes the split and the data root, returns the split.
    """

    name: str
    classes: int
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    licence: str
    homepage: str
    loader: Callable[[str, Path], Split] = field(repr=False)
