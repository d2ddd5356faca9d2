"""The machine and what is installed on it, in words."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import lru_cache


def processor() -> str:
    """Returns the processor's name, as exactly as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            for line in handle:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def installed(*distributions: str) -> dict[str, str]:
    """Returns the versions of installed distributions by name; empty names are left out."""
    return {name: _version(name) for name in filter(None, distributions)}


@lru_cache(maxsize=64)
def _version(name: str) -> str:
    """Returns a distribution's version; its metadata take milliseconds to read."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def abilities() -> tuple[str, ...]:
    """Returns which of the instructions that decide a network's speed the processor has.

    ``avx2``, ``avx512f``, ``avx512_bf16``, ``amx_bf16`` on Intel's and AMD's processors, ``bf16``
    on ARM's; nothing where the system does not tell.
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
    """Says whether the processor computes in bfloat16; where nobody knows, it is tried."""
    known = abilities()
    return not known or any(name.endswith("bf16") for name in known)
