"""Example images: clean, attacked, and the difference, with both predictions."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.core.analysis import AnalysisSpec
from bench.report.figure import Figure, Tile, Tiles
from bench.report.kinds.analysis_report import AnalysisReport
from bench.report.run_view import AnalysisOutcome, RunView, records
from bench.report.table import Cell, Report, TableRow
from bench.suite.entry import ReportEntry

Record = dict[str, Any]

WHAT = (
    "Images with what each model says of them, clean and attacked. They are examples, chosen by a "
    "rule before any was attacked, and no measure of robustness."
)
READING = (
    (
        "prediction",
        "the class of the largest probability: the softmax of the logits, for a stochastic model "
        "the mean over its draws",
    ),
    (
        "difference",
        "attacked minus clean image, magnified around grey; 8-bit pictures, the numbers are of the "
        "exact images",
    ),
)


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds pictures for each model, and a table of its predictions.

    Raises:
        UserError: When the suite has no such analysis, or a stored one is damaged.
    """
    page = AnalysisReport(view, "examples")
    rows: list[TableRow] = []
    figures = []
    for outcome, spec in page.done:
        panels = []
        for i, label in enumerate(outcome.models):
            values = outcome.values[outcome.values["model"] == i].sort_values("place")
            panels.append(_panel(label, values))
            rows += [
                TableRow(
                    page.labels(outcome, label, _image(record)),
                    _cells(record),
                    starts_group=not position,
                )
                for position, record in enumerate(records(values))
            ]
        figures.append(Figure(page.figure_name(outcome), _caption(outcome, spec), tuple(panels)))
    caption = "Predicted classes and their probabilities in percent, and the size of the difference"
    columns = ("clean", "attacked", "linf", "l2")
    tables = [page.table(caption, ("model", "image"), columns, rows)]
    choices = [
        (f"choice, {outcome.entry.label}" if len(page.outcomes) > 1 else "choice", _choice(spec))
        for outcome, spec in page.done
    ]
    return page.report("examples", WHAT, figures, tables, (*READING, *choices))


def _image(record: Record) -> str:
    return f"{record['label_name']}, image {record['index']}"


def _said(record: Record, which: str) -> str:
    name, confidence = record[f"{which}_name"], float(record[f"{which}_confidence"])
    return f"{name} {100 * confidence:.0f} %"


def _panel(label: str, values: pd.DataFrame) -> Tiles:
    rows = []
    for record in records(values):
        pictures = [record[f"{name}_png"] for name in ("clean", "adv", "difference")]
        captions = (_said(record, "clean"), _said(record, "adv"), f"linf {record['linf']:.3g}")
        tiles = tuple(Tile(png, text) for png, text in zip(pictures, captions, strict=True))
        rows.append((str(record["label_name"]), tiles))
    times = f"{float(values['magnification'].iloc[0]):.3g}"
    columns = ("clean", "attacked", f"difference \N{MULTIPLICATION SIGN} {times}")
    return Tiles(label, columns, tuple(rows))


def _cells(record: Record) -> tuple[Cell, ...]:
    seen = [
        Cell(
            (_said(record, which),),
            value=float(record[f"{which}_confidence"]),
            n=1,
            extra={"predicted": str(record[f"{which}_name"]), "label": str(record["label_name"])},
        )
        for which in ("clean", "adv")
    ]
    sizes = [
        Cell((f"{float(record[norm]):.3g}",), value=float(record[norm]), n=1)
        for norm in ("linf", "l2")
    ]
    return (*seen, *sizes)


def _choice(spec: AnalysisSpec) -> str:
    order = (
        "the first of each class, then the second of each, and so on, in the order of the slice"
        if spec.params.get("stratified")
        else "in the order of the slice"
    )
    right = "that all of the models get right when clean (a stochastic one on most draws)"
    return f"the first {spec.params['images']} images {right}, {order}"


def _caption(outcome: AnalysisOutcome, spec: AnalysisSpec) -> str:
    n = outcome.values["place"].nunique()
    models = "the model" if len(outcome.models) == 1 else "all models"
    return (
        f"Clean, attacked ({outcome.entry.attack}, {spec.threat_model.describe()}) and magnified "
        f"difference images, with the predicted class and its probability: {n} images of "
        f"{spec.data.name} that {models} got right when clean."
    )
