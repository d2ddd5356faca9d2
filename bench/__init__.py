"""rbench: a benchmark harness for adversarial robustness."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.evaluation.api import evaluate
    from bench.evaluation.examples import verify_examples
    from bench.run.pipeline import run_suite

__all__ = ["__version__", "evaluate", "run_suite", "verify_examples"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Imports functions on first use, since torch takes seconds to import."""
    if name == "evaluate":
        from bench.evaluation.api import evaluate

        return evaluate
    if name == "verify_examples":
        from bench.evaluation.examples import verify_examples

        return verify_examples
    if name == "run_suite":
        from bench.run.pipeline import run_suite

        return run_suite
    raise AttributeError(f"module 'bench' has no attribute '{name}'")
