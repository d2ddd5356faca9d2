"""The interface of a scheme: from a URI to a model that can be described and loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from bench.core.checkpoint import ModelFacts
from bench.core.errors import MissingCheckpointError, one_line
from bench.core.model_uri import ModelUri
from bench.core.paths import Where

LIBRARIES = {"hf": "huggingface_hub"}
"""The library that an extra installs, where its name is another."""

if TYPE_CHECKING:  # describing a model must not import torch
    from bench.models.build import Classifier


class Source(Protocol):
    """A model that can be described and loaded."""

    def facts(self) -> ModelFacts:
        """Returns what is known of the model, reading as little as possible.

        Raises:
            MissingCheckpointError: When its weights, or the library that it needs, are missing.
            UserError: When its files are damaged or do not fit.
        """
        ...

    def load(self, stats: str | None = None) -> Classifier:
        """Returns the model in eval mode, with other inference statistics if given.

        Raises:
            UserError: As ``facts``; or when the model has no such statistics.
        """
        ...


@dataclass(frozen=True)
class Scheme:
    """A kind of URI.

    Attributes:
        open: Returns the source of a URI; raises ``UserError`` for an invalid one.
        keys: Keys that its query may have.
        example: An example of a URI.
        needs: What must be installed or present, in a few words.
    """

    open: Callable[[ModelUri, Where], Source]
    keys: tuple[str, ...]
    example: str
    needs: str


def missing_extra(uri: str, extra: str, error: ImportError) -> MissingCheckpointError:
    """Returns the error for a library that is not installed, or that cannot be imported.

    Args:
        uri: The model that needs it.
        extra: The extra of rbench that installs it.
        error: What its import raised.
    """
    remedy = f"pip install 'rbench[{extra}]'"
    library = LIBRARIES.get(extra, extra)
    if find_spec(library) is None:
        return MissingCheckpointError(f"{uri}: {library} is not installed; {remedy}")
    return MissingCheckpointError(
        f"{uri}: {library} is installed, but cannot be imported ({one_line(error)}); {remedy} "
        "installs what it needs"
    )
