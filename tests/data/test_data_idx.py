"""IDX files: what is read, and what is said of broken ones."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.data.named import read_idx

PIXELS = bytes(range(24))
GOOD = struct.pack(">HBBIII", 0, 8, 3, 2, 3, 4) + PIXELS


PACKED = gzip.compress(GOOD, mtime=0)  # test ids hold these bytes: every process needs the same


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_shape_and_bytes_whatever_the_name(tmp_path: Path, pack: object) -> None:
    path = tmp_path / "no-suffix"
    path.write_bytes(pack(GOOD))  # type: ignore[operator]
    array = read_idx(path)
    assert array.shape == (2, 3, 4)
    assert array[1, 2, 3] == 23
    assert array.tobytes() == PIXELS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\0\0\x0d\x01" + b"\0" * 8, "starts with 00000d01"),
        (b"<html>", "starts with"),
        (GOOD[:4], "header is cut off"),
        (GOOD[:14], "header is cut off"),
        (GOOD[:-1], "expected 24 bytes of data, found 23"),
        (GOOD + b"\0", "expected 24 bytes of data, found 25"),
        (struct.pack(">HBBIIII", 0, 8, 4, *[2**31] * 4), "found 0"),
        (PACKED[:-9], "damaged gzip"),
        (PACKED[:12] + b"\xff" * 12, "damaged gzip"),
    ],
)
def test_broken_file_is_named_with_what_is_wrong(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)


def test_missing_file_and_folder_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_idx(tmp_path / "none")
    with pytest.raises(UserError, match="cannot be read"):
        read_idx(tmp_path)


def test_big_endian_sizes(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(b"\0\0\x08\x01\0\0\x01\x02" + bytes(258))
    np.testing.assert_array_equal(read_idx(path), np.zeros(258, np.uint8))
