"""Planted cases with known right answers: does this harness notice what goes wrong?"""

from bench.selftest.case import TRAPS, Case, Outcome, Verdict, pick, run_case
from bench.selftest.cases import CASES
from bench.selftest.checkpoints import Look, look_at
from bench.selftest.libraries import Comparison, Trial, compare
from bench.selftest.summary import Summary
from bench.selftest.trials import trials

__all__ = [
    "CASES",
    "TRAPS",
    "Case",
    "Comparison",
    "Look",
    "Outcome",
    "Summary",
    "Trial",
    "Verdict",
    "compare",
    "look_at",
    "pick",
    "run_case",
    "trials",
]
