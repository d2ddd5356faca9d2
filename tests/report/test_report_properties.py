"""What holds for every kind of report and every format, whatever its words."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from report_analyses import ANALYSES
from report_every_kind import COMPARISON, KINDS, report_of, stored
from report_kind_runs import RUNS

from bench.metrics import robust_accuracy
from bench.report import Report, to_csv, to_latex, to_markdown, to_text
from bench.report.figure import Curves, Heatmap, Histograms, Panel, Surface
from bench.report.run_view import RunView
from bench.report.table import Cell
from bench.suite.report_kinds import REPORT_KINDS
from bench.untrusted import escape

RENDERERS: dict[str, Callable[[Report], str]] = {
    "md": to_markdown,
    "tex": to_latex,
    "csv": to_csv,
    "txt": to_text,
}
OF_RATES = [kind for kind in (*RUNS, COMPARISON) if kind not in ("gain_table", "training_curve")]
"""Kinds whose numbers are accuracies and differences of them."""
SHOWN: dict[str, Callable[[RunView, int, int], bool]] = {
    "batch_size_curve": lambda view, i, j: True,
    "eps_curve": lambda view, i, j: True,
    "iteration_curve": lambda view, i, j: "n_iter" in view.attacks[j].params,
    "leaderboard": lambda view, i, j: True,
    "power_curve": lambda view, i, j: "-rn-" in view.models[i].checkpoint,
    "stats_table": lambda view, i, j: True,
    "transfer_heatmap": lambda view, i, j: view.attack_kind(j) != "none",
}
"""Whether a report shows the cell of a model and an attack."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def report(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report_of(kind, tmp_path_factory.mktemp(kind))


def lines_of(report: Report) -> list[dict[str, str]]:
    """The lines of the CSV file."""
    return list(csv.DictReader(io.StringIO(to_csv(report))))


def shown_cells(report: Report) -> Iterator[Cell]:
    for table in report.shown_tables:
        for row in table.rows:
            yield from row.cells


def test_every_kind_is_tried() -> None:
    assert {*KINDS} == {*REPORT_KINDS, COMPARISON}
    assert {name for name, kind in REPORT_KINDS.items() if kind.analysis} == {*ANALYSES}


@pytest.mark.process
@pytest.mark.parametrize("of", SHOWN)
def test_every_number_of_the_rows_appears_with_its_n_and_interval(of: str, tmp_path: Path) -> None:
    view = RunView(stored(of, tmp_path))
    written = {
        tuple(line[name] for name in ("value", "low", "high", "n"))
        for line in lines_of(report_of(of, tmp_path / "again"))
    }
    compared = 0
    for i in range(len(view.models)):
        for j in range(len(view.attacks)):
            outcome = view.outcome(i, j)
            if outcome.status != "ok" or outcome.info is None or not SHOWN[of](view, i, j):
                continue
            found = robust_accuracy(outcome.rows, outcome.info.cluster)
            ends = (None, None) if found.interval is None else found.interval
            numbers = ("" if one is None else f"{one:.6g}" for one in (found.value, *ends))
            assert (*numbers, str(found.n)) in written
            compared += 1
    assert compared > 3


def test_csv_lines_are_the_cells_and_make_sense(report: Report) -> None:
    tables = [table for table in report.tables if table.in_csv]
    columns = [sum(column.in_csv for column in table.columns) for table in tables]
    lines = lines_of(report)
    assert len(lines) == sum(n * len(t.rows) for n, t in zip(columns, tables, strict=True))
    for line in lines:
        if line["low"]:
            assert float(line["low"]) <= float(line["value"]) <= float(line["high"])
            assert int(line["n"]) > 1
        assert not line["value"] or line["status"] in ("ok", "partial")


