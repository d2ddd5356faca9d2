"""Accuracy against RobustNorm's power p, in the layout of the RobustNorm paper's Figure 6."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.curve import curve_report
from bench.report.curve_points import Axis, Unit
from bench.report.lines import stats_text
from bench.report.run_view import Outcome, RunView
from bench.report.table import Report
from bench.suite import ReportEntry


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a line over the power for each kind of statistics and each attack.

    Raises:
        UserError: When the published table cannot be used.
    """
    return curve_report(view, entry, _AXIS)


def _x(view: RunView, model: int, outcome: Outcome) -> float | None:
    facts = view.facts(model)
    if outcome.info is None or facts is None or facts.norm_spec.get("name") != "rn":
        return None
    return float(facts.norm_spec["power"])


def _unit(view: RunView, xs: Sequence[float]) -> Unit:
    return Unit("power p of RobustNorm", "{:g}".format)


def _model_line(view: RunView, model: int) -> str:
    """Returns a line's name: of an ``each`` or a series without its checkpoint, or the statistics.

    Each point is a checkpoint of its own, trained with its own power.
    """
    entry = view.models[model]
    named = entry.line({"checkpoint"}) if entry.series or entry.varied else ""
    return named or stats_text(view, model) or "rn"


_AXIS = Axis(
    name="power",
    x=_x,
    unit=_unit,
    model_line=_model_line,
    attack_line=lambda view, j: view.attacks[j].line(),
    absent="not RobustNorm, or the run did not note what its checkpoints are (run it again)",
    natural="line",
)
