"""``rbench index`` and ``rbench report --compare`` as a user meets them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rbench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from bench.cli import main; main()", *arguments]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def test_results_are_compared_and_indexed_from_their_stores(tmp_path: Path) -> None:
    run = tmp_path / "table1"
    shutil.copytree(ROOT / "reports" / "table1" / "store", run / "store")
    compared = rbench("report", str(run), "--compare", "rna/table1", "--format", "md")
    assert compared.returncode == 0, compared.stderr
    assert [path.name for path in run.iterdir() if path.is_file()] == ["compare-rna-table1.md"]
    assert "Not comparable" in (run / "compare-rna-table1.md").read_text()
    indexed = rbench("index", str(tmp_path))
    assert indexed.returncode == 0, indexed.stderr
    assert "(table1/compare-rna-table1.md)" in (tmp_path / "README.md").read_text()


def test_misuse_names_what_was_meant(tmp_path: Path) -> None:
    for arguments, words in (
        (["report", "reports/table1", "--compare", "rna/tabel1"], "did you mean 'rna/table1'"),
        (["index", str(tmp_path / "none")], "no such folder"),
    ):
        done = rbench(*arguments)
        assert done.returncode == 2 and words in done.stderr, done.stderr
