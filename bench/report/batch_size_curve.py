"""Accuracy against the size of a batch, in the layout of the RobustNorm paper's Figure 4."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.curve import curve_report
from bench.report.curve_points import Axis, Unit
from bench.report.lines import stats_text
from bench.report.run_view import Outcome, RunView
from bench.report.table import Report
from bench.suite import ReportEntry


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a line over the batch size for each model and attack, the clean accuracy too.

    Raises:
        UserError: When the published table cannot be used.
    """
    return curve_report(view, entry, _AXIS)


def _x(view: RunView, model: int, outcome: Outcome) -> float | None:
    return None if outcome.info is None else float(outcome.info.spec.batch_size)


def _unit(view: RunView, xs: Sequence[float]) -> Unit:
    return Unit("images in a batch", "{:g}".format)


def _model_line(view: RunView, model: int) -> str:
    """Returns a line's name: of an ``each`` or a series, or the checkpoint and its statistics."""
    entry = view.models[model]
    if entry.series or entry.varied:
        return entry.line({"batch_size"})
    said = (stats_text(view, model), entry.adversary * (entry.adversary == "single"))
    return ", ".join(filter(None, (entry.checkpoint, *said)))


_AXIS = Axis(
    name="batch size",
    x=_x,
    unit=_unit,
    model_line=_model_line,
    attack_line=lambda view, j: view.attacks[j].line(),
    absent="",
    log=True,
    natural="line",
)
