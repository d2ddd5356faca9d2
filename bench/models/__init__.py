"""Networks, and how to build them with any norm."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.models.build import Classifier, build_model

__all__ = ["Classifier", "build_model"]


def __getattr__(name: str) -> object:
    """Imports on first use: a plan needs no network, and torch takes seconds to import."""
    if name in __all__:
        from bench.models import build

        return getattr(build, name)
    raise AttributeError(f"module 'bench.models' has no attribute '{name}'")
