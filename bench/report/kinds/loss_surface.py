"""The loss around images, a surface for each model."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from bench.core.analysis import AnalysisSpec
from bench.metrics import Estimate, mean_from_moments
from bench.report.figure import Figure, Surface
from bench.report.kinds.analysis_report import AnalysisReport, shares_statistics, short
from bench.report.run_view import AnalysisOutcome, RunView, records
from bench.report.table import Cell, Raw, Report, TableRow
from bench.suite.entry import ReportEntry

Point = dict[str, Any]
ALONG = ("along_gradient", "along_random")

WHAT = (
    "Loss (cross-entropy of the true class, in nats) around images, on a grid spanned by the "
    "sign of each image's own input gradient (l2: the gradient itself) and a random direction "
    "orthogonal to it, in units of eps. A smooth surface is nearly flat along the random "
    "direction and rises slowly along the gradient."
)
READING = (
    (
        "eps up, down, at random",
        "at the grid point nearest to a distance of 1 eps along one direction and 0 along the "
        "other",
    ),
    (
        "distance",
        "a point at (u, v) is at most (|u| + |v|) eps away from the image in linf; pixels that "
        "would leave [0, 1] stay at its ends",
    ),
    (
        "intervals",
        "Student's over the images; the deviation of each point's loss is in the stored values",
    ),
    ("colours", "are on one scale in all panels of a figure"),
)


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a surface for each model, and a table of the loss at selected points.

    Raises:
        UserError: When the suite has no such analysis, or a stored one is damaged.
    """
    page = AnalysisReport(view, "loss_surface")
    rows: list[TableRow] = []
    grid: list[TableRow] = []
    figures = []
    for outcome, spec in page.done:
        ends = (float(outcome.values["loss"].min()), float(outcome.values["loss"].max()))
        panels = []
        for i, label in enumerate(outcome.models):
            values = outcome.values[outcome.values["model"] == i]
            shared = shares_statistics(spec.subjects[i])
            panels.append(_panel(label, values, spec, ends))
            rows.append(TableRow(page.labels(outcome, label), _points(page, values, shared)))
            grid.append(TableRow(page.labels(outcome, label), _grid_cells(values)))
        figures.append(Figure(page.figure_name(outcome), _caption(outcome, spec), tuple(panels)))
    columns = ("at the image", "eps up the gradient", "eps down the gradient", "eps at random")
    caption = "Cross-entropy of the true class, mean over images, 95 % intervals in brackets"
    tables = [page.table(caption, ("model",), (*columns, "largest on the grid"), rows)]
    if grid:
        tables.append(page.full_table("The whole grid", ("model",), "point", grid))
    return page.report("loss surface", WHAT, figures, tables, READING)


def _panel(
    label: str, values: pd.DataFrame, spec: AnalysisSpec, ends: tuple[float, float]
) -> Surface:
    z = values.pivot(index="along_random", columns="along_gradient", values="loss")
    z = z.sort_index().sort_index(axis=1)
    return Surface(
        title=label,
        x_label=f"along the {spec.threat_model.facts.steepest} in eps",
        y_label="along a random direction in eps",
        z_label="cross-entropy in nats",
        x=tuple(map(float, z.columns)),
        y=tuple(map(float, z.index)),
        z=tuple(tuple(map(float, row)) for row in z.to_numpy()),
        z_range=ends,
    )


def _points(page: AnalysisReport, values: pd.DataFrame, shared: bool) -> tuple[Cell, ...]:
    points = records(values)
    places = [(0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0)]
    chosen = [min(points, key=partial(_distance, place)) for place in places]
    chosen.append(max(points, key=lambda point: float(point["loss"])))
    return tuple(
        page.number(_estimate(point), shared=shared, extra=_place(point)) for point in chosen
    )


def _distance(place: tuple[float, float], point: Point) -> float:
    return sum(abs(float(point[name]) - at) for name, at in zip(ALONG, place, strict=True))


def _place(point: Point) -> dict[str, Raw]:
    return {name: float(point[name]) for name in ALONG}


def _estimate(point: Point) -> Estimate:
    return mean_from_moments(float(point["loss"]), float(point["sd"]), int(point["n"]))


def _grid_cells(values: pd.DataFrame) -> tuple[Cell, ...]:
    cells = []
    for point in records(values.sort_values(list(ALONG))):
        at = _estimate(point)
        cell = Cell((short(at.value),), (), at.value, at.low, at.high, at.n, extra=_place(point))
        cells.append(cell)
    return tuple(cells)


def _caption(outcome: AnalysisOutcome, spec: AnalysisSpec) -> str:
    n = int(outcome.values["n"].max())
    reach = float(outcome.values[ALONG[0]].abs().max())
    return (
        f"Loss around n = {n} clean images of {spec.data.name}, mean over the images, up to "
        f"{reach:g} eps along either direction, eps = {spec.threat_model.describe()}. The image "
        "itself is in the middle. One colour scale for all models."
    )
