"""The README and docs/results.md show what the committed reports say."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "report",
    [
        "table1/leaderboard.md",
        "rna_eot/leaderboard.md",
        "batch_statistics/leaderboard.md",
        "robustnorm_table1/stats_table.md",
        "robustnorm_table1_cifar10/stats_table.md",
        "parity/agreement.md",
        "auto/agreement.md",
        "single_step/leaderboard.md",
    ],
)
def test_tables_are_those_of_the_reports(report: str) -> None:
    lines = (ROOT / "reports" / report).read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        table.append(line)
    assert len(table) > 3
    page = "README.md" if report.startswith("table1/") else "docs/results.md"
    assert "\n".join(table) in (ROOT / page).read_text(encoding="utf-8")


def test_the_readme_quotes_the_selftests_report() -> None:
    report = (ROOT / "reports" / "selftest" / "selftest.md").read_text(encoding="utf-8")
    line = report.splitlines()[2]
    assert "planted cases caught" in line
    assert f"> {line}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