def test_intervals_are_shown_as_they_are(report: Report) -> None:
    for cell in shown_cells(report):
        shown = [line for line in cell.lines if line.startswith("[")]
        assert len(shown) == (cell.low is not None) or cell.value is None
        for line in shown if cell.value is not None else ():
            for text, end in zip(line.strip("[]").split(", "), (cell.low, cell.high), strict=True):
                assert end is not None
                number, near = float(text), 0.5 if "e" in text else 0.01
                assert any(
                    abs(number - scale * end) <= max(0.051, near * abs(number))
                    for scale in (1, 100)
                )


@pytest.mark.parametrize("of", OF_RATES)
def test_n_is_said_of_every_number(of: str, tmp_path: Path) -> None:
    report = report_of(of, tmp_path)
    above = " ".join(report.head)
    for cell in shown_cells(report):
        if cell.value is not None and cell.n is not None:
            said = (f"n={cell.n}" in cell.lines, f"n = {cell.n} images" in above)
            assert any(said) or f"{cell.n:,} test images" in above


def test_every_number_and_note_is_in_every_text(report: Report) -> None:
    texts = {ending: " ".join(render(report).split()) for ending, render in RENDERERS.items()}
    for cell in shown_cells(report):
        assert escape.markdown(" ".join(cell.lines)) in texts["md"]
        for line in cell.lines:
            assert escape.one_line(line) in texts["txt"]
            latex = re.sub(r"(?<!\w)-(?=\d)", "$-$", escape.latex(line))
            assert latex in texts["tex"]
    for _, text in report.footnotes:
        assert escape.markdown(text) in texts["md"] and escape.latex(text) in texts["tex"]
    for section in report.sections:
        for name, text in section.items:
            assert escape.markdown(text) in texts["md"] and escape.latex(name) in texts["tex"]


def test_alarms_and_broken_cells_are_explained(report: Report) -> None:
    notes = dict(report.footnotes)
    for cell in shown_cells(report):
        explained = " ".join(notes[mark] for mark in cell.marks)
        if cell.alarms and cell.value is not None:
            assert "!" in cell.marks and all(alarm in explained for alarm in cell.alarms)
        if cell.lines == ("incomplete",):
            assert cell.reason in explained


def test_numbers_of_figures_are_in_the_csv(report: Report) -> None:
    written = [
        float(line[name])
        for line in lines_of(report)
        for name in ("value", "low", "high")
        if line[name]
    ]
    panels = [panel for figure in report.figures for panel in figure.panels]
    drawn = {f"{value:.6g}" for panel in panels for value in drawn_in(panel)}
    assert drawn <= {f"{value:.6g}" for value in written}


def drawn_in(panel: Panel) -> Iterator[float]:
    """The numbers of a panel, as shares where it shows percent."""
    if isinstance(panel, Curves):
        scale = 100 if re.search(r"percent|\(%\)", panel.y_label) else 1
        for line in panel.series:
            ends = (*line.y, *line.low, *line.high)
            yield from (value / scale for value in ends if value is not None)
    elif isinstance(panel, Heatmap):
        yield from (value / 100 for row in panel.values for value in row if value is not None)
    elif isinstance(panel, Histograms):
        yield from (share / 100 for _, shares in panel.series for share in shares)
    elif isinstance(panel, Surface):
        yield from (value for row in panel.z for value in row)


def test_latex_closes_what_it_opens_and_fills_its_columns(report: Report) -> None:
    text = to_latex(report, "report")
    opened: list[str] = []
    for what, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", text):
        if what == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}")
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.S)
    for table, body in zip(report.shown_tables, bodies, strict=True):
        parts = len(table.label_names) + len(table.columns)
        found = [len(re.findall(r"(?<!\\)&", row)) for row in body.split(r"\\[2pt]")[:-1]]
        assert found == [parts - 1] * len(table.rows) or not table.columns


def test_the_same_run_gives_the_same_texts(kind: str, report: Report, tmp_path: Path) -> None:
    again = report_of(kind, tmp_path)
    for render in RENDERERS.values():
        assert render(again) == render(report)
