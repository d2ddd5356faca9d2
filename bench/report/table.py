"""The content of a report, which the renderers turn into Markdown, LaTeX, CSV and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bench.metrics import Contender, Estimate
from bench.report.figure import Figure

CellStatus = Literal["ok", "partial", "incomplete", "refused", "left_out", "absent", "missing"]
"""``partial``: a worst case over some of the attacks. ``left_out``: not among the attacks that the
suite gives this model. ``missing``: planned, not run yet."""

Raw = str | float | int | None

ALARM = "!"
"""Mark with a fixed meaning, as ``MINIMUM_NORM`` is; all others are footnote letters."""

WORST_CASE, RANK = "worst case", "rank"
"""Columns of a leaderboard."""


@dataclass(frozen=True)
class Cell:
    """One number of a table, as text and as data.

    Attributes:
        lines: The text, for example ``("71.9", "[60.9, 80.7]", "(paper 52.16)")``.
        marks: Footnote marks.
        value: In [0, 1]; in [-1, 1] for a difference; at least -1 for a relative gain; ``None``
            where there is no number.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        n: Number of images.
        published: The paper's number, in the unit of ``value``.
        status: Anything but ``ok`` says why the number is missing or incomplete.
        protocol: How the model was attacked and scored.
        alarms: Reasons to doubt the number.
        reason: Explanation of a ``status`` other than ``ok``.
        best: Whether it is the best of its column, or not significantly worse than the best.
        extra: Further columns of the CSV file.
        contender: Its rows, for a comparison with other cells of the column; ``None`` where the
            number is incomplete or under an alarm.
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
    best: bool = False
    extra: Mapping[str, Raw] = field(default_factory=dict)
    contender: Contender | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        estimate: Estimate,
        lines: tuple[str, ...],
        marks: tuple[str, ...] = (),
        **fields: Any,
    ) -> Cell:
        """Returns the cell of an estimate; the CSV file gets a column for its method.

        Args:
            estimate: The number, its interval and n.
            lines: The text.
            marks: Footnote marks.
            **fields: Values of further fields.
        """
        extra = {"method": estimate.method, **fields.pop("extra", {})}
        numbers = (estimate.value, estimate.low, estimate.high, estimate.n)
        return cls(lines, marks, *numbers, extra=extra, **fields)


@dataclass(frozen=True)
class Column:
    """The heading of a column of cells, with its footnote marks.

    ``in_csv`` says whether the cells become lines of the CSV file, ``leading`` whether the column
    stands next to the names where a screen may show only some of the columns.
    """

    label: str
    marks: tuple[str, ...] = ()
    in_csv: bool = True
    leading: bool = False


@dataclass(frozen=True)
class TableRow:
    """A row: one label for each label column, then one cell for each column.

    ``starts_group`` says whether a rule separates it from the row above.
    """

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    starts_group: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: One sentence; empty for the main table, which the report's title describes.
        label_names: Headings of the label columns.
        columns: Headings of the columns of cells.
        rows: The rows.
        in_csv: Whether the cells become lines of the CSV file.
        in_text: Whether the table is shown; ``False`` for the numbers behind a figure.
        higher_is_better: Whether the highest accuracy of each column, among the rows of a group, is
            the best; other tables have no best.
    """

    caption: str
    label_names: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    in_csv: bool = True
    in_text: bool = True
    higher_is_better: bool = False

    def for_screen(self) -> Table:
        """Returns the table with its leading columns first."""
        order = sorted(range(len(self.columns)), key=lambda j: not self.columns[j].leading)
        rows = (replace(row, cells=tuple(row.cells[j] for j in order)) for row in self.rows)
        return replace(self, columns=tuple(self.columns[j] for j in order), rows=tuple(rows))


@dataclass(frozen=True)
class Section:
    """A list below the tables: pairs of a term and its explanation."""

    title: str
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ranked:
    """The place of a model in a ranking, for the page's summary and chart, and for the terminal.

    Attributes:
        label: The model.
        rank: Models without a significant difference share one; ``None`` in a very long
            leaderboard, which has no ranks.
        accuracy: What it is ranked by: its worst case.
        clean: Its accuracy without an attack; ``None`` where that was not measured.
        protocol: Name of the protocol of its attacks.
        alarms: Reasons to doubt the accuracy.
        partial: Whether attacks are missing, so that the accuracy is only an upper bound.
        best: Whether it is the best of those it can be compared with, or not significantly worse.
    """

    label: str
    rank: int | None
    accuracy: Estimate
    clean: Estimate | None
    protocol: str
    alarms: tuple[str, ...]
    partial: bool
    best: bool

    @property
    def comparable(self) -> bool:
        """Whether its accuracy is complete, has an interval and is under no alarm."""
        return not self.partial and self.accuracy.interval is not None and not self.alarms


def star_note(ranking: Sequence[Ranked]) -> str:
    """Returns the meaning of a star beside the best, without a full stop; empty without a best."""
    protocol = next((model.protocol for model in ranking if model.best), "")
    if not protocol:
        return ""
    several = sum(model.best for model in ranking) > 1
    shared = ", or not significantly different from it" * several
    return f"best worst case under {protocol}{shared}"


@dataclass(frozen=True)
class Report:
    """The content of a report; all texts are plain and unescaped.

    Attributes:
        title: Heading.
        head: Paragraphs above the tables.
        tables: The main table first.
        footnotes: Pairs of a mark and its text.
        sections: Details needed to reproduce or judge the numbers.
        figures: Shown above the tables.
        quantity: Name of the CSV column that holds the column headings of the tables.
        ranking: Models with a worst case, in the order of the table.
    """

    title: str
    head: tuple[str, ...]
    tables: tuple[Table, ...]
    footnotes: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    figures: tuple[Figure, ...] = ()
    quantity: str = "attack"
    ranking: tuple[Ranked, ...] = ()

    @property
    def shown_tables(self) -> tuple[Table, ...]:
        """The tables that are shown to readers."""
        return tuple(table for table in self.tables if table.in_text)


class Footnotes:
    """Assigns footnote marks; equal texts share a mark."""

    def __init__(self) -> None:
        self._fixed: dict[str, str] = {}
        self._letters: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Returns the letter of a footnote's text: a, b, ..., z, aa, ab, ..."""
        if text not in self._letters:
            number, letters = len(self._letters) + 1, ""
            while number:
                number, digit = divmod(number - 1, 26)
                letters = chr(ord("a") + digit) + letters
            self._letters[text] = letters
        return self._letters[text]

    def fixed(self, mark: str, text: str) -> str:
        """Adds the explanation of a mark with a fixed meaning, and returns the mark."""
        self._fixed[mark] = text
        return mark

    def listed(self) -> tuple[tuple[str, str], ...]:
        """Returns all pairs of mark and text, marks with a fixed meaning first."""
        letters = ((mark, text) for text, mark in self._letters.items())
        return (*sorted(self._fixed.items()), *letters)
