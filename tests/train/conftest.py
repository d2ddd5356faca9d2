"""A tiny data set on disk in torchvision's layout, and recipes that fit it."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.train.recipe import Recipe

BASE: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "arch": "resnet20",
        "norm": "bn",
        "channels": 1,
        "size": 28,
        "classes": 4,
        "mean": [0.5],
        "std": [0.25],
    },
    "dataset": "fashion-mnist",
    "epochs": 2,
    "batch_size": 32,
    "lr": 0.05,
}
ATTACK: dict[str, Any] = {
    "threat_model": {"norm": "linf", "eps": "8/255"},
    "alpha": "4/255",
    "n_iter": 2,
}


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., Recipe]:
    """Builds a recipe from changes to the base; ``norm`` and ``size`` reach into the model."""

    def make(norm: Any = "bn", size: int = 28, **changes: Any) -> Recipe:
        model = BASE["model"] | {"norm": norm, "size": size}
        return Recipe.model_validate(BASE | {"model": model} | changes)

    return make


def quadrants(n: int, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws noisy images (n, size, size) whose class is the quadrant that is brighter."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n).astype(np.uint8)
    x = rng.integers(0, 120, (n, size, size)).astype(np.uint8)
    half = size // 2
    for image, label in zip(x, y, strict=True):
        row, column = (label // 2) * half, (label % 2) * half
        image[row : row + half, column : column + half] += 100
    return x, y


@pytest.fixture(scope="session")
def small_images() -> tuple[Tensor, Tensor]:
    """Images (64, 1, 8, 8), uint8, with labels (64,) of 4 classes."""
    x, y = quadrants(64, 8, seed=3)
    return torch.from_numpy(x)[:, None], torch.from_numpy(y).long()


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


@pytest.fixture(scope="session")
def idx_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with 160 training and 80 test images under ``FashionMNIST/raw``."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, n, seed in (("train", 160, 1), ("t10k", 80, 2)):
        x, y = quadrants(n, 28, seed)
        write_idx(raw / f"{stem}-images-idx3-ubyte.gz", x)
        write_idx(raw / f"{stem}-labels-idx1-ubyte.gz", y)
    return root
