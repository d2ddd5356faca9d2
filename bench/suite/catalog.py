"""What the suite room asks of the rooms above it: names, parameters, shapes and hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bench.core.attack import AttackInfo
from bench.core.cell import DataSpec
from bench.core.norm_spec import NormSpec
from bench.store import Epoch


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


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint's card says, without its weights.

    Attributes:
        sha256: Of the weights.
        norm: The normalization, with the card's inference statistics.
        dataset: What it was trained on.
        channels: Input channels.
        size: Input height and width in pixels.
        classes: Number of classes.
        std: Per-channel standard deviation that the model divides by; turns an eps in normalized
            units into pixels.
        arch: Architecture; empty where it is not known.
        training: How it was trained, likewise.
        seed: Of its training, where the card tells it.
        recipe: Of its training: a hash, where the card tells it.
        sketch: Of its weights, see ``bench.core.weight_sketch``; empty where it is not known.
        history: Its training epoch by epoch, where that was written down.
        std_known: Whether ``std`` is known; a network that normalizes its input itself keeps it.
    """

    sha256: str
    norm: NormSpec
    dataset: str
    channels: int
    size: int
    classes: int
    std: tuple[float, ...]
    arch: str = ""
    training: str = ""
    seed: int | None = None
    recipe: str = ""
    sketch: str = ""
    history: tuple[Epoch, ...] = ()
    std_known: bool = True


@dataclass(frozen=True)
class DatasetInfo:
    """The shape of a data set: number of classes, channels, height and width in pixels."""

    classes: int
    channels: int
    size: int


@dataclass(frozen=True)
class PublishedTable:
    """The axes of a paper's table.

    Attributes:
        columns: Names of its value columns, which an attack's ``published`` picks from.
        rows: The keys that tell its rows apart, for example ``{"model": "vgg11", "norm": "bn"}``.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str | int | float], ...]


class Catalog(Protocol):
    """Answers about attacks, data sets, checkpoints and published tables; loads no model.

    Every method that is given a name raises ``UserError`` for one it does not know, and names the
    nearest one it does (``did_you_mean``).
    """

    def attack_spec(self, name: str, params: Mapping[str, Any], norm: str) -> AttackInfo:
        """Returns an attack with these parameters under a threat model's norm.

        Raises:
            ParamsError: For unknown or bad parameters.
            UserError: For an unknown attack, or one that cannot serve the norm.
        """
        ...

    def analysis_kind(self, name: str, params: Mapping[str, Any]) -> AnalysisKind:
        """Returns an analysis with these parameters.

        Raises:
            ParamsError: For unknown or bad parameters.
            UserError: For an unknown analysis.
        """
        ...

    def dataset(self, name: str) -> DatasetInfo:
        """Returns a data set's shape."""
        ...

    def data_size(self, data: DataSpec) -> int:
        """Returns the number of images in a slice; raises ``UserError`` if it cannot be had."""
        ...

    def data_hash(self, data: DataSpec) -> str:
        """Returns the hash of a slice's pixels and labels."""
        ...

    def checkpoint(self, name: str) -> CheckpointInfo:
        """Returns a checkpoint's card.

        Raises:
            MissingCheckpointError: If it is not here.
            UserError: If it is damaged.
        """
        ...

    def published_tables(self) -> Mapping[str, PublishedTable]:
        """Returns the published tables by name, for example ``rna/table1``."""
        ...
