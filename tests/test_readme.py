"""The README, docs/results.md and docs/comparison.md show what reports and registries say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from bench.attacks import ATTACKS
from bench.core.ball import Norm

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
    assert "\n".join(table) in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_the_readme_quotes_the_selftests_report() -> None:
    report = (ROOT / "reports" / "selftest" / "selftest.md").read_text(encoding="utf-8")
    line = report.splitlines()[2]
    assert "planted cases caught" in line
    assert f"> {line}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_comparison_counts_what_there_is() -> None:
    text = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w ]+) \| ([^|]+) \|", text, re.M))
    native = {name for name in ATTACKS if ":" not in name} - {
        "natural",
        "pyautoattack",
        "corruption",
    }
    models = list((ROOT / "checkpoints").glob("*/card.yaml"))
    assert int(re.findall(r"\d+", rows["attacks"])[0]) == len(native)
    assert int(re.findall(r"\d+", rows["models ready to use"])[0]) == len(models)
    assert set(get_args(Norm)) <= set(rows["threat models"].split(", "))


def test_the_readme_fits_a_few_screens() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    sections = "\n".join(lines).split("\n## ")
    assert len(lines) < 130
    assert all(section.count("\n") < 45 for section in sections), "a screen for each reader"
