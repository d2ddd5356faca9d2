"""The machine: its processor, installed versions, the time, and timing of calls."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeVar


def processor() -> str:
    """Returns the processor's name as the system reports it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            for line in handle:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed(*distributions: str) -> dict[str, str]:
    """Returns the versions of installed distributions by name; empty names are left out."""
    return {name: _version(name) for name in filter(None, distributions)}


@lru_cache(maxsize=64)
def _version(name: str) -> str:
    """Returns a distribution's version; cached, as reading metadata takes milliseconds."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def abilities() -> tuple[str, ...]:
    """Returns the instruction sets of the processor that matter for the speed of networks.

    ``avx2``, ``avx512f``, ``avx512_bf16``, ``amx_bf16`` on Intel and AMD, ``bf16`` on ARM; empty if
    the system does not report them.
    """
    asked = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16")
    flags: set[str] = set()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            for line in handle:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    flags.update(value.split())
    except OSError:
        pass
    return tuple(name for name in asked if name in flags)


def has_bfloat16() -> bool:
    """Returns whether the processor computes in bfloat16; assumes so if unknown."""
    known = abilities()
    return not known or any(name.endswith("bf16") for name in known)


def now() -> str:
    """Returns the time to the second, ISO 8601: ``"2026-01-31T12:00:00Z"``."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def today() -> str:
    """Returns the date, ISO 8601: ``"2026-01-31"``."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


K = TypeVar("K")

CLEARLY = 1.3
"""Contenders this many times slower than the fastest so far are not timed again."""


def race(
    contenders: Mapping[K, Callable[[], object]],
    rounds: int,
    *,
    clearly: float = CLEARLY,
    forgive: tuple[type[Exception], ...] = (),
    clock: Callable[[Callable[[], object]], float] | None = None,
) -> dict[K, float]:
    """Returns the least seconds that each contender took.

    They take turns, so that a busy moment of the machine affects all of them. A first round warms
    up and is not counted; a contender that is clearly slower is dropped from the later rounds but
    keeps its time.

    Args:
        contenders: Calls by name.
        rounds: Timed rounds.
        clearly: Factor over the fastest at which a contender is dropped.
        forgive: Errors for which a contender is dropped without a time.
        clock: Returns the seconds that a call takes.
    """
    clock = clock or seconds
    running, least = dict(contenders), dict[K, float]()
    for number in range(1 + rounds):
        for name, call in list(running.items()):
            try:
                taken = clock(call)
            except forgive:
                del running[name]
                least.pop(name, None)
                continue
            if number:
                least[name] = min(taken, least.get(name, taken))
        if number and least:
            best = min(least.values())
            running = {k: call for k, call in running.items() if least[k] <= clearly * best}
    return least


def seconds(call: Callable[[], object]) -> float:
    """Returns the wall-clock seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
