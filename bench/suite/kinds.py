"""The kinds of reports: the one list of them."""

from __future__ import annotations

from typing import Literal, get_args

from bench.core.plugins import known_name

ReportKind = Literal[
    "agreement",
    "batch_size_curve",
    "eps_curve",
    "examples",
    "gain_table",
    "gradient_similarity",
    "iteration_curve",
    "leaderboard",
    "loss_surface",
    "path_difference",
    "power_curve",
    "statistics_shift",
    "stats_table",
    "training_curve",
    "transfer_heatmap",
]
"""A new kind is a line here and a module of its name in ``bench.report``, with a ``build``."""

ANALYSIS_KINDS = (
    "examples",
    "gradient_similarity",
    "loss_surface",
    "path_difference",
    "statistics_shift",
)
"""Kinds of reports that show a suite's analyses of their own name, and nothing else."""

REPORT_KINDS: tuple[str, ...] = get_args(ReportKind)

REPORT_GROUP = "rbench.reports"
"""Entry points by which other packages add kinds."""


def known_kind(kind: str) -> str:
    """Returns a kind of report, of rbench or of a plugin; a pydantic validator."""
    return known_name("report", REPORT_GROUP, REPORT_KINDS, kind)
