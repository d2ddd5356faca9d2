"""Tables for a paper as LaTeX: each alone in its file, and never wider than its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap

from bench.report.paper_table import DASH, PaperStyle, PaperTable, Shown
from bench.report.render import LATEX_TEMPLATES, latex_line, latex_marks, numbered, shown_labels
from bench.report.table import Report
from bench.untrusted import escape

COLUMN_POINTS = 240
"""Width of a column in common styles of two columns."""
CHARACTER_POINTS, GAP_POINTS = 4.2, 8
"""Of ``\\footnotesize``: an average character, and what lies between two columns."""
HEADING_CHARACTERS = 9
"""Headings of columns are broken between words where they are longer."""
_NUMBER = re.compile(r"([+-]?\d+)(\.\d+)?")


def paper_tables(report: Report, name: str, style: PaperStyle, about: str = "") -> list[str]:
    """Renders each shown table of a report as LaTeX that needs ``booktabs`` and ``graphicx``.

    Args:
        report: The report.
        name: The labels are ``tab:NAME``, ``tab:NAME-2`` and so on.
        style: How they look.
        about: Images and threat model, for the captions.

    Returns:
        The texts; none where no table has rows.
    """
    tables = [PaperTable(report, one, style) for one in report.shown_tables if one.rows]
    return [_render(table, numbered(name, i), style, about) for i, table in enumerate(tables)]


def _render(paper: PaperTable, name: str, style: PaperStyle, about: str) -> str:
    labels = [escape.latex(label) for label in paper.table.label_names]
    wide = style.width == "text" or (style.width == "auto" and _points(paper) > COLUMN_POINTS)
    return LATEX_TEMPLATES.get_template("paper.tex.j2").render(
        floats=style.floats,
        environment="table*" if wide else "table",
        caption=paper.caption(about),
        name=name,
        alignment="l" * len(labels) + "c" * len(paper.columns),
        heading=" & ".join(labels + list(map(_heading, paper.columns))),
        lines=list(_lines(paper, style)),
        notes=[(_note_mark(mark), text) for mark, text in paper.notes],
        e=escape.latex,
    )


def _note_mark(mark: str) -> str:
    return escape.latex(mark) if mark == DASH else latex_marks((mark,))


def _points(paper: PaperTable) -> float:
    """Estimates the width of a table."""
    table = paper.table
    widths = [
        max([len(name), *(len(row.labels[k]) for row in table.rows)])
        for k, name in enumerate(table.label_names)
    ]
    for j, column in enumerate(paper.columns):
        cells = [row[j] for row in paper.rows]
        lines = [len(cell.text) for cell in cells]
        lines += [len(line) * 2 // 3 for cell in cells for line in cell.below]  # in tiny letters
        widths.append(max([*lines, *map(len, _broken(column.text))]))
    return CHARACTER_POINTS * sum(widths) + GAP_POINTS * len(widths)


def _broken(heading: str) -> list[str]:
    text = escape.one_line(heading)
    whole = wrap(text, HEADING_CHARACTERS, break_long_words=False, break_on_hyphens=False)
    return whole or [""]


def _heading(column: Shown) -> str:
    """Formats a heading, its words below each other where it is long."""
    text = r"\\".join(map(escape.latex, _broken(column.text))) + latex_marks(column.marks)
    return rf"\begin{{tabular}}[b]{{@{{}}c@{{}}}}{text}\end{{tabular}}" if r"\\" in text else text


def _lines(paper: PaperTable, style: PaperStyle) -> Iterator[str]:
    """Yields what stands between the rules."""
    span = len(paper.table.label_names) + len(paper.columns)
    digits = [max(_digits(row[j]) for row in paper.rows) for j in range(len(paper.columns))]
    last = ""
    for i, row in enumerate(paper.table.rows):
        heading = style.groups.get(row.labels[0], "")
        if i and heading != last:
            yield r"\midrule"
        elif i and row.starts_group:
            yield r"\addlinespace"
        if heading != last:
            yield rf"\multicolumn{{{span}}}{{l}}{{\emph{{{escape.latex(heading)}}}}} \\"
        last = heading
        labels = [escape.latex(label) for label in shown_labels(paper.table, i)]
        yield from _row(labels, paper.rows[i], digits)


def _row(labels: Sequence[str], cells: Sequence[Shown], digits: Sequence[int]) -> Iterator[str]:
    """Yields the line of a row, and those of what stands below its numbers."""
    numbers = [_number(cell, widest) for cell, widest in zip(cells, digits, strict=True)]
    yield " & ".join([*labels, *numbers]) + r" \\"
    height = max((len(cell.below) for cell in cells), default=0)
    for k in range(height):
        lines = [latex_line(cell.below[k]) if k < len(cell.below) else "" for cell in cells]
        small = [rf"{{\tiny {line}}}" if line else "" for line in lines]
        end = r" \\[2pt]" if k + 1 == height else r" \\"
        yield " & ".join([*[""] * len(labels), *small]) + end


def _digits(cell: Shown) -> int:
    """Returns how many characters stand before the decimal point of a number."""
    found = _NUMBER.fullmatch(cell.text)
    return len(found[1]) if found else 0


def _number(cell: Shown, widest: int) -> str:
    """Formats a number so that the decimal points of its column stand below each other."""
    text, marks = latex_line(cell.text), latex_marks(cell.marks)
    if cell.bold:
        text = rf"\textbf{{{text}}}"
    if not (digits := _digits(cell)):
        return text + marks
    lapped = rf"\rlap{{{marks}}}" if 0 < len(cell.marks) < 3 else marks  # more need their own room
    return rf"\phantom{{{'0' * (widest - digits)}}}" * (widest > digits) + text + lapped
