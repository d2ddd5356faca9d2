"""A full disk and a read-only one: what is stored stays, and the same command goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 KiB, which is 14 cells."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=60k", "tmpfs", str(folder)):
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def run(out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "run", "quickstart", "--out", str(out)]
    return subprocess.run([*command, "--workers", "1"], cwd=ROOT, capture_output=True, text=True)


def test_a_full_disk_and_a_read_only_one_cost_nothing(small: Path, tmp_path: Path) -> None:
    full = run(small / "out")
    assert full.returncode == 2 and "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    stored = {path.name for path in (small / "out/store/cells").iterdir()}
    assert stored, "cells that were done before it was full"
    assert mount("-o", "remount,size=8m", str(small))
    done = run(small / "out")
    assert done.returncode == 0, done.stderr
    elsewhere = run(tmp_path / "out")
    assert elsewhere.returncode == 0
    for name in ("leaderboard.md", "leaderboard.tex", "leaderboard.csv"):
        assert (small / "out" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert mount("-o", "remount,ro", str(small))
    refused = run(small / "other")
    assert refused.returncode == 2 and "Read-only file system" in refused.stderr
