"""An analysis: a measurement of models that needs more than rows, and its identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from bench.core.cell import RULES, Adversary, CellSpec, DataSpec, Eot
from bench.core.spec import Spec, digest
from bench.core.threat import ThreatModel


class AnalysisError(Exception):
    """An analysis cannot be finished; the message says why in one line."""


@dataclass(frozen=True)
class AnalysisKind:
    """An analysis with its parameters filled in.

    Attributes:
        version: Of its code.
        params: Every parameter, defaults included, as plain JSON values.
        attack_runs: How often it attacks the images; 0 for an analysis that needs no attack.
        n_models: The fewest models that it takes.
        wants: Which models fit: ``tracked`` (layers that track statistics), ``paths`` (RNA layers
            that draw one by one) or ``any``.
        passes_per_image: Rough forward plus backward passes that it spends on an image and draw of
            each model, the attack's aside.
        scores: Forward passes on each scoring draw.
    """

    version: int
    params: dict[str, Any]
    attack_runs: float
    n_models: int
    wants: Literal["any", "tracked", "paths"]
    passes_per_image: float
    scores: float

    @property
    def attacked(self) -> bool:
        """Whether it looks at attacked images, and so needs an attack."""
        return self.attack_runs > 0


class Subject(Spec):
    """A model under analysis, and how it is attacked and scored; fields as in ``CellSpec``."""

    checkpoint: str
    sha256: str
    stats: str | None
    protocol: Literal["white_box", "fixed_path"] = "white_box"
    adversary: Adversary = "joint"
    eot_iter: int = Field(default=1, ge=1)
    eot: Eot = "plain"
    batch_size: int = Field(ge=1)
    n_draws: int = Field(ge=1)

    @classmethod
    def of(cls, cell: CellSpec) -> Subject:
        """Returns the model of a cell, attacked and scored as there."""
        return cls.model_validate(cell.model_dump(include=set(cls.model_fields)))


class AnalysisAttack(Spec):
    """The attack that crafts an analysis' images.

    Attributes:
        attack: Name in the attack registry.
        version: Of its code.
        library: The library or plugin that it comes from, with its version; empty for native code.
        params: Its parameters, every default filled in, as plain JSON values.
    """

    attack: str
    version: int
    library: str = ""
    params: dict[str, Any]

    @classmethod
    def of(cls, cell: CellSpec) -> AnalysisAttack:
        """Returns the attack of a cell."""
        return cls(
            attack=cell.attack,
            version=cell.attack_version,
            library=cell.library,
            params=cell.attack_params,
        )


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
        attack: Crafts the attacked images; ``None`` for an analysis without any.
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
        """The first 16 hex digits of the sha256 of this spec's canonical JSON and ``RULES``."""
        return digest(self.model_dump(mode="json") | {"rules": RULES})

    @property
    def former_id(self) -> str:
        """The id under which rbench stored it before ids held the library's version and ``RULES``.

        Runs of that time are still reported, and run anew by ``rbench run``.
        """
        return digest(self.model_dump(mode="json", exclude={"attack": {"library"}}))

    def cell(self, subject: int) -> CellSpec:
        """Returns the cell of a subject under the attack, from which the subject was made.

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
            library=self.attack.library,
            attack_params=self.attack.params,
            search="exact",
            seed=self.seed,
        )


class AnalysisInfo(Spec):
    """The record that is stored beside an analysis' values.

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
