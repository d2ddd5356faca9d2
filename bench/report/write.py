"""Writes a run's reports from its store alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.core.registry import Registry
from bench.report.render import to_csv, to_latex, to_markdown
from bench.report.run_view import RunView
from bench.report.table import Report
from bench.store import write_atomically
from bench.suite import ReportEntry

ReportBuilder = Callable[[RunView, ReportEntry], Report]

REPORTS: Registry[ReportBuilder] = Registry("report")
REPORTS.add_lazy("agreement", "bench.report.agreement:build")
REPORTS.add_lazy("leaderboard", "bench.report.leaderboard:build")
REPORTS.add_lazy("stats_table", "bench.report.stats_table:build")

_FORMATS: tuple[tuple[str, Callable[[Report], str]], ...] = (
    ("md", to_markdown),
    ("tex", to_latex),
    ("csv", to_csv),
)


def build_reports(run_folder: Path) -> list[tuple[str, Report]]:
    """Builds every report that a run's suite lists.

    Returns:
        Pairs of a file name without its ending and a report; a second report of a kind gets a
        number: ``leaderboard-2``.

    Raises:
        UserError: When the store is missing, damaged or of another version, or a published table
            does not fit.
    """
    view = RunView(run_folder)
    built: list[tuple[str, Report]] = []
    counts: dict[str, int] = {}
    for entry in view.suite.reports:
        counts[entry.kind] = counts.get(entry.kind, 0) + 1
        name = entry.kind if counts[entry.kind] == 1 else f"{entry.kind}-{counts[entry.kind]}"
        built.append((name, REPORTS.get(entry.kind)(view, entry)))
    return built


def write_reports(run_folder: Path) -> list[Path]:
    """Writes each report of a run as ``.md``, ``.tex`` and ``.csv`` into its folder.

    The same store always gives the same bytes.

    Returns:
        The files written, in the suite's order.

    Raises:
        UserError: As ``build_reports`` does.
    """
    paths = []
    for name, report in build_reports(run_folder):
        for ending, render in _FORMATS:
            path = run_folder / f"{name}.{ending}"
            write_atomically(path, render(report).encode())
            paths.append(path)
    return paths
