"""Three kinds of report byte for byte; RBENCH_UPDATE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from report_every_kind import report_of, stored

from bench.report import to_csv, to_markdown, write_reports

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("kind", ["leaderboard", "stats_table", "transfer_heatmap"])
def test_reports_are_as_they_were_looked_at(kind: str, tmp_path: Path) -> None:
    report = report_of(kind, tmp_path)
    for ending, text in {"md": to_markdown(report, kind), "csv": to_csv(report)}.items():
        path = GOLDEN / f"{kind}.{ending}"
        if os.environ.get("RBENCH_UPDATE_GOLDEN"):
            path.write_text(text)
        assert text == path.read_text(), f"{path.name} changed"


@pytest.mark.process
def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    run = stored("leaderboard", tmp_path)
    first = [path.read_bytes() for path in write_reports(run)]
    assert [path.read_bytes() for path in write_reports(run)] == first
    assert sorted(p.name for p in run.iterdir()) == [
        "leaderboard.csv",
        "leaderboard.md",
        "leaderboard.tex",
        "report.html",
        "store",
    ]
