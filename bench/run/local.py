"""The local executor: jobs side by side in worker processes, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from types import TracebackType
from typing import Protocol, TypeVar

import torch
from pebble import ProcessExpired, ProcessPool

from bench.run.stop import Stop

J = TypeVar("J")
R = TypeVar("R")

TRIES = 3
"""Times that a job is begun whose worker process dies."""


def default_workers(device: str) -> int:
    """Returns one worker per core on a CPU, one in all on a GPU."""
    return 1 if device != "cpu" else len(os.sched_getaffinity(0))


class Executor(Protocol):
    """Runs jobs somewhere."""

    def run(
        self, work: Callable[[J], R], jobs: Sequence[J], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        """Runs jobs in order; yields each outcome, and ``None`` about four times a second.

        Once it is asked to stop, no job is begun, and it ends when those at work have ended.

        Args:
            work: A module-level function.
            jobs: What it is called with, one by one.
            lost: Returns the outcome of a job that its worker did not come back from, for a reason
                in one line.
        """


class Workers:
    """Processes that run jobs, for as long as the context lasts.

    One worker is this process, with all threads, unless a job may be ended from outside. Several
    are processes of their own, with the cores shared out among them: small batches do not fill more
    than one core. A process that dies or is ended is replaced.

    Args:
        n: How many.
        limit: Seconds that a job may take before it is ended; ``None`` for no end.
        stop: Tells when to begin no more.
    """

    def __init__(self, n: int, limit: float | None = None, stop: Stop | None = None) -> None:
        self._limit, self._stop = limit, stop or Stop()
        self._pool: ProcessPool | None = None
        if n > 1 or limit is not None:
            threads = max(1, len(os.sched_getaffinity(0)) // n)
            context = multiprocessing.get_context("spawn")
            initial = (threads, os.getpid())
            self._pool = ProcessPool(n, 0, _initialize, initial, context)

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
        if kind is None and not self._stop.asked:
            self._pool.close()  # type: ignore[no-untyped-call]
        else:  # nothing that is still at work is waited for, be it a worker that only starts
            self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def run(
        self, work: Callable[[J], R], jobs: Sequence[J], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        """Runs jobs, see ``Executor``."""
        if self._pool is None:
            for job in jobs:
                yield None
                if self._stop.asked:
                    return
                yield job, work(job)
            return
        yield from self._collect(self._pool, work, jobs, lost)

    def _collect(
        self,
        pool: ProcessPool,
        work: Callable[[J], R],
        jobs: Sequence[J],
        lost: Callable[[J, str], R],
    ) -> Iterator[tuple[J, R] | None]:
        def begin(job: J) -> Future[R]:
            return pool.schedule(work, args=(job,), timeout=self._limit)

        pending = {begin(job): (job, 1) for job in jobs}
        while pending:
            done, _ = wait(pending, timeout=0.25, return_when=FIRST_COMPLETED)
            yield None
            if self._stop.asked:
                for future in [f for f in pending if not f.done() and not f.running()]:
                    pending.pop(future)
                    future.cancel()
            for future in done:
                job, tries = pending.pop(future)
                if future.cancelled():
                    continue
                try:
                    outcome = future.result()
                except TimeoutError:
                    outcome = lost(job, f"ended after {self._limit:g} s, the time limit of a chunk")
                except ProcessExpired as error:
                    if tries < TRIES and not self._stop.asked:
                        pending[begin(job)] = (job, tries + 1)
                        continue
                    outcome = lost(job, _how_it_died(error))
                yield job, outcome


def _how_it_died(error: ProcessExpired) -> str:
    code = error.exitcode
    if code >= 0:
        return f"its worker process ended with code {code}, {TRIES} times"
    name = signal.Signals(-code).name
    memory = ": too little memory, perhaps; try --workers 1" * (code == -signal.SIGKILL)
    return f"its worker process was ended by {name}, {TRIES} times{memory}"


def _initialize(threads: int, parent: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """Ends this worker once its parent is gone: a killed run must not leave work behind."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
