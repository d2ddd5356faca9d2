"""The machine, in words."""

from __future__ import annotations

import platform


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
