"""Data sets named by a path: ``npz:PATH`` and ``folder:PATH``.

``{split}`` in the path stands for ``test`` or ``train`` (``npz:cars-{split}.npz``); without it,
the path is a test split. ``folder:PATH?size=N`` resizes the shorter side of every image to N and
crops the centre; without it, all images must have the same square size. A relative path is looked
for from the working directory first, then under the data root.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bench.core.errors import UserError
from bench.data.folder import FileImages, Geometry, scan_folder
from bench.data.images import Dataset, Images, Split
from bench.data.npz import read_npz

PATH_FORMS = ("npz:PATH", "folder:PATH")
_SIZE = re.compile(r"^(?P<path>.*)\?size=(?P<size>[0-9]+)$")
MAX_SIZE = 10_000
_PLACEHOLDER = "{split}"


def is_path_form(name: str) -> bool:
    """Returns whether a data set's name is a path form."""
    return name.startswith(("npz:", "folder:"))


def path_dataset(name: str, root: Path) -> Dataset:
    """Opens a path form far enough to know its classes, channels and size.

    Raises:
        UserError: When the path is missing or does not hold what its form promises.
    """
    form, _, path = name.partition(":")
    if not path:
        raise UserError(f"data set '{name}': expected a path after '{form}:', found none")
    return _npz_dataset(name, path, root) if form == "npz" else _folder_dataset(name, path, root)


def _npz_dataset(name: str, path: str, root: Path) -> Dataset:
    test = read_npz(_locate(path, "test", root))
    channels, size = test.x.shape[1], test.x.shape[2]

    def load_train() -> Images:
        train = read_npz(_locate(path, "train", root))
        if train.x.shape[1:] != test.x.shape[1:]:
            raise UserError(
                f"{name}: expected train images of shape {test.x.shape[1:]} like the test images, "
                f"found {train.x.shape[1:]}"
            )
        return train

    classes = int(test.y.max()) + 1
    return _dataset(name, path, classes, channels, size, (), test, load_train)


def _folder_dataset(name: str, path: str, root: Path) -> Dataset:
    match = _SIZE.match(path)
    if match and len(match["size"]) > len(str(MAX_SIZE)):
        raise UserError(f"data set '{name[:100]}': expected a size of at most {MAX_SIZE}")
    size = int(match["size"]) if match else None
    plain = match["path"] if match else path
    if size == 0:
        raise UserError(f"data set '{name}': expected a size of at least 1, found 0")
    geometry = Geometry(3, size, size) if size else None
    test = scan_folder(_locate(plain, "test", root), geometry)

    def load_train() -> FileImages:
        train = scan_folder(_locate(plain, "train", root), test.geometry)
        if train.class_names != test.class_names:
            raise UserError(
                f"{name}: expected the same class folders in train as in test, found "
                f"{len(train.class_names)} and {len(test.class_names)} with different names; a "
                "label is the position among the sorted names"
            )
        return train

    g = test.geometry
    n_classes = len(test.class_names)
    return _dataset(name, plain, n_classes, g.channels, g.size, test.class_names, test, load_train)


def _dataset(
    name: str,
    path: str,
    classes: int,
    channels: int,
    size: int,
    class_names: tuple[str, ...],
    test: Split,
    load_train: Callable[[], Split],
) -> Dataset:
    return Dataset(
        name=name,
        classes=classes,
        channels=channels,
        size=size,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        class_names=class_names,
        splits=("test", "train") if _PLACEHOLDER in path else ("test",),
        licence="your own data",
        homepage=path,
        loader=lambda split, _: test if split == "test" else load_train(),
    )


def _locate(path: str, split: str, root: Path) -> Path:
    try:
        here = Path(path.replace(_PLACEHOLDER, split)).expanduser()
        under_root = root / here
        return under_root if not here.exists() and under_root.exists() else here
    except (OSError, RuntimeError) as error:  # a name that is too long, a home that is nobody's
        raise UserError(f"data set '{path[:100]}': no such file ({error})") from None
