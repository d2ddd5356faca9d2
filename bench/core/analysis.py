"""An analysis: a look at models that needs more than rows, and what identifies it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bench.core.cell import Adversary, CellSpec, DataSpec, Eot
from bench.core.spec import Spec, digest
from bench.core.threat import ThreatModel


class Subject(Spec):
    """A model that is looked at, and how it is attacked and scored; fields as in ``CellSpec``.

    Attributes:
        checkpoint: Name of the checkpoint.
        sha256: Of its weights.
        stats: Inference statistics in force; ``None`` for a norm without the choice.
        protocol: ``fixed_path`` holds one path while a batch is attacked.
        adversary: What an attack may perturb of a batch-dependent model's batch.
        eot_iter: Draws over which losses and gradients are averaged.
        eot: How they are drawn.
        batch_size: Images that pass together.
        n_draws: Fresh draws that score each image.
    """

    checkpoint: str
    sha256: str
    stats: str | None
    protocol: Literal["white_box", "fixed_path"] = "white_box"
    adversary: Adversary = "joint"
    eot_iter: int = Field(default=1, ge=1)
    eot: Eot = "plain"
    batch_size: int = Field(ge=1)
    n_draws: int = Field(ge=1)


class AnalysisAttack(Spec):
    """The attack that crafts an analysis' images.

    Attributes:
        attack: Name in the attack registry.
        version: Of its code.
        params: Its parameters, every default filled in, as plain JSON values.
    """

    attack: str
    version: int
    params: dict[str, Any]


class AnalysisSpec(Spec):
    """Everything that decides an analysis' values; its hash is the analysis' id.

    Attributes:
        analysis: Name in the analysis registry.
        version: Of its code; a change of behaviour raises it.
        params: Its parameters, every default filled in, as plain JSON values.
        subjects: The models, without their labels; values name them by position.
        data: The slice.
        data_hash: Of the slice's pixels and labels.
        threat_model: The ball of the attack, and the unit of distances.
        attack: What crafts the attacked images; ``None`` for an analysis without any.
        seed: Of everything random.
    """

    analysis: str
    version: int
    params: dict[str, Any]
    subjects: tuple[Subject, ...] = Field(min_length=1)
    data: DataSpec
    data_hash: str
    threat_model: ThreatModel
    attack: AnalysisAttack | None
    seed: int = Field(ge=0)

    @property
    def analysis_id(self) -> str:
        """The first 16 hex digits of the sha256 of this spec's canonical JSON."""
        return digest(self.model_dump(mode="json"))

    def cell(self, subject: int) -> CellSpec:
        """Returns the cell of a subject under the attack; it crafts what the analysis looks at.

        Attacks search in float32: analyses are short, and their images stay the same on every
        device as far as arithmetic does.

        Raises:
            ValueError: When the analysis has no attack.
        """
        if self.attack is None:
            raise ValueError(f"analysis '{self.analysis}' has no attack")
        model = self.subjects[subject]
        return CellSpec(
            **model.model_dump(),
            data=self.data,
            data_hash=self.data_hash,
            threat_model=self.threat_model,
            attack=self.attack.attack,
            attack_version=self.attack.version,
            attack_params=self.attack.params,
            search="exact",
            seed=self.seed,
        )


class AnalysisInfo(Spec):
    """What is stored beside an analysis' values.

    Attributes:
        analysis_id: Equal to ``spec.analysis_id``.
        spec: The identity.
        complete: Whether the values are all there.
        error: Why not, in one line; empty for a complete analysis.
        seconds: Wall-clock time.
        machine: Device and threads.
        versions: Of python, torch, rbench and the attack's library.
        date: Of the run, ISO 8601, UTC.
    """

    analysis_id: str
    spec: AnalysisSpec
    complete: bool
    error: str = ""
    seconds: float = Field(ge=0)
    machine: str
    versions: dict[str, str]
    date: str
