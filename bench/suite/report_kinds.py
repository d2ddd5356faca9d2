"""The kinds of report: where each is declared, and what it declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.core.registry import Plugin, Registry, known_name

_KINDS = {
    "agreement": "agreement:KIND",
    "batch_size_curve": "curve:BATCH_SIZE",
    "eps_curve": "curve:EPS",
    "examples": "examples:KIND",
    "gain_table": "gain_table:KIND",
    "gradient_similarity": "gradient_similarity:KIND",
    "iteration_curve": "curve:ITERATION",
    "leaderboard": "leaderboard:KIND",
    "loss_surface": "loss_surface:KIND",
    "path_difference": "path_difference:KIND",
    "power_curve": "curve:POWER",
    "statistics_shift": "statistics_shift:KIND",
    "stats_table": "stats_table:KIND",
    "training_curve": "training_curve:KIND",
    "transfer_heatmap": "transfer_heatmap:KIND",
}
"""Where each kind is declared, as ``MODULE:NAME`` in ``bench.report.kinds``."""

REPORT_KINDS = tuple(_KINDS)


def _nothing(*_: object) -> str:
    return ""


@dataclass(frozen=True)
class ReportKind:
    """A kind of report.

    Attributes:
        build: ``build(view, entry)`` makes a ``bench.report.table.Report`` from a ``RunView`` and
            the ``ReportEntry`` that asks for it.
        heading: Heading in ``report.html``; where empty, that is the report's title.
        panels: Whether its figure may be divided into the entry's ``panels``.
        pairs: Whether the entry must list ``pairs`` of attacks.
        analysis: Whether it shows the suite's analyses of its own name, and nothing else.
        lacking: ``lacking(suite, stats, norms, params)`` returns what the report misses in a suite,
            in words, empty if nothing. ``stats`` are the statistics in force of each model,
            ``norms`` their ``NormSpec``, ``params`` the parameters of each attack, with defaults.
    """

    build: Callable[..., Any]
    heading: str = ""
    panels: bool = False
    pairs: bool = False
    analysis: bool = False
    lacking: Callable[..., str] = _nothing


def _adopt(plugin: Plugin, found: object) -> ReportKind:
    if not callable(found):
        raise ValueError(f"expected a function of a view and an entry, found {found!r:.60}")
    return ReportKind(found)


REPORTS: Registry[ReportKind] = Registry("report", "rbench.reports", _adopt)
"""All kinds; plugins add theirs by entry points. A kind is imported when it is first asked for."""
for _name, _target in _KINDS.items():
    REPORTS.add_lazy(_name, f"bench.report.kinds.{_target}")


def known_kind(kind: str) -> str:
    """Returns the name of a kind, of rbench or of a plugin; a pydantic validator."""
    return known_name("report", REPORTS.group, REPORT_KINDS, kind)


def declared(kind: str) -> ReportKind:
    """Returns what a kind declares; a plugin's, whose code is not imported here, nothing."""
    return REPORTS.get(kind) if kind in REPORT_KINDS else ReportKind(_nothing)
