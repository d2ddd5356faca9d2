"""What a run set out to do: written before the first cell starts."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

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


class Epoch(Spec):
    """One epoch of a training.

    Attributes:
        epoch: From 1.
        loss: On what the epoch trained on, averaged while the weights moved.
        accuracy: The same, in [0, 1].
        test_accuracy: After it, on up to 1,024 clean test images, in [0, 1].
    """

    epoch: int = Field(ge=1)
    loss: float
    accuracy: float = Field(ge=0, le=1)
    test_accuracy: float | None = Field(default=None, ge=0, le=1)


class CheckpointFacts(Spec):
    """What a checkpoint's card says of it that tables need and a cell does not hold.

    Attributes:
        arch: Architecture.
        norm: Its label, for example ``bgn8``.
        norm_spec: The whole normalization as plain JSON values, with RobustNorm's ``power`` and the
            ``pool`` of RNA; empty in stores from before it was noted.
        dataset: What it was trained on.
        training: ``natural``, ``adversarial``, ``black-box``, or how a foreign card says.
        std: Per-channel standard deviation that the model divides by.
        seed: Of its training, where the card tells it.
        recipe: Of its training: a hash, where the card tells it.
        sketch: Of its weights, see ``bench.core.weight_sketch``; empty in older stores.
        history: Its training, where the suite has a report of kind ``training_curve``.
    """

    arch: str
    norm: str
    norm_spec: dict[str, Any] = Field(default_factory=dict)
    dataset: str
    training: str
    std: tuple[float, ...]
    seed: int | None = None
    recipe: str = ""
    sketch: str = ""
    history: tuple[Epoch, ...] = ()


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
