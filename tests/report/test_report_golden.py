"""Every report in every format, byte for byte; RBENCH_UPDATE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.report import build_reports, to_text, write_reports

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("kind", ["agreement", "leaderboard", "stats_table"])
def test_reports_are_as_they_were_looked_at(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind.removesuffix("_table") + "_run")
    written = write_reports(run, formats=("md", "tex", "csv"))
    assert [path.name for path in written] == [f"{kind}.{e}" for e in ("md", "tex", "csv")]
    texts = {path.name: path.read_text() for path in written}
    texts[f"{kind}.txt"] = to_text(build_reports(run)[0][1])
    for name, text in texts.items():
        if os.environ.get("RBENCH_UPDATE_GOLDEN"):
            (GOLDEN / name).write_text(text)
        assert text == (GOLDEN / name).read_text(), f"{name} changed"


def test_the_same_store_gives_the_same_bytes(leaderboard_run: Path) -> None:
    first = [path.read_bytes() for path in write_reports(leaderboard_run)]
    assert [path.read_bytes() for path in write_reports(leaderboard_run)] == first
    assert sorted(p.name for p in leaderboard_run.iterdir()) == [
        "leaderboard.csv",
        "leaderboard.md",
        "leaderboard.tex",
        "report.html",
        "store",
    ]
