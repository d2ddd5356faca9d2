"""What a report is before it becomes Markdown, LaTeX or CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bench.report.figure import Figure

CellStatus = Literal["ok", "partial", "incomplete", "refused", "left_out", "absent", "missing"]
"""``partial``: a worst case over some of the attacks. ``left_out``: not among the attacks that the
suite gives this model. ``missing``: planned, and not run yet."""

Raw = str | float | int | None

MINIMUM_NORM, ALARM = "†", "!"
"""Marks with a fixed meaning; all others are letters of footnotes."""


@dataclass(frozen=True)
class Cell:
    """One number, as shown and as data.

    Attributes:
        lines: What is shown, for example ``("71.9", "[60.9, 80.7]", "(paper 52.16)")``.
        marks: Marks of its footnotes.
        value: In [0, 1], or [-1, 1] for a difference, or at least -1 for a relative gain; ``None``
            where there is none.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Number of images behind it.
        published: The paper's number, in the unit of ``value``.
        status: Whether it can be relied on.
        protocol: How the model was attacked and scored.
        alarms: Reasons to doubt it.
        reason: Why it is not ``ok``.
        extra: Further columns of the CSV file.
    """

    lines: tuple[str, ...]
    marks: tuple[str, ...] = ()
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    published: float | None = None
    status: CellStatus = "ok"
    protocol: str = ""
    alarms: tuple[str, ...] = ()
    reason: str = ""
    extra: Mapping[str, Raw] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A column of cells: an attack's label and its marks.

    Attributes:
        label: Its heading.
        marks: Marks of its footnotes.
        in_csv: Whether its cells become lines of the CSV file.
    """

    label: str
    marks: tuple[str, ...] = ()
    in_csv: bool = True


@dataclass(frozen=True)
class TableRow:
    """A row: one label for each label column, then one cell for each column.

    Attributes:
        labels: Texts.
        cells: Cells.
        starts_group: Whether a rule sets it off from the row above.
    """

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    starts_group: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: One sentence; empty for a report's main table, which its title names.
        label_names: Headings of the label columns.
        columns: Headings of the rest.
        rows: Rows.
        in_csv: Whether its cells become lines of the CSV file.
        in_text: Whether it is shown; False for a figure's numbers, which are too many to read.
    """

    caption: str
    label_names: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    in_csv: bool = True
    in_text: bool = True


@dataclass(frozen=True)
class Section:
    """A list below the tables: a title, and pairs of a name and what is said of it."""

    title: str
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Report:
    """Everything that one report says; all texts are plain and unescaped.

    Attributes:
        title: Heading.
        head: Paragraphs above the tables.
        tables: The main table first.
        footnotes: Pairs of a mark and its text.
        sections: What one needs to know to repeat or judge the numbers.
        figures: Drawn above the tables.
        quantity: What the columns of its tables are, as the CSV file says it.
    """

    title: str
    head: tuple[str, ...]
    tables: tuple[Table, ...]
    footnotes: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    figures: tuple[Figure, ...] = ()
    quantity: str = "attack"

    @property
    def shown_tables(self) -> tuple[Table, ...]:
        """The tables that are shown."""
        return tuple(table for table in self.tables if table.in_text)


class Footnotes:
    """Hands out marks; the same text always gets the same one."""

    def __init__(self) -> None:
        self._fixed: dict[str, str] = {}
        self._letters: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Returns the letter of a footnote: a, b, ..., z, aa, ab, ..."""
        if text not in self._letters:
            number, letters = len(self._letters) + 1, ""
            while number:
                number, digit = divmod(number - 1, 26)
                letters = chr(ord("a") + digit) + letters
            self._letters[text] = letters
        return self._letters[text]

    def fixed(self, mark: str, text: str) -> str:
        """Explains a mark that has a meaning of its own, and returns it."""
        self._fixed[mark] = text
        return mark

    def listed(self) -> tuple[tuple[str, str], ...]:
        """Returns all pairs of mark and text, those with a fixed meaning first."""
        letters = ((mark, text) for text, mark in self._letters.items())
        return (*sorted(self._fixed.items()), *letters)
