"""Tables for people, made from the store alone."""

from bench.report.render import to_csv, to_latex, to_markdown, to_text
from bench.report.table import Report
from bench.report.write import REPORTS, build_reports, write_reports

__all__ = [
    "REPORTS",
    "Report",
    "build_reports",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_text",
    "write_reports",
]
