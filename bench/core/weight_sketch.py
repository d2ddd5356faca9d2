"""Sketches of weights: a few bytes that tell whether two checkpoints come from one training.

A count sketch (M. Charikar, K. Chen, M. Farach-Colton, "Finding frequent items in data streams",
ICALP 2002) preserves inner products in expectation. Networks trained from different random starts
are nearly orthogonal, whatever their recipe; fine-tuned, pruned or rounded weights are not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BUCKETS = 128
"""Numbers in a sketch; the cosine of unrelated weights is then 0 with a standard deviation of about
0.09."""

SAME_TRAINING = 0.5
"""Least cosine of weights that come from one training."""


def cosine(first: str, second: str) -> float | None:
    """Returns the approximate cosine, in [-1, 1], of the weights behind two sketches.

    ``None`` if a text is not a sketch, as in stores from before sketches were kept.
    """
    a, b = unpack(first), unpack(second)
    if a is None or b is None:
        return None
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size else None


def sketch_file(path: Path, sha256: str) -> str:
    """Returns the sketch of a safetensors file; empty if the file cannot be read.

    Args:
        path: The file.
        sha256: Of the file, from its card; the sketch is cached by it.
    """
    return _cached(path, sha256, path.stat().st_size) if path.is_file() else ""


@lru_cache(maxsize=256)
def _cached(path: Path, sha256: str, size: int) -> str:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file  # a plan needs no torch

    try:
        return sketch(load_file(path))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError):
        return ""  # loading the model reports the problem; numpy lacks bfloat16


def sketch(weights: Mapping[str, NDArray[np.generic]]) -> str:
    """Returns the sketch of weights: the sum over all matrices and kernels, each normalized.

    Biases, scales and running statistics are left out: they are similar in all networks.

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
    # Raw draws, whose bits numpy promises to keep in every version.
    raw = np.random.Philox(seed).random_raw(-(-direction.size // 8)).astype("<u8")
    byte = raw.view(np.uint8)[: direction.size]
    signs = np.where(byte & 128, 1.0, -1.0)
    found = np.bincount(byte % BUCKETS, weights=signs * direction, minlength=BUCKETS)
    return found.astype(np.float64)


def pack(values: NDArray[np.float64]) -> str:
    """Returns a sketch as text: half precision, base64."""
    return base64.b64encode(values.astype("<f2").tobytes()).decode()


def unpack(text: str) -> NDArray[np.float64] | None:
    """Returns the numbers of a sketch; ``None`` for any other text."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != 2 * BUCKETS:
        return None
    values = np.frombuffer(raw, "<f2").astype(np.float64)
    return values if bool(np.isfinite(values).all()) else None
