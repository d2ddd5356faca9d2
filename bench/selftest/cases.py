"""All planted cases, by the trap that they plant."""

from __future__ import annotations

from bench.selftest import alarm_cases, attack_cases, file_cases, model_cases, random_cases, sound
from bench.selftest.case import Case

_ROOMS = (random_cases, attack_cases, model_cases, file_cases, alarm_cases, sound)

CASES: tuple[Case, ...] = tuple(
    sorted((case for room in _ROOMS for case in room.CASES), key=lambda case: case.trap)
)
"""Every case, in the order of ``TRAPS``."""
