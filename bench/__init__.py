"""rbench: a benchmark harness for adversarial robustness."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.evaluation.api import evaluate

__all__ = ["__version__", "evaluate"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Imports ``evaluate`` when it is asked for, since torch takes seconds to import."""
    if name == "evaluate":
        from bench.evaluation.api import evaluate

        return evaluate
    raise AttributeError(f"module 'bench' has no attribute '{name}'")
