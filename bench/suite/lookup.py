"""The questions that a suite asks of the rooms above it: each function answers for one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.core.analysis import AnalysisKind
from bench.core.attack import AttackInfo
from bench.core.cell import DataSpec
from bench.core.checkpoint import ModelFacts


class DatasetShape(NamedTuple):
    """The shape of a data set; ``size`` is height and width in pixels."""

    channels: int
    size: int
    classes: int


class SliceFacts(NamedTuple):
    """The number of images in a slice, and the hash of their pixels and labels."""

    n_images: int
    sha256: str


@dataclass(frozen=True)
class Lookup:
    """Where the names of a suite are looked up; no model is loaded for it.

    Each function raises ``UserError`` for a name that it does not know, with the nearest one that
    it does (``did_you_mean``).

    Attributes:
        attack: An attack by name, parameters and norm of the threat model. Raises ``ParamsError``
            for unknown or bad parameters, ``UserError`` for a norm that it cannot serve.
        analysis: An analysis by name and parameters. Raises ``ParamsError`` likewise.
        dataset: A data set by name.
        images: A slice. Raises ``UserError`` when it cannot be had.
        checkpoint: A checkpoint by name, or the model of a URI. Raises ``MissingCheckpointError``
            if it is not here, ``UserError`` if it is damaged.
    """

    attack: Callable[[str, Mapping[str, Any], str], AttackInfo]
    analysis: Callable[[str, Mapping[str, Any]], AnalysisKind]
    dataset: Callable[[str], DatasetShape]
    images: Callable[[DataSpec], SliceFacts]
    checkpoint: Callable[[str], ModelFacts]
