"""What is known of a data set before any of its files is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.data.images import Split


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
