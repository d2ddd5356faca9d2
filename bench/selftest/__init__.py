"""Planted cases with known right answers: does this harness notice what goes wrong?"""

from bench.selftest.alarm_cases import CASES as _ALARM_CASES
from bench.selftest.attack_cases import CASES as _ATTACK_CASES
from bench.selftest.case import TRAPS, Case, CaseResult, Outcome, pick, run_case
from bench.selftest.checkpoints import CheckpointResult, check_checkpoint
from bench.selftest.exact_networks import CASES as _PROVED_CASES
from bench.selftest.file_cases import CASES as _FILE_CASES
from bench.selftest.libraries import Comparison, Trial, compare, trials
from bench.selftest.model_cases import CASES as _MODEL_CASES
from bench.selftest.planted import CASES as _ALONE_CASES
from bench.selftest.processes import Processes
from bench.selftest.random_cases import CASES as _RANDOM_CASES
from bench.selftest.sound import CASES as _SOUND_CASES
from bench.selftest.summary import Summary

__all__ = [
    "CASES",
    "TRAPS",
    "Case",
    "CaseResult",
    "CheckpointResult",
    "Comparison",
    "Outcome",
    "Processes",
    "Summary",
    "Trial",
    "check_checkpoint",
    "compare",
    "pick",
    "run_case",
    "trials",
]

CASES: tuple[Case, ...] = tuple(
    sorted(
        (
            *_RANDOM_CASES,
            *_ATTACK_CASES,
            *_MODEL_CASES,
            *_FILE_CASES,
            *_ALARM_CASES,
            *_ALONE_CASES,
            *_PROVED_CASES,
            *_SOUND_CASES,
        ),
        key=lambda case: case.trap,
    )
)
"""Every case, in the order of ``TRAPS``."""
