"""Accuracy of one RNA path on images crafted on another, against how far the paths differ."""

from __future__ import annotations

import pandas as pd

from bench.core.analysis import AnalysisSpec
from bench.metrics import Estimate, percent, wilson
from bench.report.figure import Curves, Figure, Series
from bench.report.kinds.analysis_report import AnalysisReport, shares_statistics
from bench.report.run_view import AnalysisOutcome, RunView
from bench.report.table import Cell, Report, TableRow
from bench.suite.entry import ReportEntry

WHAT = (
    "Robust accuracy in percent of one path of the model on images that were crafted on "
    "another, by the number of normalization layers in which the two paths hold different "
    "norms. At 0 the attack sees the path that is scored (white-box on that path)."
)
READING = (
    (
        "pairs",
        "each pair is drawn uniformly among the pairs that differ in so many layers; pairs of "
        "one number share the attacked path, so that the curve is compared on the same images",
    ),
    (
        "intervals",
        "Wilson's for the images, of the mean over pairs; lowest and highest are the extremes "
        "of the pairs as found and have none",
    ),
    (
        "score",
        "both paths are held, the image is scored as it was crafted, also where the clean "
        "image would be wrong",
    ),
)


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a curve for each model with a band over the pairs, and a table of the same numbers.

    Raises:
        UserError: When the suite has no such analysis, or a stored one is damaged.
    """
    page = AnalysisReport(view, "path_difference")
    rows: list[TableRow] = []
    figures = []
    for outcome, spec in page.done:
        series = []
        for i, label in enumerate(outcome.models):
            by_difference = outcome.values[outcome.values["model"] == i].groupby("difference")
            groups = [(int(str(d)), group) for d, group in by_difference]
            series.append(_series(label, groups))
            shared = shares_statistics(spec.subjects[i])
            rows += [
                TableRow(
                    page.labels(outcome, label, str(d)),
                    _cells(page, group, shared),
                    starts_group=position == 0,
                )
                for position, (d, group) in enumerate(groups)
            ]
        figures.append(
            Figure(page.figure_name(outcome), _caption(outcome, spec), (_panel(series),))
        )
    caption = "Accuracy in percent, 95 % intervals in brackets"
    columns = ("mean over pairs", "lowest pair", "highest pair", "pairs")
    tables = [page.table(caption, ("model", "layers that differ"), columns, rows)]
    return page.report("path difference", WHAT, figures, tables, READING)


def _series(label: str, groups: list[tuple[int, pd.DataFrame]]) -> Series:
    scores = [(d, 100 * group["accuracy"]) for d, group in groups]
    return Series(
        label=label,
        x=tuple(float(d) for d, _ in scores),
        y=tuple(float(score.mean()) for _, score in scores),
        low=tuple(float(score.min()) for _, score in scores),
        high=tuple(float(score.max()) for _, score in scores),
    )


def _panel(series: list[Series]) -> Curves:
    return Curves(
        title="",
        x_label="normalization layers in which the two paths differ",
        y_label="robust accuracy in percent",
        series=tuple(series),
        ticks=tuple(sorted({x for one in series for x in one.x if x % 5 == 0})),
        band="from the lowest to the highest pair of paths",
    )


def _cells(page: AnalysisReport, group: pd.DataFrame, shared: bool) -> tuple[Cell, ...]:
    scores, n, pairs = group["accuracy"], int(group["n"].iloc[0]), len(group)
    value = float(scores.mean())
    mean = Estimate(value, *wilson(value * n, n), n, "wilson, n images")
    marks: tuple[str, ...] = ()
    if shared:
        mean = Estimate(value, None, None, n, "")
        marks = (page.footnotes.mark("no interval: images of a batch share statistics"),)
    ends = [
        Cell((percent(end),), value=end, n=n, extra={"pairs": pairs})
        for end in (float(scores.min()), float(scores.max()))
    ]
    of_mean = Cell.of(mean, mean.shown(), marks, extra={"pairs": pairs})
    return (of_mean, *ends, Cell((str(pairs),), value=float(pairs), n=n))


def _caption(outcome: AnalysisOutcome, spec: AnalysisSpec) -> str:
    n, pairs = int(outcome.values["n"].iloc[0]), outcome.values["pair"].nunique()
    return (
        f"Robust accuracy of one path on images crafted on another with {outcome.entry.attack} "
        f"({spec.threat_model.describe()}), against the number of normalization layers in which "
        f"the paths differ. Mean over {pairs} pairs of paths, n = {n} images of "
        f"{spec.data.name} each; the band goes from the lowest to the highest pair."
    )
