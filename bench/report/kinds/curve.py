"""Curves: accuracy against a quantity that varies over the cells of a run.

Each kind is an ``Axis``: the quantity, its value for a cell, and how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from bench.core.checkpoint import CheckpointFacts
from bench.core.result import CellInfo
from bench.core.threat import ThreatModel
from bench.report.cells import CellMaker
from bench.report.figure import Curves, Figure, Series
from bench.report.kinds.curve_points import (
    Axis,
    CurvePanel,
    Point,
    Unit,
    attack_line,
    find_panels,
    find_points,
    stats_text,
)
from bench.report.papers.match import Paper
from bench.report.run_view import RunView
from bench.report.table import Cell, Column, Footnotes, Report, Section, Table, TableRow
from bench.report.text import attack_section, data_text, head, model_section, title
from bench.suite.entry import ReportEntry

MAX_TICKS = 12
_LABELS = ("panel", "line")


def build(view: RunView, entry: ReportEntry, axis: Axis) -> Report:
    """Builds a figure of lines with bands, and for each panel a table of the same numbers.

    Raises:
        UserError: When the published table cannot be used.
    """
    footnotes = Footnotes()
    maker = CellMaker(footnotes, view.common_n())
    points, left = find_points(view, axis)
    panels = find_panels(view, entry, axis, points)
    unit = axis.unit(view.suite.threat_model, [p.x for p in points])
    paper = Paper.of(entry)
    tables = tuple(_table(view, panel, axis, unit, maker, paper) for panel in panels)
    figures = (_figure(view, axis, unit, panels, tables),) if panels else ()
    why = "; ".join(left)
    empty = f"Nothing to show: no cell of this run has a place on the axis of {axis.name} ({why})."
    return Report(
        title=title(view),
        head=(*head(view), *((empty,) if not panels else ())),
        tables=tables or (Table(f"Robust accuracy against {axis.name}", _LABELS, (), ()),),
        footnotes=footnotes.listed(),
        sections=(model_section(view), attack_section(view), _reading(view, axis, left, paper)),
        figures=figures,
        quantity=axis.name,
    )


def _table(
    view: RunView, panel: CurvePanel, axis: Axis, unit: Unit, maker: CellMaker, paper: Paper
) -> Table:
    xs = panel.xs
    rows = []
    for name, points in panel.lines:
        at = {point.x: _cell(view, point, maker, paper) for point in points}
        empty = Cell(("",), status="left_out", reason="the line has no point here")
        rows.append(TableRow((panel.title, name), tuple(at.get(x, empty) for x in xs)))
    columns = tuple(Column(unit.text(x)) for x in xs)
    caption = f"{panel.title}: {_quantity(view, panel)} in percent against {axis.name}"
    return Table(caption, _LABELS, columns, tuple(rows))


def _quantity(view: RunView, panel: CurvePanel) -> str:
    kinds = {view.attack_kind(point.attack) for _, points in panel.lines for point in points}
    return "clean accuracy" if kinds == {"none"} else "robust accuracy"


def _cell(view: RunView, point: Point, maker: CellMaker, paper: Paper) -> Cell:
    row, column = view.models[point.model].published, view.attacks[point.attack].published
    cell = maker.accuracy(point.outcome, paper.value(row, column))
    return replace(cell, extra={**cell.extra, "x": point.x})


def _figure(
    view: RunView, axis: Axis, unit: Unit, panels: Sequence[CurvePanel], tables: Sequence[Table]
) -> Figure:
    drawn = []
    for panel, table in zip(panels, tables, strict=True):
        series = [_series(row, panel.xs, unit.scale) for row in table.rows]
        curves = Curves(
            title=panel.title,
            x_label=unit.label,
            y_label=f"{_quantity(view, panel)} (%)",
            series=tuple(series),
            log_x=axis.log,
            ticks=tuple(x * unit.scale for x in panel.xs) if len(panel.xs) <= MAX_TICKS else (),
            y_range=(0.0, 100.0),
            band="95 % intervals" if any(one.low for one in series) else "",
        )
        drawn.append(curves)
    cells = [cell for table in tables for row in table.rows for cell in row.cells]
    natural = any(p.natural for panel in panels for _, points in panel.lines for p in points)
    return Figure("", _caption(view, axis, cells, natural), tuple(drawn))


def _series(row: TableRow, xs: Sequence[float], scale: float) -> Series:
    cells = [(x * scale, cell) for x, cell in zip(xs, row.cells, strict=True)]
    on = [(x, cell) for x, cell in cells if cell.status != "left_out"]
    banded = any(cell.low is not None for _, cell in on)
    return Series(
        label=row.labels[-1],
        x=tuple(x for x, _ in on),
        y=tuple(_percent(cell.value) for _, cell in on),
        low=tuple(_percent(cell.low) for _, cell in on) if banded else (),
        high=tuple(_percent(cell.high) for _, cell in on) if banded else (),
    )


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _caption(view: RunView, axis: Axis, cells: Sequence[Cell], natural: bool) -> str:
    counts = [cell.n for cell in cells if cell.n is not None] or [0]
    n = " to ".join(str(count) for count in dict.fromkeys((min(counts), max(counts))))
    said = [
        f"Robust accuracy against {axis.name}, n = {n} images for each point "
        f"({data_text(view.suite.data)})."
    ]
    said.append("Bands: 95 % intervals." if any(cell.low is not None for cell in cells) else "")
    said.append("At 0: clean accuracy." if natural else "")
    said.append("Points under an alarm are among them." if any(c.alarms for c in cells) else "")
    return " ".join(filter(None, said))


def _reading(view: RunView, axis: Axis, left: dict[str, list[str]], paper: Paper) -> Section:
    items = [
        (
            "bands",
            "95 % intervals of single points: Wilson's for independent images; where the images of "
            "a batch share statistics or a path, with the effective number of images, from the "
            "variance between batches. Points of a line are of the same images, so a line varies "
            "less from point to point than its band is wide",
        )
    ]
    reasons = []
    for reason, places in left.items():
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        reasons.append(f"{', '.join(places[:5])}{more}: {reason}")
    if reasons:
        items.append((f"not on the axis of {axis.name}", "; ".join(reasons)))
    if note := paper.note(view):
        items.append(("paper", note))
    return Section("How to read this", tuple(items))


def _eps_unit(threat: ThreatModel, xs: Sequence[float]) -> Unit:
    """Returns levels of 8-bit images if every eps is a whole number of them."""
    whole = all(abs(255 * x - round(255 * x)) < 1e-9 for x in xs)
    if threat.eps_space == "normalized":
        return Unit(f"eps ({threat.norm}, in units of the normalized input)")
    if threat.facts.per_pixel and whole and xs:
        return Unit(
            f"eps ({threat.norm}, in 1/255)", lambda x: f"{round(255 * x)}/255" if x else "0", 255
        )
    return Unit(f"eps ({threat.norm}, pixels in [0, 1])")


def _steps(info: CellInfo, _: CheckpointFacts | None) -> float | None:
    steps = info.spec.attack_params.get("n_iter")
    is_number = isinstance(steps, int | float) and not isinstance(steps, bool)
    return float(steps) if is_number and steps else None


def _power(_: CellInfo, facts: CheckpointFacts | None) -> float | None:
    if facts is None or facts.norm_spec.get("name") != "rn":
        return None
    return float(facts.norm_spec["power"])


def _checkpoint_line(view: RunView, model: int) -> str:
    """Names the line over batch sizes: an ``each`` or a series, or checkpoint and statistics."""
    entry = view.models[model]
    if entry.series or entry.varied:
        return entry.line({"batch_size"})
    said = (stats_text(view, model), entry.adversary * (entry.adversary == "single"))
    return ", ".join(filter(None, (entry.checkpoint, *said)))


def _statistics_line(view: RunView, model: int) -> str:
    """Names the line over powers, whose points are checkpoints of their own.

    The name is that of an ``each`` or a series without the checkpoint, or the statistics.
    """
    entry = view.models[model]
    named = entry.line({"checkpoint"}) if entry.series or entry.varied else ""
    return named or stats_text(view, model) or "rn"


_EPS = Axis(
    name="eps",
    x=lambda info, _: info.spec.threat_model.eps,
    own_norm=True,
    unit=_eps_unit,
    attack_line=partial(attack_line, without={"eps"}),
    natural="at 0",
)
_ITERATIONS = Axis(
    name="n_iter",
    x=_steps,
    unit=lambda *_: Unit("steps of the attack (n_iter)"),
    attack_line=partial(attack_line, without={"params.n_iter"}),
    absent="the attack has no parameter n_iter",
    log=True,
)
_BATCH_SIZE = Axis(
    name="batch size",
    x=lambda info, _: float(info.spec.batch_size),
    unit=lambda *_: Unit("images in a batch"),
    model_line=_checkpoint_line,
    log=True,
    natural="line",
)
_POWER = Axis(
    name="power",
    x=_power,
    unit=lambda *_: Unit("power p of RobustNorm"),
    model_line=_statistics_line,
    absent="not RobustNorm, or the run did not note what its checkpoints are (run it again)",
    natural="line",
)

over_eps = partial(build, axis=_EPS)
over_iterations = partial(build, axis=_ITERATIONS)
over_batch_size = partial(build, axis=_BATCH_SIZE)
over_power = partial(build, axis=_POWER)
