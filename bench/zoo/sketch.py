"""A few bytes by which two sets of weights can be told to be kin, or trained apart.

A count sketch (M. Charikar, K. Chen, M. Farach-Colton, "Finding frequent items in data streams",
ICALP 2002) keeps inner products in expectation. Networks that were trained from different random
starts are about orthogonal, whatever their recipe; fine-tuned, pruned or rounded weights are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.sketch import BUCKETS, pack


def sketch_file(path: Path, sha256: str) -> str:
    """Returns the sketch of a file of weights, or an empty text where it cannot be read.

    Args:
        path: The safetensors file.
        sha256: Of the file, as its card says; sketches are remembered by it.
    """
    return _remembered(path, sha256, path.stat().st_size) if path.is_file() else ""


@lru_cache(maxsize=256)
def _remembered(path: Path, sha256: str, size: int) -> str:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file  # a plan needs no torch

    try:
        return sketch(load_file(path))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError):
        return ""  # loading it says what is wrong; numpy lacks bfloat16


def sketch(weights: Mapping[str, NDArray[np.generic]]) -> str:
    """Returns the sketch of weights: of all their matrices and kernels, each as one direction.

    Biases, scales and running statistics are left out: they are alike in all networks.

    Args:
        weights: Arrays of any shape by name.
    """
    total, n = np.zeros(BUCKETS), 0
    for name in sorted(weights):
        flat = weights[name]
        if flat.ndim < 2 or flat.dtype.kind != "f":
            continue
        direction = flat.astype(np.float64).ravel()
        length = float(np.linalg.norm(direction))
        if not 0 < length < np.inf:
            continue
        total += _bucketed(direction / length, name)
        n += 1
    return pack(total / np.sqrt(n)) if n else ""


def _bucketed(direction: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    # Raw draws, whose bits numpy promises in every version.
    raw = np.random.Philox(seed).random_raw(-(-direction.size // 8)).astype("<u8")
    byte = raw.view(np.uint8)[: direction.size]
    signs = np.where(byte & 128, 1.0, -1.0)
    found = np.bincount(byte % BUCKETS, weights=signs * direction, minlength=BUCKETS)
    return found.astype(np.float64)
