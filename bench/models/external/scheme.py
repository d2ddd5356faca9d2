"""What every scheme offers, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.core.model_spec import ClassifierSpec
from bench.core.model_uri import ModelUri

if TYPE_CHECKING:  # what a model is can be told without importing torch
    from bench.models.build import Classifier


@dataclass(frozen=True)
class Shelf:
    """Where models are looked up, and what may be done to open one.

    Attributes:
        checkpoints: Folder of checkpoints.
        trust_code: Whether code that a URI names may be run.
    """

    checkpoints: Path
    trust_code: bool = False


@dataclass(frozen=True)
class ModelFacts:
    """What a model is.

    Attributes:
        sha256: Of its weights, and of all else that decides its logits as far as that is known.
        spec: Its norm and input.
        dataset: What it was trained on; empty where that is not known.
        training: How, in a few words.
        std_known: Whether ``spec`` has the std that it divides by; a network that normalizes its
            input itself keeps it to itself.
    """

    sha256: str
    spec: ClassifierSpec
    dataset: str = ""
    training: str = ""
    std_known: bool = True


class Source(Protocol):
    """A model that can be opened."""

    def facts(self) -> ModelFacts:
        """Returns what it is; reads no more than that takes.

        Raises:
            MissingCheckpointError: When its weights, or the library that it needs, are not here.
            UserError: When it is not what it should be.
        """
        ...

    def load(self, stats: str | None = None) -> Classifier:
        """Returns it in eval mode, with other inference statistics if any are given.

        Raises:
            UserError: As ``facts``; when it has no such statistics.
        """
        ...


@dataclass(frozen=True)
class Scheme:
    """A kind of URI.

    Attributes:
        open: Returns a URI's source; raises ``UserError`` for one that cannot be.
        keys: That its query may have.
        example: A URI.
        needs: What must be there, in a few words.
    """

    open: Callable[[ModelUri, Shelf], Source]
    keys: tuple[str, ...]
    example: str
    needs: str
