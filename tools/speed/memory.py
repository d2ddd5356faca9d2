"""Measures the memory that an attack needs, in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from tools.speed.arena import Case
from tools.speed.contenders import CONTENDERS, ContenderError
from tools.speed.settings import Setting

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MB = 2.0**20


class MemoryMeter:
    """Measures attacks in fresh processes, one at a time; torch is imported once for all of them.

    Use as a context.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._context = context

    def peak_mb(self, case: Case, setting: Setting, contender: str, threads: int) -> float:
        """Returns the peak memory in MiB that an attack adds to model and images, from a few steps.

        All steps of an attack need the same memory. On a GPU this is the device's memory, otherwise
        that of the process.

        Raises:
            ContenderError: When the attack fails, or the process dies.
        """
        with ProcessPoolExecutor(1, self._context) as pool:
            try:
                return pool.submit(_measure, case, setting, contender, threads).result()
            except BrokenProcessPool:
                raise ContenderError("its process died (out of memory?)") from None


def _measure(case: Case, setting: Setting, name: str, threads: int) -> float:
    torch.set_num_threads(threads)
    contender, arena = CONTENDERS[name], case.open()
    reason = contender.missing()  # imports it
    if reason:
        raise ContenderError(reason)
    arena.batches()
    peak, before = _meter(torch.device(case.device))
    contender.run(arena, setting)
    return max(0.0, peak() - before) / _MB


def _meter(device: torch.device) -> tuple[Callable[[], float], float]:
    """Returns a function for the peak memory from now on, in bytes, and the memory in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
    try:
        _CLEAR.write_text("5")  # Linux: the peak begins anew
        return lambda: _status("VmHWM"), _status("VmRSS")
    except OSError:
        return _resident, _resident()


def _status(key: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key))
    return float(line.split()[1]) * 1024


def _resident() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
