"""Distance of batch statistics from the tracked ones by layer, for clean and attacked images."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.core.analysis import AnalysisSpec
from bench.metrics import real_mean
from bench.report.figure import Curves, Figure, Series
from bench.report.kinds.analysis_report import AnalysisReport, short
from bench.report.run_view import AnalysisOutcome, RunView, records
from bench.report.table import Cell, Raw, Report, TableRow
from bench.suite.entry import ReportEntry

IMAGES = ("clean", "attacked")
SPREADS = {"var": "variance", "range": "range"}
QUANTILES = (("low", 0.1), ("median", 0.5), ("high", 0.9))
CHANGES = {"var": "relative change of the variance", "range": "relative change of the range"}


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds curves over the layers for each model, and a table of the shift over all layers.

    Raises:
        UserError: When the suite has no such analysis, or a stored one is damaged.
    """
    page = AnalysisReport(view, "statistics_shift")
    rows: list[TableRow] = []
    layers: list[TableRow] = []
    figures = []
    for outcome, spec in page.done:
        for i, label in enumerate(outcome.models):
            values = outcome.values[outcome.values["model"] == i]
            values = values.assign(size=values["relative"].abs())
            rows.append(TableRow(page.labels(outcome, label), tuple(_sizes(page, values))))
            cells: list[Cell] = []
            panels = []
            unit = "ranges" if values["statistic"].eq("range").any() else "standard deviations"
            for statistic, part in _by_statistic(values):
                quantiles = _quantiles(part)
                y_label = CHANGES.get(statistic, f"mean shift in {unit}")
                panels.append(_panel(statistic, y_label, quantiles))
                cells += _layer_cells(statistic, part, quantiles)
            layers.append(TableRow(page.labels(outcome, label), tuple(cells)))
            name = " ".join(filter(None, (page.figure_name(outcome), label)))
            figures.append(Figure(name, _caption(outcome, spec, i), tuple(panels)))
    columns = [f"{statistic}, {what}" for statistic in ("mean", "spread") for what in _COMPARED]
    caption = (
        "Median absolute shift over all channels of all layers, without unit, mean over batches, "
        "95 % intervals in brackets"
    )
    tables = [page.table(caption, ("model",), columns, rows)]
    if layers:
        tables.append(page.full_table("Every layer", ("model",), "quantile", layers))
    what = (
        "Difference between the statistics of a batch at the input of each normalization layer and "
        "the population statistics that the layer tracked while training, on clean images and on "
        "the same images attacked. Without unit: a difference of means is divided by the "
        "population standard deviation, one of variances by the population variance; RobustNorm "
        "tracks ranges, and both its differences are divided by the population range."
    )
    return page.report("statistics shift", what, figures, tables, _READING)


_COMPARED = ("clean", "attacked", "attacked - clean")
_READING = (
    (
        "shift of clean images",
        "is what a finite batch of other images than the training's shows anyway: the smaller the "
        "batch, the larger",
    ),
    ("spread", "the variance, or the range in RobustNorm's layers"),
    (
        "intervals",
        "Student's between batches; the difference is paired, batch by batch",
    ),
    (
        "statistics in force",
        "attacked and clean images pass through the model under the statistics that it is listed "
        "with, so that a layer's input is what the layers before it make of it",
    ),
)


def _by_statistic(values: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for statistic in ("mean", *SPREADS):
        part = values[values["statistic"] == statistic]
        if len(part):
            yield statistic, part


def _sizes(page: AnalysisReport, values: pd.DataFrame) -> Iterator[Cell]:
    """Yields the median shift of means and of spreads: clean, attacked, and the difference."""
    for spread in (False, True):
        part = values[values["statistic"].ne("mean") == spread]
        medians = part.groupby(["batch", "images"])["size"].median().unstack()
        n = int(part.groupby("batch")["n"].first().sum())
        for images in IMAGES:
            yield page.number(real_mean(medians[images].tolist()), n=n)
        difference = (medians["attacked"] - medians["clean"]).tolist()
        yield page.number(real_mean(difference), n=n)


def _quantiles(part: pd.DataFrame) -> pd.DataFrame:
    """Returns quantiles of the absolute shift, a row for each kind of images and layer."""
    grouped = part.groupby(["images", "layer"])["size"]
    return pd.DataFrame({name: grouped.quantile(q) for name, q in QUANTILES})


def _panel(statistic: str, y_label: str, quantiles: pd.DataFrame) -> Curves:
    series: list[Series] = []
    for images in IMAGES:
        part = quantiles.loc[images].sort_index()
        series.append(
            Series(
                label=images,
                x=tuple(float(layer) + 1 for layer in part.index),
                y=tuple(map(float, part["median"])),
                low=tuple(map(float, part["low"])),
                high=tuple(map(float, part["high"])),
            )
        )
    return Curves(
        title=SPREADS.get(statistic, statistic),
        x_label="normalization layer, from the input on",
        y_label=y_label,
        series=tuple(series),
        ticks=(1.0, *map(float, range(5, len(series[0].x) + 1, 5))),
        band="from the 10th to the 90th percentile of channels and batches",
    )


def _layer_cells(statistic: str, part: pd.DataFrame, quantiles: pd.DataFrame) -> list[Cell]:
    names = {
        row["layer"]: row["name"] for row in records(part[["layer", "name"]].drop_duplicates())
    }
    n = int(part.groupby("batch")["n"].first().sum())
    cells = []
    for images in IMAGES:
        for row in records(quantiles.loc[images].sort_index().reset_index()):
            for name, q in QUANTILES:
                about: dict[str, Raw] = {
                    "statistic": statistic,
                    "images": images,
                    "layer": int(row["layer"]) + 1,
                    "layer_name": str(names[row["layer"]]),
                    "quantile": q,
                }
                value = float(row[name])
                cells.append(Cell((short(value),), value=value, n=n, extra=about))
    return cells


def _caption(outcome: AnalysisOutcome, spec: AnalysisSpec, model: int) -> str:
    sizes = outcome.values[outcome.values["model"] == model].groupby("batch")["n"].first()
    many = f"{len(sizes)} batches of {sizes.max()}" if len(sizes) > 1 else "one batch"
    return (
        f"{outcome.models[model]}: absolute difference of batch and population statistics at the "
        f"input of each normalization layer, for clean images and for the same attacked with "
        f"{outcome.entry.attack} ({spec.threat_model.describe()}): median over channels and "
        f"batches, band from the 10th to the 90th percentile. n = {sizes.sum()} images of "
        f"{spec.data.name} in {many}."
    )
