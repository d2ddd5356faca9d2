"""The verifier: what an attack proposes, this decides."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.verify.guard import ModelGuard
    from bench.verify.verifier import TOLERANCE, Scoring, check_candidate, judge, verify_batch

__all__ = ["TOLERANCE", "ModelGuard", "Scoring", "check_candidate", "judge", "verify_batch"]


def __getattr__(name: str) -> object:
    """Imports what is asked for only then: alarms are about stored rows, and need no torch."""
    if name in __all__:
        from bench.verify import guard, verifier

        return getattr(guard if name == "ModelGuard" else verifier, name)
    raise AttributeError(f"module 'bench.verify' has no attribute '{name}'")
