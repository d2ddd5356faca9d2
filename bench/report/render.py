"""Renders a report as Markdown, LaTeX, CSV or plain text; the same report gives the same bytes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

import jinja2
from tabulate import tabulate

from bench.report.figure import Curves, Figure, Heatmap, Histograms, Panel, Surface, Tiles
from bench.report.table import Cell, Column, Raw, Report, Table
from bench.untrusted import escape

WIDE_COLUMNS = 9
"""A heatmap with more columns, or a third as many pictures, takes the full width of a page."""

COLUMN_CELLS = 5
"""A table with more columns, labels among them, takes the full width of a page."""


def figure_stems(name: str, report: Report) -> list[str]:
    """Returns the file name, without its ending, of each figure: ``REPORT`` or ``REPORT-FIGURE``.

    Args:
        name: File name of the report, without its ending.
        report: The report.
    """
    stems: list[str] = []
    for figure in report.figures:
        own = re.sub(r"[^a-z0-9_]+", "-", figure.name.lower()).strip("-")
        stem = "-".join(filter(None, (name, own))) or "figure"
        number = 2
        while stem in stems:
            stem, number = f"{stem.removesuffix(f'-{number - 1}')}-{number}", number + 1
        stems.append(stem)
    return stems


def numbered(name: str, position: int) -> str:
    """Returns the name of one of a report's tables: the first is as it is, others have a number."""
    return f"{name}-{position + 1}" if position else name


def is_wide(figure: Figure) -> bool:
    """Returns whether a figure spans both columns of a paper."""
    columns = [len(p.columns) for p in figure.panels if isinstance(p, Heatmap)]
    columns += [3 * len(p.columns) for p in figure.panels if isinstance(p, Tiles)]
    return len(figure.panels) > 1 or max(columns, default=0) > WIDE_COLUMNS


def describe(panels: Sequence[Panel]) -> str:
    """Describes panels in one sentence each."""
    return " ".join(_sentence(panel) for panel in panels)


def _sentence(panel: Panel) -> str:
    title = f"{panel.title}: " if panel.title else ""
    if isinstance(panel, Curves):
        names = ", ".join(series.label for series in panel.series)
        return f"{title}{panel.y_label} against {panel.x_label}, for {names}."
    if isinstance(panel, Heatmap):
        size = f"{len(panel.rows)} by {len(panel.columns)}"
        axes = f"{panel.y_label} down and {panel.x_label} across"
        return f"{title}heatmap of {panel.value_label}, {size}, {axes}."
    if isinstance(panel, Histograms):
        names = ", ".join(name for name, _ in panel.series)
        return f"{title}histograms of {panel.x_label}, for {names}."
    if isinstance(panel, Surface):
        return f"{title}contours of {panel.z_label} over {panel.x_label} and {panel.y_label}."
    rows = ", ".join(name for name, _ in panel.rows)
    return f"{title}pictures, {', '.join(panel.columns)} across and {rows} down."


CSV_COLUMNS = (
    "value",
    "low",
    "high",
    "n",
    "published",
    "status",
    "protocol",
    "alarms",
    "reason",
)
"""Columns of the CSV file between the labels and the extra columns of the cells."""

_MINUS = re.compile(r"(?<!\w)-(?=\d)")

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("bench.report"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # the templates escape by filters, each for its own language
)
"""The environment of Markdown templates."""
LATEX_TEMPLATES = TEMPLATES.overlay(  # braces and percent signs are LaTeX's own
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
)


def to_markdown(report: Report, name: str = "") -> str:
    """Renders GitHub-flavoured Markdown.

    Args:
        report: The report.
        name: File name of the report, which the file names of its figures begin with.
    """
    tables = [(escape.markdown(t.caption), _markdown_table(t)) for t in report.shown_tables]
    return TEMPLATES.get_template("report.md.j2").render(
        report=report,
        figures=_figures(report, name),
        tables=tables,
        e=escape.markdown,
        alt=lambda figure: escape.markdown_alt(describe(figure.panels)),
        sup=_markdown_marks,
    )


def to_latex(report: Report, name: str = "") -> str:
    """Renders a LaTeX fragment, which needs ``booktabs`` and ``graphicx``.

    Args:
        report: The report.
        name: As for ``to_markdown``.
    """
    return LATEX_TEMPLATES.get_template("report.tex.j2").render(
        report=report,
        figures=_figures(report, name),
        e=escape.latex,
        cell=_latex_cell,
        sup=latex_marks,
        labels=shown_labels,
        is_wide=is_wide,
        is_wide_table=lambda table: len((*table.label_names, *table.columns)) > COLUMN_CELLS,
        name=name,
        numbered=numbered,
    )


