"""Accuracy of one path of RNA on images crafted on another, against how much the paths differ."""

from __future__ import annotations

import pandas as pd

from bench.core.analysis import AnalysisSpec
from bench.metrics import wilson
from bench.report.figure import Curves, Figure, Series
from bench.report.kinds.analysis_page import LookPage, shares_statistics
from bench.report.run_view import Look, RunView
from bench.report.table import Cell, Raw, Report, TableRow
from bench.suite import ReportEntry

METHOD = "wilson, n images"


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a curve for each model with a band over the pairs, and a table of the same.

    Raises:
        UserError: When the suite has no such analysis, or a stored one is damaged.
    """
    page = LookPage(view, "path_difference")
    rows: list[TableRow] = []
    figures = []
    for look, spec in page.done:
        series = []
        for i, label in enumerate(look.models):
            by_difference = look.values[look.values["model"] == i].groupby("difference")
            groups = [(int(str(d)), group) for d, group in by_difference]
            series.append(_series(label, groups))
            shared = shares_statistics(spec.subjects[i])
            rows += [
                TableRow(
                    page.labels(look, label, str(d)),
                    _cells(page, group, shared),
                    starts_group=position == 0,
                )
                for position, (d, group) in enumerate(groups)
            ]
        figures.append(Figure(page.figure_name(look), _caption(look, spec), (_panel(series),)))
    caption = "Accuracy in percent, 95 % intervals in brackets"
    columns = ("mean over pairs", "lowest pair", "highest pair", "pairs")
    tables = [page.table(caption, ("model", "layers that differ"), columns, rows)]
    what = (
        "Robust accuracy in percent of one path of the model on images that were crafted on "
        "another, by the number of normalization layers in which the two paths hold different "
        "norms. At 0 the attack sees the path that is scored (white-box on that path)."
    )
    reading = (
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
    return page.report("path difference", what, figures, tables, reading)


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


def _cells(page: LookPage, group: pd.DataFrame, shared: bool) -> tuple[Cell, ...]:
    scores, n, pairs = group["accuracy"], int(group["n"].iloc[0]), len(group)
    value = float(scores.mean())
    low, high = wilson(value * n, n)
    lowest, highest = float(scores.min()), float(scores.max())
    marks: tuple[str, ...] = ()
    if shared:
        low_high: tuple[float | None, float | None] = (None, None)
        marks = (page.footnotes.mark("no interval: images of a batch share statistics"),)
        lines: tuple[str, ...] = (f"{100 * value:.1f}",)
    else:
        low_high = (low, high)
        lines = (f"{100 * value:.1f}", f"[{100 * low:.1f}, {100 * high:.1f}]")
    extra: dict[str, Raw] = {"method": "" if shared else METHOD, "pairs": pairs}
    mean = Cell(lines, marks, value=value, low=low_high[0], high=low_high[1], n=n, extra=extra)
    ends = [
        Cell((f"{100 * end:.1f}",), value=end, n=n, extra={"pairs": pairs})
        for end in (lowest, highest)
    ]
    return (mean, *ends, Cell((str(pairs),), value=float(pairs), n=n))


def _caption(look: Look, spec: AnalysisSpec) -> str:
    n, pairs = int(look.values["n"].iloc[0]), look.values["pair"].nunique()
    return (
        f"Robust accuracy of one path on images crafted on another with {look.entry.attack} "
        f"({spec.threat_model.describe()}), against the number of normalization layers in which "
        f"the paths differ. Mean over {pairs} pairs of paths, n = {n} images of "
        f"{spec.data.name} each; the band goes from the lowest to the highest pair."
    )
