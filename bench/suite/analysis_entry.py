"""An analysis in a suite, and a planned one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator, model_validator

from bench.core.analysis import AnalysisSpec
from bench.core.base import Spec
from bench.suite.fields import Line, as_tuples


class AnalysisEntry(Spec):
    """A look at models that needs more than rows. A bare string stands for ``{analysis: STRING}``.

    Attributes:
        analysis: Name in the analysis registry.
        label: Name in reports; by default the analysis'.
        models: Names of the suite's models that it looks at: labels, series, or parts of a label
            that ``each`` made; empty for all.
        attack: Label of the attack that crafts its attacked images; empty for an analysis without.
        params: Its parameters; the rest are at their defaults.
        limit: Number of images from the start of the suite's slice; ``None`` for all.
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


@dataclass(frozen=True)
class PlannedAnalysis:
    """An analysis that may be run.

    Attributes:
        index: Position in the suite's analyses.
        label: Its name in reports.
        models: Labels of its subjects, in the order of ``spec.subjects``.
        spec: What is run; holds the id.
        n_images: Images in its slice.
        passes: Estimated forward plus backward passes over single images; ``None`` where nobody
            can say.
    """

    index: int
    label: str
    models: tuple[str, ...]
    spec: AnalysisSpec
    n_images: int
    passes: float | None

    @property
    def analysis_id(self) -> str:
        """The id of ``spec``."""
        return self.spec.analysis_id
