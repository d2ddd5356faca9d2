"""What a table of a paper shows of a report's: numbers, notes of its own, the best ones in bold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bench.core.result import MINIMUM_NORM
from bench.metrics import leaders
from bench.report.table import Cell, Footnotes, Report, Table

Width = Literal["auto", "column", "text"]
WIDTHS: tuple[Width, ...] = ("auto", "column", "text")
NOT_RUN = ("left_out", "absent", "missing")
DASH, DIFFERS = "—", "*"
_NOTES = {
    MINIMUM_NORM: "minimum-norm attack: it is not told eps, and succeeds only within eps",
    DASH: "not run",
    DIFFERS: "difference shown: its 95 % interval excludes 0, and p is below 0.05",
}
"""Notes that reports lack, or word so that they refer to other tables."""


@dataclass(frozen=True)
class PaperStyle:
    r"""How tables for a paper look.

    Attributes:
        width: ``column`` for ``\columnwidth``, ``text`` for ``\textwidth`` (``table*``); ``auto``
            takes the column where the table fits without being scaled down.
        intervals: Whether 95 % intervals stand below the numbers.
        floats: Whether to write the ``table`` with caption and label, or only what stands in it.
        groups: Heading for each row's first label. Rows under one heading are put together,
            headings in the order of their first row; rows without a heading come first.
    """

    width: Width = "auto"
    intervals: bool = False
    floats: bool = True
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """What is shown of a cell or heading: its text, lines below it, its marks, whether in bold."""

    text: str
    below: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    bold: bool = False


class PaperTable:
    """A table as a paper shows it, still as plain text.

    Args:
        report: The report that it belongs to.
        table: The table.
        style: How it looks.

    Attributes:
        table: The table, with the rows of each group next to each other.
        columns: Headings of the columns of numbers.
        rows: The numbers, row by row.
        notes: Marks and texts, lettered in the order in which they occur.
    """

    def __init__(self, report: Report, table: Table, style: PaperStyle) -> None:
        self._report, self._style = report, style
        self.table = table = _together(table, style.groups)
        self._notes, self._meanings = Footnotes(), dict(report.footnotes)
        sizes = Counter(cell.n for row in table.rows for cell in row.cells if cell.n is not None)
        self._n = sizes.most_common(1)[0][0] if sizes else None
        self._best = set(_best(table))
        self.columns = [self._column(j) for j in range(len(table.columns))]
        self.rows = [
            [self._cell(i, j) for j in range(len(table.columns))] for i in range(len(table.rows))
        ]
        self.notes = self._notes.listed()

    def caption(self, about: str) -> str:
        """Returns the caption.

        Args:
            about: Images and threat model; may be empty.
        """
        cells = [cell for row in self.table.rows for cell in row.cells]
        parts = [self.table.caption or f"{self._report.title}: robust accuracy in percent"]
        if about:
            noted = " unless noted" * any(cell.n not in (None, self._n) for cell in cells)
            parts.append(about + ("" if self._n is None else f"; n={self._n}{noted}"))
        if self._best:
            place = "each column of a group of rows" if _scopes(self.table)[1:] else "each column"
            parts.append(f"Bold: the best in {place} and all not significantly worse (paired test)")
        if self._style.intervals and any(cell.low is not None for cell in cells):
            parts.append("In brackets: 95% confidence intervals")
        if any(line.startswith("(") for row in self.rows for one in row for line in one.below):
            parts.append("In parentheses: published values")
        return " ".join(f"{part}." for part in parts)

    def _column(self, j: int) -> Shown:
        """Returns a heading, with a note where all of its numbers are of other images."""
        column, n = self.table.columns[j], self._own_n(j)
        marks = tuple(map(self._mark, column.marks))
        return Shown(column.label, (), marks + self._n_marks(n))

    def _own_n(self, j: int) -> int | None:
        """Returns the number of images of a column, where it is one and not the table's."""
        sizes = {row.cells[j].n for row in self.table.rows} - {None}
        return sizes.pop() if len(sizes) == 1 and self._n not in sizes else None

    def _n_marks(self, n: int | None) -> tuple[str, ...]:
        return () if n is None else (self._notes.mark(f"n={n}"),)

    def _cell(self, i: int, j: int) -> Shown:
        cell = self.table.rows[i].cells[j]
        below = tuple(filter(None, (self._below(line, cell) for line in cell.lines[1:])))
        if cell.status in NOT_RUN:
            return Shown(self._mark(DASH), below)
        marks = tuple(self._mark(mark) for mark in cell.marks if self._matters(mark, cell))
        if cell.n not in (self._n, self._own_n(j)):
            marks += self._n_marks(cell.n)
        if cell.extra.get("verdict") in ("higher", "lower"):
            marks = (self._mark(DIFFERS), *marks)
        return Shown(cell.lines[0], below, marks, (i, j) in self._best)

    def _below(self, line: str, cell: Cell) -> str:
        """Returns what is shown of a further line of a cell; empty for nothing."""
        if line.startswith("(paper "):
            return line.replace("paper ", "", 1)
        if line.startswith("n="):
            return "" if cell.n is not None else line  # notes say where n is another
        return line if self._style.intervals and line != cell.extra.get("verdict") else ""

    def _matters(self, mark: str, cell: Cell) -> bool:
        """Returns whether a mark says more than why an interval is missing, if none are shown."""
        return self._style.intervals or self._meanings.get(mark) != cell.extra.get("method")

    def _mark(self, mark: str) -> str:
        """Returns this table's mark for one of the report, and adds the note."""
        if mark.isalpha():
            return self._notes.mark(self._meanings[mark])
        return self._notes.fixed(mark, _NOTES.get(mark) or self._meanings[mark])


def _together(table: Table, groups: Mapping[str, str]) -> Table:
    """Returns a table with the rows of each group next to each other."""
    headings = [groups.get(row.labels[0], "") for row in table.rows]
    order = sorted(dict.fromkeys(headings), key=bool)  # those without one first
    rows = sorted(table.rows, key=lambda row: order.index(groups.get(row.labels[0], "")))
    return replace(table, rows=tuple(rows))


def _scopes(table: Table) -> list[list[int]]:
    """Returns the rows among which there is a best: all, or those of each group of the report."""
    scopes: list[list[int]] = []
    for i, row in enumerate(table.rows):
        if not i or row.starts_group:
            scopes.append([])
        scopes[-1].append(i)
    return scopes


def _best(table: Table) -> Iterator[tuple[int, int]]:
    """Yields the places of the best numbers; none where all that are comparable tie."""
    if not table.higher_is_better:
        return
    for scope in _scopes(table):
        for j in range(len(table.columns)):
            rivals = [(i, table.rows[i].cells[j].contender) for i in scope]
            known = [(i, rival) for i, rival in rivals if rival is not None]
            leading = leaders([rival for _, rival in known])
            if not all(leading):
                yield from ((i, j) for (i, _), first in zip(known, leading, strict=True) if first)
