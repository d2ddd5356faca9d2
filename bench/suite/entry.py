"""The entries that a suite is made of: labels and series, analyses, reports and their panels."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from bench.core.spec import Spec
from bench.suite.grid import varied_word
from bench.suite.report_kinds import REPORT_KINDS, known_kind, report_kind


def one_line(text: str) -> str:
    """Returns the text; raises ``ValueError`` unless it is one line of printable text."""
    if not text.strip() or not text.isprintable():
        raise ValueError("expected one line of printable text")
    return text


def as_tuples(value: object) -> object:
    """Returns lists as tuples: behind a validator of a whole entry, strict mode takes no list."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def _selector_value(value: object) -> object:
    if not isinstance(value, str | int | float):  # layer_free of rna/table5 is true or false
        raise ValueError("expected text, a number, true or false")
    return value


Selector = dict[str, Annotated[Any, AfterValidator(_selector_value)]]
"""Keys and values that pick rows of a published table, for example ``{norm: rna}``."""
Line = Annotated[str, AfterValidator(one_line)]
"""One line of printable text, fit for a table."""


class Entry(Spec):
    """A model or an attack of a suite.

    Attributes:
        label: Name in tables.
        series: In curves, name of the line that this entry is a point of; for entries that are
            written one by one. Entries of one ``each`` form a line without it.
        varied: The values that ``each`` gave to this entry, by field, in words; never in a file.
    """

    label: Line = ""
    series: Annotated[str, AfterValidator(lambda name: name and one_line(name))] = ""
    varied: dict[str, str] = Field(default_factory=dict)

    def line(self, without: Collection[str] = ()) -> str:
        """Returns the name of its curve over the fields ``without``; empty if no other varies."""
        words = {f: varied_word(f, word) for f, word in self.varied.items() if f not in without}
        first = words.pop("checkpoint", "")
        if not self.label.startswith(first):  # it has a label of its own, which stands first
            words, first = {"checkpoint": first, **words}, ""
        base = self.series or ("" if self.varied else self.label)
        return ", ".join(filter(None, (first, base, *words.values())))

    def named(self, name: str) -> bool:
        """Returns whether a name means this entry: its label, its series, or parts of its label.

        ``PGD, n_iter 20`` means the entries of an ``each`` that have both among the parts of their
        labels, so that one name may stand for several entries.
        """
        if name in (self.label, self.series):
            return True
        return bool(self.varied) and set(name.split(", ")) <= set(self.label.split(", "))


class AnalysisEntry(Spec):
    """A measurement that takes more than accuracies.

    A bare string is short for ``{analysis: STRING}``.

    Attributes:
        analysis: Name of the analysis, as ``rbench list analyses`` shows it.
        label: Name in reports. Default: the name of the analysis.
        models: The suite's models, by label, series, or parts of a label that ``each`` made.
            Default: all.
        attack: Label of the attack that crafts the attacked images, if the analysis looks at such.
        params: Its parameters; those left out have their defaults.
        limit: Only the first images of the suite's data. Default: all.
    """

    analysis: Line
    label: Line = ""
    models: tuple[Line, ...] = ()
    attack: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"analysis": value}
        if isinstance(value, dict) and value.get("label") is None:
            name = value.get("analysis")
            return {**value, "label": name} if isinstance(name, str) else value
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _list_is_tuple(cls, value: object) -> object:
        return as_tuples(value)


class PanelEntry(Spec):
    """A part of a figure, and the table below it.

    Attributes:
        title: Heading of the panel.
        models: The suite's models in it, by label, series, or parts of a label that ``each`` made
            (``natural``, ``bn``). Default: all.
        attacks: The suite's attacks in it, named in the same way. Default: all.
    """

    title: Line
    models: tuple[Line, ...] = ()
    attacks: tuple[Line, ...] = ()

    @field_validator("models", "attacks", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: object) -> object:
        return as_tuples(value)

    def has_model(self, model: Entry) -> bool:
        """Returns whether a model of the suite is in it."""
        return not self.models or any(map(model.named, self.models))

    def has_attack(self, attack: Entry) -> bool:
        """Returns whether an attack of the suite is in it."""
        return not self.attacks or any(map(attack.named, self.attacks))


class ReportEntry(Spec):
    """A report to write: tables and, for some kinds, figures. A bare string is its kind.

    Attributes:
        kind: One of the kinds that ``rbench list reports`` shows; plugins may add more.
        published: The published table to show next to it, for example ``rna/table1``.
        where: Keys and values that select rows of that table, for all models.
        pairs: For ``agreement``: pairs of labels of the attacks to compare.
        panels: For ``transfer_heatmap`` and the curves: how the figure is divided. Default: a panel
            for each attack, or for each line of attacks that ``each`` or ``series`` makes.
    """

    kind: Annotated[str, AfterValidator(known_kind)]
    published: str = ""
    where: Selector = Field(default_factory=dict)
    pairs: tuple[tuple[Line, Line], ...] = ()
    panels: tuple[PanelEntry, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @field_validator("pairs", "panels", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: object) -> object:
        return as_tuples(value)

    @model_validator(mode="after")
    def _fitting_its_kind(self) -> ReportEntry:
        kind = report_kind(self.kind)
        if kind.pairs != bool(self.pairs):
            raise ValueError("kind 'agreement' needs pairs, and only 'agreement' takes them")
        if any(one == other for one, other in self.pairs):
            raise ValueError("pairs compares an attack with itself")
        if self.panels and not kind.panels:
            able = [name for name, own in REPORT_KINDS.items() if own.panels]
            raise ValueError(f"only {', '.join(able)} take panels")
        titles = [panel.title for panel in self.panels]
        if len(set(titles)) != len(titles):
            raise ValueError("two panels have the same title")
        return self
