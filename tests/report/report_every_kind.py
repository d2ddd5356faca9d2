"""A report of each kind, from its small run."""

from __future__ import annotations

from pathlib import Path

from report_analyses import ANALYSES, run_of
from report_kind_runs import RUNS, leaderboard_run

from bench.report import Report, build_reports
from bench.report.papers.comparison import build_comparison
from bench.report.run_view import RunView

COMPARISON = "comparison"
KINDS = (*RUNS, *ANALYSES, COMPARISON)


def stored(kind: str, folder: Path) -> Path:
    """Writes the run of a kind."""
    if kind == COMPARISON:
        return leaderboard_run(folder).finish()
    return RUNS[kind](folder).finish() if kind in RUNS else run_of(kind, folder)


def report_of(kind: str, folder: Path) -> Report:
    """Builds the report of a kind."""
    run = stored(kind, folder)
    if kind == COMPARISON:
        return build_comparison(RunView(run), "rna/table1")
    ((name, report),) = build_reports(run)
    assert name == kind
    return report
