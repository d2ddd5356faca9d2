"""A report in a suite."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from bench.core.base import Spec
from bench.suite.entry import Entry
from bench.suite.fields import Line, Selector, as_tuples
from bench.suite.kinds import known_kind

PANELLED = (
    "batch_size_curve",
    "eps_curve",
    "iteration_curve",
    "power_curve",
    "transfer_heatmap",
)
"""Kinds whose figure may be divided into panels."""


class PanelEntry(Spec):
    """A part of a figure, and the table below it.

    Attributes:
        title: Above it.
        models: Which of the suite's models are in it, by label, by series, or by parts of a label
            that ``each`` made (``natural``, ``bn``); empty for all.
        attacks: Which of the suite's attacks, likewise.
    """

    title: Line
    models: tuple[Line, ...] = ()
    attacks: tuple[Line, ...] = ()

    @field_validator("models", "attacks", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: object) -> object:
        return as_tuples(value)

    def has_model(self, model: Entry) -> bool:
        """Says whether a model of the suite is in it."""
        return not self.models or any(map(model.named, self.models))

    def has_attack(self, attack: Entry) -> bool:
        """Says whether an attack of the suite is in it."""
        return not self.attacks or any(map(attack.named, self.attacks))


class ReportEntry(Spec):
    """A report to write: tables, and for some kinds figures. A bare string is its kind.

    Attributes:
        kind: ``leaderboard`` (models x attacks, with ranks), ``stats_table`` (population next to
            batch statistics), ``gain_table`` (what batch statistics gain, relative to population
            statistics), ``agreement`` (two attacks on the same images), ``transfer_heatmap``
            (surrogate x target model), or accuracy against eps (``eps_curve``), the attack's steps
            (``iteration_curve``), the batch (``batch_size_curve``) or RobustNorm's power
            (``power_curve``), or loss and accuracy against the epochs of the trainings
            (``training_curve``). ``bench.suite.kinds`` lists them all; plugins add more.
        published: The published table to show beside it, for example ``rna/table1``.
        where: Narrows that table's rows down, for all models.
        pairs: For ``agreement``, the labels of the attacks to compare, two by two.
        panels: For ``transfer_heatmap`` and the curves, how the figure is divided. Without it there
            is a panel for each attack, or for each line of attacks that ``each`` or ``series``
            makes.
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
        if (self.kind == "agreement") != bool(self.pairs):
            raise ValueError("kind 'agreement' needs pairs, and only 'agreement' takes them")
        if any(one == other for one, other in self.pairs):
            raise ValueError("pairs compares an attack with itself")
        if self.panels and self.kind not in PANELLED:
            raise ValueError(f"only {', '.join(PANELLED)} take panels")
        titles = [panel.title for panel in self.panels]
        if len(set(titles)) != len(titles):
            raise ValueError("two panels have the same title")
        return self
