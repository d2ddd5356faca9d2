"""The verifier: an attack proposes x_adv, and only this decides whether it succeeded."""

from bench.verify.guard import ModelGuard
from bench.verify.verifier import TOLERANCE, Scoring, check_candidate, judge, verify_batch

__all__ = ["TOLERANCE", "ModelGuard", "Scoring", "check_candidate", "judge", "verify_batch"]
