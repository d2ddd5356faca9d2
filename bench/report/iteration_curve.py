"""Accuracy against the attack's steps, in the layout of the RNA paper's Figure 5a."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.curve import curve_report
from bench.report.curve_points import Axis, Unit
from bench.report.lines import attack_line
from bench.report.run_view import Outcome, RunView
from bench.report.table import Report
from bench.suite import ReportEntry


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a line over ``n_iter`` for each model and attack that has it.

    Raises:
        UserError: When the published table cannot be used.
    """
    return curve_report(view, entry, _AXIS)


def _x(view: RunView, model: int, outcome: Outcome) -> float | None:
    steps = None if outcome.info is None else outcome.info.spec.attack_params.get("n_iter")
    is_number = isinstance(steps, int | float) and not isinstance(steps, bool)
    return float(steps) if is_number and steps else None


def _unit(view: RunView, xs: Sequence[float]) -> Unit:
    return Unit("steps of the attack (n_iter)", "{:g}".format)


_AXIS = Axis(
    name="n_iter",
    x=_x,
    unit=_unit,
    model_line=lambda view, i: view.models[i].line(),
    attack_line=lambda view, j: attack_line(view, j, {"params.n_iter"}),
    absent="the attack has no parameter n_iter",
    log=True,
)
