"""Accuracy against eps, in the layout of the RobustNorm paper's Figure 7."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.curve import curve_report
from bench.report.curve_points import Axis, Unit
from bench.report.lines import attack_line
from bench.report.run_view import Outcome, RunView
from bench.report.table import Report
from bench.suite import ReportEntry


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a line over eps for each model and attack, from its clean accuracy on.

    Raises:
        UserError: When the published table cannot be used.
    """
    return curve_report(view, entry, _AXIS)


def _x(view: RunView, model: int, outcome: Outcome) -> float | None:
    return None if outcome.info is None else outcome.info.spec.threat_model.eps


def _unit(view: RunView, xs: Sequence[float]) -> Unit:
    """Returns eps in levels of 8-bit images where all of them are some, else as it is."""
    threat = view.suite.threat_model
    levels = [x * 255 for x in xs]
    whole = all(abs(level - round(level)) < 1e-9 for level in levels)
    if threat.eps_space == "normalized":
        return Unit(f"eps ({threat.norm}, in units of the normalized input)", "{:g}".format)
    if threat.norm == "linf" and whole and xs:
        return Unit("eps (linf, in 1/255)", lambda x: f"{round(255 * x)}/255" if x else "0", 255)
    return Unit(f"eps ({threat.norm}, pixels in [0, 1])", "{:g}".format)


_AXIS = Axis(
    name="eps",
    x=_x,
    unit=_unit,
    model_line=lambda view, i: view.models[i].line(),
    attack_line=lambda view, j: attack_line(view, j, {"eps"}),
    absent="",
    natural="at 0",
)
