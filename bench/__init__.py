"""rbench: a benchmark harness for adversarial robustness."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.core.errors import UserError
    from bench.evaluation.api import evaluate
    from bench.evaluation.compare import Comparison, compare
    from bench.evaluation.examples import verify_examples
    from bench.evaluation.grid import Evaluations, load_result
    from bench.evaluation.load import load_data, load_model
    from bench.evaluation.result import EvaluationResult
    from bench.norms.build import replace_norms
    from bench.run.pipeline import run_suite

__all__ = [
    "Comparison",
    "EvaluationResult",
    "Evaluations",
    "UserError",
    "__version__",
    "compare",
    "evaluate",
    "load_data",
    "load_model",
    "load_result",
    "replace_norms",
    "run_suite",
    "verify_examples",
]

__version__ = "0.1.0"

_PLACES = {
    "Comparison": "bench.evaluation.compare",
    "EvaluationResult": "bench.evaluation.result",
    "Evaluations": "bench.evaluation.grid",
    "UserError": "bench.core.errors",
    "compare": "bench.evaluation.compare",
    "evaluate": "bench.evaluation.api",
    "load_data": "bench.evaluation.load",
    "load_model": "bench.evaluation.load",
    "load_result": "bench.evaluation.grid",
    "replace_norms": "bench.norms.build",
    "run_suite": "bench.run.pipeline",
    "verify_examples": "bench.evaluation.examples",
}
"""Modules by what they define; they are imported on first use, since torch takes seconds."""


def __getattr__(name: str) -> object:
    """Imports a function or class on first use, and keeps it."""
    if name not in _PLACES:
        raise AttributeError(f"module 'bench' has no attribute '{name}'")
    found = getattr(import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Returns the names that are meant to be used, for completion."""
    return list(__all__)
