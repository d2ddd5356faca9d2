"""Reports on a run, made from its store alone."""

from bench.report.render import to_csv, to_latex, to_markdown, to_text
from bench.report.table import Report
from bench.report.write import build_reports, write_reports

__all__ = [
    "Report",
    "build_reports",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_text",
    "write_reports",
]
