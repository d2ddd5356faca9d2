"""The verifier: what an attack proposes, this decides."""

from bench.verify.guard import ModelGuard
from bench.verify.verifier import TOLERANCE, Scoring, check_candidate, judge, verify_batch

__all__ = ["TOLERANCE", "ModelGuard", "Scoring", "check_candidate", "judge", "verify_batch"]
