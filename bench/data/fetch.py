"""Downloads data sets with torchvision's own downloaders."""

from __future__ import annotations

import importlib
import tarfile
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bench.core.errors import UserError, message_of
from bench.data.folder import imagenet_remedy
from bench.data.named import get_dataset
from bench.data.path_forms import is_path_form
from bench.data.roots import data_root
from bench.data.slice import open_split
from bench.untrusted.archives import tar_members_stay_inside

_TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


def fetch(name: str, root: Path | None = None) -> Path:
    """Downloads both splits of a data set into the data root, in torchvision's layout.

    Files that exist with the right checksum are not downloaded again.

    Args:
        name: A name in ``DATASETS``.
        root: Data root; ``None`` for the default, see ``data_root``.

    Returns:
        The data root.

    Raises:
        UserError: When the data set cannot be downloaded (ImageNet, a path form), the network or
            the server fails, a checksum is wrong, or torchvision cannot be imported.
    """
    if is_path_form(name):
        raise UserError(f"{name}: your own data; there is nothing to fetch")
    get_dataset(name)
    if name not in _TORCHVISION:
        raise UserError(f"{name}: {imagenet_remedy()}")
    downloader = _downloader(_TORCHVISION[name])
    target = data_root(root)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tar_members_stay_inside():
            _download(downloader, target)
    except (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError) as error:
        raise UserError(
            f"{name}: could not be downloaded into {target} ({message_of(error)}); check the "
            "network and try again, or copy the files there by hand"
        ) from None
    for split in ("train", "test"):
        open_split(name, split, target)  # reports files that are damaged
    return target


def _download(downloader: Any, target: Path) -> None:
    """Downloads without loading: torchvision's constructors would unpickle the files."""
    subject = downloader.__new__(downloader)
    subject.root, subject.train = str(target), True
    subject.download()


def _downloader(name: str) -> Any:
    try:
        return getattr(importlib.import_module("torchvision.datasets"), name)
    except (ImportError, RuntimeError) as error:
        # A torchvision built for another version of torch raises RuntimeError.
        raise UserError(
            f"downloads need torchvision, which cannot be imported ({error}); install torch and "
            "torchvision together from the same registry"
        ) from None
