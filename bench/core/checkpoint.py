"""What is known of a checkpoint without its weights."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bench.core.cell import CellModel
from bench.core.model_spec import ClassifierSpec
from bench.core.spec import Spec


class Epoch(Spec):
    """One epoch of a training.

    Attributes:
        epoch: From 1.
        loss: On the training images, averaged while the weights moved.
        accuracy: On the training images, averaged in the same way; in [0, 1].
        test_accuracy: After the epoch, on up to 1,024 clean test images, in [0, 1].
    """

    epoch: int = Field(ge=1)
    loss: float
    accuracy: float = Field(ge=0, le=1)
    test_accuracy: float | None = Field(default=None, ge=0, le=1)


class CheckpointFacts(Spec):
    """The facts that a store keeps: tables need them, and a cell does not hold them.

    Attributes:
        arch: Architecture; empty where it is not known.
        norm: Label of the norm, for example ``bgn8``.
        norm_spec: The whole normalization as plain JSON values, with RobustNorm's ``power`` and the
            ``pool`` of RNA; empty in stores from before it was noted.
        dataset: The training data; empty where it is not known.
        training: ``natural``, ``adversarial``, ``black-box``, or how a foreign card says.
        std: Per-channel standard deviation that the model divides by.
        seed: Of its training, where the card tells it.
        recipe: Hash of its training recipe, where the card tells it.
        file_sha256: Of the file of its weights; empty where there is none, and in older stores.
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
    file_sha256: str = ""
    sketch: str = ""
    history: tuple[Epoch, ...] = ()


class ModelFacts(CheckpointFacts):
    """All that is known of a checkpoint that is at hand, or of a URI's model.

    Attributes:
        sha256: Of its weights, and of all else that decides its logits as far as that is known; in
            tables ``weights_sha256``.
        spec: Its architecture, norm and input.
        std_known: Whether ``std`` is known; a network that normalizes its input itself hides it.
    """

    sha256: str
    spec: ClassifierSpec
    std_known: bool = True

    @classmethod
    def of(
        cls,
        sha256: str,
        spec: ClassifierSpec,
        dataset: str = "",
        training: str = "",
        *,
        std_known: bool = True,
        seed: int | None = None,
        recipe: str = "",
        file_sha256: str = "",
    ) -> ModelFacts:
        """Returns the facts of a model of this specification."""
        return cls(
            sha256=sha256,
            spec=spec,
            arch=spec.arch,
            norm=spec.norm.label(),
            norm_spec=spec.norm.model_dump(mode="json"),
            dataset=dataset,
            training=training,
            std=spec.std,
            std_known=std_known,
            seed=seed,
            recipe=recipe,
            file_sha256=file_sha256,
        )

    def stored(self, *, history: bool) -> CheckpointFacts:
        """Returns the part that a store keeps, with or without the training's epochs."""
        kept = set(CheckpointFacts.model_fields) - (set() if history else {"history"})
        return CheckpointFacts.model_validate(self.model_dump(include=kept))

    def cell_model(self, name: str, stats: str | None = None) -> CellModel:
        """Returns the model as the rules of cells see it.

        Args:
            name: Of the checkpoint.
            stats: Inference statistics in place of the checkpoint's own.

        Raises:
            UserError: When the norm has no such statistics.
        """
        norm = self.spec.norm if stats is None else self.spec.norm.with_stats(stats)
        return CellModel(
            checkpoint=name,
            sha256=self.sha256,
            stats=norm.inference_stats,
            stochastic=norm.stochastic,
            draws_paths=norm.draws_paths,
            batch_dependent=norm.batch_dependent,
            called=f"'{name}' ({norm.label()})",
        )
