"""Long lists of numbers in few letters: runs of neighbours, and packed counts."""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Sequence

import numpy as np

MOST = 20_000_000
"""Numbers in a list: more than any data set has images."""

_PART = re.compile(r"([0-9]{1,12})(?:-([0-9]{1,12}))?")


def pack_runs(numbers: Sequence[int]) -> str:
    """Returns for example ``"3 7 10-14"``; keeps the order.

    Args:
        numbers: None of them negative.
    """
    runs = itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    parts = []
    for _, run in runs:
        values = [value for _, value in run]
        parts.append(str(values[0]) if len(values) == 1 else f"{values[0]}-{values[-1]}")
    return " ".join(parts)


def unpack_runs(text: str) -> tuple[int, ...]:
    """Returns the numbers behind ``pack_runs``.

    Raises:
        ValueError: For anything else, and for more than ``MOST`` numbers.
    """
    ranges: list[range] = []
    for part in text.split():
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"expected numbers and runs such as 3 or 10-14, found '{part[:30]}'")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"expected a run that rises, found '{part}'")
        ranges.append(range(first, last + 1))
    if sum(map(len, ranges)) > MOST:
        raise ValueError(f"expected at most {MOST:,} numbers")
    return tuple(itertools.chain.from_iterable(ranges))


def pack_counts(counts: Sequence[int], most: int) -> str:
    """Returns counts from 0 to ``most`` as base64: a bit each if that is 1, else 1 or 4 bytes."""
    if most == 1:
        raw = np.packbits(np.asarray(counts, dtype=np.uint8)).tobytes()
    else:
        raw = np.asarray(counts, dtype="<u1" if most < 256 else "<u4").tobytes()
    return base64.b64encode(raw).decode()


def unpack_counts(text: str, n: int, most: int) -> tuple[int, ...]:
    """Returns the counts behind ``pack_counts``.

    Raises:
        ValueError: When they are not ``n`` counts from 0 to ``most``.
    """
    try:
        raw = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (binascii.Error, ValueError):
        raise ValueError("expected base64") from None
    expected = -(-n // 8) if most == 1 else n * (1 if most < 256 else 4)
    if raw.size != expected:
        raise ValueError(f"expected the scores of {n} images, found {raw.size} bytes")
    if most == 1:
        return tuple(np.unpackbits(raw)[:n].tolist())
    counts = raw.view("<u1" if most < 256 else "<u4")
    if n and int(counts.max()) > most:
        raise ValueError(f"expected at most {most} right draws, found {counts.max()}")
    return tuple(counts.tolist())
