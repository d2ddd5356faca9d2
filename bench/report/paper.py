"""Published numbers beside measured ones, and why the two are not the same experiment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.core.model_spec import ARCHITECTURES
from bench.published import PublishedTable, load_table, match_row
from bench.report.run_view import RunView
from bench.suite import ReportEntry


@dataclass(frozen=True)
class Paper:
    """The published table that a report shows, if it shows one.

    Attributes:
        table: The table; ``None`` without one, or where its numbers are no accuracies.
        where: What narrows its rows down.
    """

    table: PublishedTable | None
    where: Mapping[str, object]

    @classmethod
    def of(cls, entry: ReportEntry) -> Paper:
        """Returns the table that a report asks for; raises ``UserError`` for an unknown one."""
        table = load_table(entry.published) if entry.published else None
        if table is not None and table.unit != "percent accuracy":
            table = None
        return cls(table, entry.where)

    def value(self, row: Mapping[str, object], column: str) -> float | None:
        """Returns the percentage published for a model and an attack.

        A suite may feed several tables, so a key or a column of another table is no error here.
        """
        if self.table is None or column not in self.table.columns:
            return None
        found = self._match(row)
        return None if found is None else found[1][column]

    def _match(
        self, row: Mapping[str, object]
    ) -> tuple[Mapping[str, object], Mapping[str, float | None]] | None:
        if self.table is None or not row:
            return None
        known = {key for keys, _ in self.table.rows for key in keys}
        return match_row(self.table, self.where, row) if known.issuperset(row) else None

    def note(self, view: RunView) -> str:
        """Returns what a reader must know before comparing, or an empty string."""
        matches = [self._match(model.published) for model in view.models]
        rows = [match[0] for match in matches if match is not None]
        if self.table is None or not rows:
            return ""
        differences = [
            _data_note(self.table, rows, view.suite.data.name),
            _architecture_note(self.table, rows, [m.checkpoint for m in view.models]),
            _protocol_note(self.table, sorted({model.protocol for model in view.models})),
            "weights, eps and the attacks' steps may differ too",
        ]
        return (
            f"(paper ...) is the number of {self.table.id}, “{self.table.title}”, in percent. "
            f"It is another experiment: {'; '.join(d for d in differences if d)}. "
            f"How the authors measured: {self.table.measured}"
        )


def _data_note(table: PublishedTable, rows: Iterable[Mapping[str, object]], ours: str) -> str:
    theirs = {str(row["dataset"]) for row in rows if "dataset" in row}
    if _plain(ours) in ({_plain(name) for name in theirs} or _tokens(table.title)):
        return f"the data set is the same ({ours}), the images may not be"
    return f"other data (here {ours}, there {', '.join(sorted(theirs)) or 'as its title says'})"


def _architecture_note(
    table: PublishedTable, rows: Iterable[Mapping[str, object]], checkpoints: Iterable[str]
) -> str:
    known = set(ARCHITECTURES)
    theirs = {str(row["model"]) for row in rows if "model" in row} or _tokens(table.title) & known
    ours = {word for name in checkpoints for word in re.split(r"[-_.]", name.lower())} & known
    if not theirs or not ours:
        return "the architecture may differ"
    here, there = ", ".join(sorted(ours)), ", ".join(sorted(theirs))
    if ours == theirs:
        return f"the architecture is the same ({here})"
    word = "not always the same" if ours & theirs else "other"
    return f"{word} architecture (here {here}, there {there})"


def _protocol_note(table: PublishedTable, ours: list[str]) -> str:
    if not table.protocol:
        return "the protocol may differ"
    if ours == [table.protocol]:
        return f"the protocol is the same ({table.protocol})"
    return f"other protocol (here {', '.join(ours)}, there {table.protocol})"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _tokens(text: str) -> set[str]:
    """Returns the words of a title without their hyphens: ``CIFAR-10`` gives ``cifar10``."""
    return {_plain(word) for word in re.findall(r"[A-Za-z0-9-]+", text)}
