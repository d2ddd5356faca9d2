"""A kind of report is added to a copy of the package in two files, as docs/extend.md says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_kind_runs import BN, PGD, built, shares
from report_runs import make_rows

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
MODULE = '''
"""How many images each cell has."""

from bench.report.table import Cell, Column, Report, Table, TableRow
from bench.report.text import head, title


def build(view, entry):
    rows = tuple(
        TableRow((model.label,), tuple(cell(outcome) for outcome in view.outcomes_of(i)))
        for i, model in enumerate(view.models)
    )
    columns = tuple(Column(attack.label) for attack in view.attacks)
    return Report(title(view), head(view), (Table("", ("model",), columns, rows),), (), ())


def cell(outcome):
    return Cell((f"{len(outcome.rows)} images",), n=len(outcome.rows))

'''

FIRST = '    "agreement": '
FACTS = '    "counts": ReportKind("Images of each cell"),'


def test_a_kind_of_report_is_its_module_and_a_line_in_the_list(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("bundled"))
    (tmp_path / "bench" / "report" / "kinds" / "counts.py").write_text(MODULE)
    kinds = tmp_path / "bench" / "suite" / "report_kinds.py"
    kinds.write_text(kinds.read_text().replace(FIRST, f"{FACTS}\n{FIRST}", 1))
    run = built(tmp_path, "counts", [BN], [PGD])
    run.add(0, 0, make_rows(shares(8)))
    folder = run.finish()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200", "NO_COLOR": "1"}

    def rbench(*arguments: str) -> str:
        command = [sys.executable, "-c", "from bench.cli import main; main()", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "counts" in rbench("list", "reports")
    rbench("report", str(folder), "--format", "md", "--format", "html")
    assert "16 images" in (folder / "counts.md").read_text()
    assert "Images of each cell</h2>" in (folder / "report.html").read_text()
