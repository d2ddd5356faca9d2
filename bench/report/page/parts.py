"""Tables and figures as the page's template takes them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from markupsafe import Markup

from bench.report.draw import inline_svg
from bench.report.figure import Figure, Heatmap, Panel, Tiles
from bench.report.render import describe, figure_stems
from bench.report.table import ALARM, Cell, Report, Section, Table


@dataclass(frozen=True)
class PageCell:
    """A cell as shown.

    Attributes:
        first: Its first line.
        others: The rest.
        sort: The number that it is sorted by; empty without one, ``None`` in a column of words.
        classes: Of CSS.
        marks: With the ids of their footnotes.
    """

    first: str
    others: tuple[str, ...]
    sort: str | None
    classes: str
    marks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PageRow:
    """A row: its labels, whether the first only repeats the row above's, its cells."""

    labels: tuple[str, ...]
    again: bool
    starts_group: bool
    cells: tuple[PageCell, ...]


@dataclass(frozen=True)
class PageTable:
    """A table, with the marks of its columns."""

    caption: str
    label_names: tuple[str, ...]
    columns: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    rows: tuple[PageRow, ...]


@dataclass(frozen=True)
class PageTile:
    """A picture as a data URI, and the lines below it."""

    uri: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class PagePanel:
    """A drawing, or pictures in a grid.

    Attributes:
        svg: The drawing; empty for pictures.
        title: Of the pictures; a drawing has its own.
        columns: Headings of the pictures.
        rows: Pairs of a name and pictures.
        label: What it shows.
        keeps_size: Whether it scrolls rather than shrinks on a narrow screen.
    """

    svg: Markup
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[PageTile, ...]], ...]
    label: str
    keeps_size: bool


@dataclass(frozen=True)
class PageFigure:
    """A figure."""

    id: str
    caption: str
    panels: tuple[PagePanel, ...]


@dataclass(frozen=True)
class PageReport:
    """A report's part of the page; footnotes are a mark, an id and a text."""

    id: str
    heading: str
    subtitle: str
    head: tuple[str, ...]
    figures: tuple[PageFigure, ...]
    tables: tuple[PageTable, ...]
    footnotes: tuple[tuple[str, str, str], ...]
    sections: tuple[Section, ...]


def page_report(
    name: str,
    heading: str,
    subtitle: str,
    head: tuple[str, ...],
    sections: tuple[Section, ...],
    report: Report,
) -> PageReport:
    """Returns a report for the page.

    Args:
        name: Its id, which those of its parts begin with.
        heading: Its heading.
        subtitle: Below the heading; may be empty.
        head: Its paragraphs that the page has not said yet.
        sections: Its own sections.
        report: The rest.
    """
    ids = {mark: f"{name}-note-{i}" for i, (mark, _) in enumerate(report.footnotes)}
    stems = figure_stems(f"figure-{name}", report)
    figures = zip(stems, report.figures, strict=True)
    return PageReport(
        id=name,
        heading=heading,
        subtitle=subtitle,
        head=head,
        figures=tuple(_figure(stem, figure) for stem, figure in figures),
        tables=tuple(_table(table, heading, ids) for table in report.shown_tables),
        footnotes=tuple((mark, ids[mark], text) for mark, text in report.footnotes),
        sections=sections,
    )


def _table(table: Table, heading: str, ids: dict[str, str]) -> PageTable:
    columns = tuple((column.label, _linked(column.marks, ids)) for column in table.columns)
    numeric = [any(_number(row.cells[j]) for row in table.rows) for j in range(len(columns))]
    rows: list[PageRow] = []
    above = ""
    for row in table.rows:
        first = row.labels[0] if row.labels else ""
        again = len(row.labels) > 1 and first == above
        cells = tuple(map(_cell, row.cells, numeric, repeat(ids)))
        rows.append(PageRow(row.labels, again, row.starts_group and bool(rows), cells))
        above = first
    return PageTable(table.caption or heading, table.label_names, columns, tuple(rows))


def _cell(cell: Cell, numeric: bool, ids: dict[str, str]) -> PageCell:
    classes: list[str] = [] if cell.status == "ok" else [cell.status]
    classes += ["alarm"] * (ALARM in cell.marks)
    first, *others = cell.lines or ("",)
    sort = _number(cell) if numeric else None
    return PageCell(first, tuple(others), sort, " ".join(classes), _linked(cell.marks, ids))


def _number(cell: Cell) -> str:
    """Returns what a cell is sorted by: its value, or the number that it begins with."""
    if cell.value is not None:
        return f"{cell.value:.6g}"
    words = cell.lines[0].split(maxsplit=1) if cell.lines else []
    start = words[0].rstrip("%,;") if words else ""
    try:
        return f"{float(start):.6g}"
    except ValueError:
        return ""


def _linked(marks: Sequence[str], ids: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((mark, ids[mark]) for mark in marks if mark in ids)


def _figure(stem: str, figure: Figure) -> PageFigure:
    panels = tuple(_panel(panel, f"{stem}-{i}") for i, panel in enumerate(figure.panels))
    return PageFigure(stem, figure.caption, panels)


def _panel(panel: Panel, prefix: str) -> PagePanel:
    label = describe([panel])
    if isinstance(panel, Tiles):
        rows = tuple(
            (name, tuple(PageTile(_uri(t.png), tuple(t.caption.splitlines())) for t in tiles))
            for name, tiles in panel.rows
        )
        return PagePanel(Markup(), panel.title, panel.columns, rows, label, True)
    svg = Markup(inline_svg(panel, prefix, label))  # words in it are escaped by matplotlib
    return PagePanel(svg, panel.title, (), (), label, isinstance(panel, Heatmap))


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
