"""The plan of a run, written before the first cell starts."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from bench.core.checkpoint import CheckpointFacts
from bench.core.spec import Spec
from bench.store.entries import SCHEMA_VERSION


class ManifestCell(Spec):
    """One planned combination of a model and an attack.

    Attributes:
        model_index: Position in the suite's models.
        attack_index: Position in the suite's attacks.
        model_label: How tables name the model.
        attack_label: How tables name the attack.
        cell_id: Of the cell; a refused one may lack it.
        refused: Why the combination is not valid; empty or ``None`` where it is.
    """

    model_index: int = Field(ge=0)
    attack_index: int = Field(ge=0)
    model_label: str
    attack_label: str
    cell_id: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")
    refused: str | None = None

    @model_validator(mode="after")
    def _runnable(self) -> ManifestCell:
        if self.cell_id is None and not self.refused:
            raise ValueError("a cell without cell_id must say why it was refused")
        return self


class ManifestAnalysis(Spec):
    """One planned analysis.

    Attributes:
        index: Position in the suite's analyses.
        label: How reports name it.
        models: Labels of its models, in the order in which values count them.
        analysis_id: Of the analysis.
    """

    index: int = Field(ge=0)
    label: str
    models: tuple[str, ...]
    analysis_id: str = Field(pattern=r"^[0-9a-f]{16}$")


class Manifest(Spec):
    """The content of ``run.json``.

    Attributes:
        schema_version: Of the store that wrote it.
        suite: The suite as run, every default filled in, as plain JSON values.
        cells: Every planned combination, in the suite's order.
        checkpoints: What each checkpoint is, by name; empty in stores from before it was noted.
        analyses: Every planned analysis, in the suite's order.
        absent: The models that were left out, by label, and the checkpoint that each lacks.
    """

    schema_version: int = SCHEMA_VERSION
    suite: dict[str, Any]
    cells: tuple[ManifestCell, ...]
    checkpoints: dict[str, CheckpointFacts] = Field(default_factory=dict)
    analyses: tuple[ManifestAnalysis, ...] = ()
    absent: dict[str, str] = Field(default_factory=dict)
