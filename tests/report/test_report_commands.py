"""``rbench index`` and ``rbench report --compare`` as a user meets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]


def rbench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from bench.cli import main; main()", *arguments]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def test_results_are_compared_and_indexed_from_their_stores(leaderboard_run: Path) -> None:
    run, reports = leaderboard_run, leaderboard_run.parent
    compared = rbench("report", str(run), "--compare", "rna/table1", "--format", "md")
    assert compared.returncode == 0, compared.stderr
    assert [path.name for path in run.iterdir() if path.is_file()] == ["compare-rna-table1.md"]
    assert "Not comparable" in (run / "compare-rna-table1.md").read_text()
    indexed = rbench("index", str(reports))
    assert indexed.returncode == 0, indexed.stderr
    assert "(run/compare-rna-table1.md)" in (reports / "README.md").read_text()


def test_misuse_names_what_was_meant(leaderboard_run: Path) -> None:
    run, none = str(leaderboard_run), str(leaderboard_run / "none")
    for arguments, words in (
        (["report", run, "--compare", "rna/tabel1"], "did you mean 'rna/table1'"),
        (["index", none], "no such folder"),
    ):
        done = rbench(*arguments)
        assert done.returncode == 2 and words in done.stderr, done.stderr