def _figures(report: Report, name: str) -> list[tuple[str, Figure]]:
    return list(zip(figure_stems(name, report), report.figures, strict=True))


def to_csv(report: Report) -> str:
    """Renders a CSV file with a line for each cell; measured and published values are in [0, 1]."""
    tables = [table for table in report.tables if table.in_csv]
    cells = [cell for table in tables for row in table.rows for cell in row.cells]
    extras = sorted({name for cell in cells for name in cell.extra})
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow((*tables[0].label_names, report.quantity, *CSV_COLUMNS, *extras))
    for table in tables:
        for row in table.rows:
            labels = [escape.one_line(label) for label in row.labels]
            pairs = zip(table.columns, row.cells, strict=True)
            for column, cell in (pair for pair in pairs if pair[0].in_csv):
                further = [_raw(cell.extra.get(name)) for name in extras]
                writer.writerow((*labels, *_csv_values(column, cell), *further))
    return target.getvalue()


def to_text(report: Report) -> str:
    """Renders the tables and footnotes as plain text for a terminal."""
    parts = [escape.one_line(report.title)]
    for table in report.shown_tables:
        grid = _grid(table, escape.one_line, lambda marks: "".join(f" {mark}" for mark in marks))
        text = tabulate(grid[1:], grid[0], "simple", disable_numparse=True)
        parts.append("\n".join(filter(None, (escape.one_line(table.caption), text))))
    parts.append("\n".join(f"{mark} {escape.one_line(text)}" for mark, text in report.footnotes))
    return "\n\n".join(filter(None, parts)) + "\n"


def _markdown_table(table: Table) -> str:
    grid = _grid(table, escape.markdown, _markdown_marks)
    align = ["left"] * len(table.label_names) + ["right"] * len(table.columns)
    return tabulate(grid[1:], grid[0], "pipe", disable_numparse=True, colalign=align)


def _grid(
    table: Table, plain: Callable[[str], str], marked: Callable[[tuple[str, ...]], str]
) -> list[list[str]]:
    """Returns a table as rows of text, headings first, without repeated group labels."""
    heading = [plain(name) for name in table.label_names]
    grid = [heading + [plain(c.label) + marked(c.marks) for c in table.columns]]
    for number, row in enumerate(table.rows):
        shown = shown_labels(table, number)
        cells = [plain(" ".join(cell.lines)) + marked(cell.marks) for cell in row.cells]
        grid.append([plain(label) for label in shown] + cells)
    return grid


def shown_labels(table: Table, number: int) -> list[str]:
    """Returns the labels of a row; the first is empty where it repeats that of the row above."""
    labels = list(table.rows[number].labels)
    if len(labels) > 1 and number and labels[0] == table.rows[number - 1].labels[0]:
        labels[0] = ""
    return labels


def _markdown_marks(marks: tuple[str, ...]) -> str:
    """Formats marks, with letters as superscripts: `` !<sup>a,b</sup>``."""
    signs = "".join(mark for mark in marks if not mark.isalpha())
    letters = ",".join(mark for mark in marks if mark.isalpha())
    return (f" {signs}" if signs else "") + (f"<sup>{letters}</sup>" if letters else "")


def latex_marks(marks: tuple[str, ...]) -> str:
    """Formats marks as one superscript."""
    signs = "".join(escape.latex(mark) for mark in marks if not mark.isalpha())
    letters = ",".join(mark for mark in marks if mark.isalpha())
    return rf"\textsuperscript{{{signs}{letters}}}" if marks else ""


def latex_line(line: str) -> str:
    """Formats a line of a cell, with minus signs as such."""
    return _MINUS.sub("$-$", escape.latex(line))


def _latex_cell(cell: Cell) -> str:
    """Formats a cell with all lines but the first stacked below it, to keep columns narrow."""
    first, *others = map(latex_line, cell.lines)
    first += latex_marks(cell.marks)
    if not others:
        return first
    stacked = "".join(rf"\\{{\tiny {line}}}" for line in others)
    return r"\begin{tabular}[t]{@{}c@{}}" + first + stacked + r"\end{tabular}"


def _csv_values(column: Column, cell: Cell) -> list[str]:
    raw: list[Raw] = [cell.value, cell.low, cell.high, cell.n, cell.published]
    alarms = "; ".join(escape.one_line(alarm) for alarm in cell.alarms)
    words = [cell.status, cell.protocol, alarms, escape.one_line(cell.reason)]
    return [escape.one_line(column.label), *map(_raw, raw), *words]


def _raw(value: Raw) -> str:
    """Formats a number with at most six significant digits, in which all platforms agree."""
    if value is None:
        return ""
    return re.sub(r"^-0$", "0", f"{value:.6g}") if isinstance(value, float) else str(value)
