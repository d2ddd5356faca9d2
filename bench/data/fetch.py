"""Downloads data sets with torchvision's own downloaders."""

from __future__ import annotations

import importlib
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bench.core.errors import UserError, words_of
from bench.data.folder import imagenet_remedy
from bench.data.named import get_dataset
from bench.data.path_forms import is_path_form
from bench.data.roots import data_root
from bench.data.slice import open_split

_TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


def fetch(name: str, root: Path | None = None) -> Path:
    """Downloads both splits of a data set into the data root, in torchvision's layout.

    What is there already, with the right checksum, is not downloaded again.

    Args:
        name: A name in ``DATASETS``.
        root: Data root; ``None`` takes the default, see ``data_root``.

    Returns:
        The data root.

    Raises:
        UserError: When the data set cannot be downloaded (ImageNet, a path form), the network or
            the server fails, a checksum is wrong, or torchvision cannot be imported.
    """
    if is_path_form(name):
        raise UserError(f"{name}: a data set of your own; there is nothing to fetch")
    get_dataset(name)
    if name not in _TORCHVISION:
        raise UserError(f"{name}: {imagenet_remedy()}")
    downloader = _downloader(_TORCHVISION[name])
    target = data_root(root)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _members_stay_inside():
            _download(downloader, target)
    except (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError) as error:
        raise UserError(
            f"{name}: could not be downloaded into {target} ({words_of(error)}); check the network "
            "and try again, or copy the files there by hand"
        ) from None
    for split in ("train", "test"):
        open_split(name, split, target)  # says what is wrong with what came
    return target


def _download(downloader: Any, target: Path) -> None:
    """Downloads without loading: torchvision's constructors would unpickle what they fetched."""
    subject = downloader.__new__(downloader)
    subject.root, subject.train = str(target), True
    subject.download()


@contextmanager
def _members_stay_inside() -> Iterator[None]:
    """Makes every archive that is extracted meanwhile refuse members that lead out of its folder.

    Raises:
        UserError: When this Python is too old to know how.
    """
    refusing = getattr(tarfile, "data_filter", None)
    if refusing is None:
        raise UserError("downloads need Python 3.11.4 or newer, which checks archives; upgrade it")
    before = vars(tarfile.TarFile).get("extraction_filter")
    tarfile.TarFile.extraction_filter = staticmethod(refusing)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


def _downloader(name: str) -> Any:
    try:
        return getattr(importlib.import_module("torchvision.datasets"), name)
    except (ImportError, RuntimeError) as error:
        # A torchvision that was built for another torch fails with RuntimeError.
        raise UserError(
            f"downloads need torchvision, which cannot be imported ({error}); install torch and "
            "torchvision together from the same registry"
        ) from None
