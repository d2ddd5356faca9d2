"""The kinds of report: one module each, whose ``build`` is imported when first asked for.

What a suite has to know of a kind before it runs stands in ``bench.suite.report_kinds``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from bench.core.registry import Plugin, Registry
from bench.report.run_view import RunView
from bench.report.table import Report
from bench.suite.entry import ReportEntry
from bench.suite.report_kinds import PLUGINS, REPORT_KINDS

_CURVES = {
    "batch_size_curve": "curve:over_batch_size",
    "eps_curve": "curve:over_eps",
    "iteration_curve": "curve:over_iterations",
    "power_curve": "curve:over_power",
}
"""The kinds that share a module, as ``MODULE:FUNCTION`` of this package."""

Builder = Callable[[RunView, ReportEntry], Report]
"""Builds the report of a run that an entry of its suite asks for."""


def _adopt(plugin: Plugin, found: object) -> Builder:
    if not callable(found):
        raise ValueError(f"expected a function of a view and an entry, found {found!r:.60}")
    return cast(Builder, found)


BUILDERS: Registry[Builder] = Registry("report", PLUGINS, _adopt)
"""The builders of all kinds; plugins add theirs by entry points."""
for _name in REPORT_KINDS:
    BUILDERS.add_lazy(_name, f"{__name__}.{_CURVES.get(_name, f'{_name}:build')}")
