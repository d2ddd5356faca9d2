"""The local executor: jobs side by side in worker processes, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TypeVar

import torch

from bench.core.errors import UserError

J = TypeVar("J")
R = TypeVar("R")


def default_workers(device: str) -> int:
    """Returns one worker per core on a CPU, one in all on a GPU."""
    return 1 if device != "cpu" else len(os.sched_getaffinity(0))


class Workers:
    """Processes that run jobs, for as long as the context lasts.

    One worker is this process, with all threads. Several are processes of their own, with the
    cores shared out among them: small batches do not fill more than one core.

    Args:
        n: How many.
    """

    def __init__(self, n: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if n > 1:
            threads = max(1, len(os.sched_getaffinity(0)) // n)
            context = multiprocessing.get_context("spawn")
            initial = (threads, os.getpid())
            self._pool = ProcessPoolExecutor(n, context, _initialize, initial)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        if kind is None:
            self._pool.shutdown()
        else:  # the caller gave up, or the user did: do not wait for long cells
            _kill(self._pool)

    def run(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R] | None]:
        """Runs jobs in order; yields each outcome, and ``None`` about four times a second.

        Args:
            work: A module-level function.
            jobs: What it is called with, one by one.

        Raises:
            UserError: When a worker process dies.
        """
        if self._pool is None:
            for job in jobs:
                yield None
                yield job, work(job)
            return
        try:
            yield from _collect({self._pool.submit(work, job): job for job in jobs})
        except BrokenProcessPool:
            raise UserError(
                "a worker process died (out of memory?); what is finished is stored: run the same "
                "command again to go on, perhaps with --workers 1"
            ) from None


def _collect(pending: dict[Future[R], J]) -> Iterator[tuple[J, R] | None]:
    while pending:
        done, _ = wait(pending, timeout=0.25, return_when=FIRST_COMPLETED)
        yield None
        for future in done:
            yield pending.pop(future), future.result()


def _kill(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _initialize(threads: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    torch.set_num_threads(threads)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """Ends this worker once its parent is gone: a killed run must not leave work behind."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
