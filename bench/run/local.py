"""The local executor: jobs side by side in worker processes that share the cores."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType, TracebackType
from typing import Any, Protocol, TypeVar

from bench.core.host import usable_cores
from bench.run.worker import Assigned, Worker

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a run has been asked to stop.

    Attributes:
        signal: The signal that asked for it; ``None`` if none has come.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def asked(self) -> bool:
        """Whether a stop has been asked for."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal, as shells report it; 0 if there was none."""
        return 128 + self.signal if self.signal is not None else 0


@contextmanager
def stop_on_signals(told: Callable[[Stop], None]) -> Iterator[Stop]:
    """Yields a ``Stop`` that the first SIGINT or SIGTERM sets; a second one ends the run at once.

    Only the main thread of a program receives signals; in another, nothing is changed.

    Args:
        told: Called on the first signal.

    Raises:
        KeyboardInterrupt: Inside the context, on the second.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def hear(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.signal = signal.Signals(number)
        told(stop)

    before = {number: signal.signal(number, hear) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


J = TypeVar("J")
R = TypeVar("R")

TRIES = 3
"""Times that a job is started whose worker dies, and failed starts in a row that are accepted."""


def default_workers(device: str) -> int:
    """Returns one worker per core on a CPU, one in all on a GPU."""
    return 1 if device != "cpu" else usable_cores()


class Executor(Protocol):
    """Runs jobs somewhere."""

    def run(
        self, work: Callable[[J], R], jobs: Sequence[J], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        """Runs jobs in order; yields each job with its outcome, and ``None`` four times a second.

        After a stop is asked for, no job is started, and it returns when those at work have ended.

        Args:
            work: A module-level function of one job.
            jobs: The jobs.
            lost: Returns the outcome of a job whose worker was lost, given the reason in one line.
        """


class Workers:
    """Processes that run jobs, for as long as the context lasts.

    A single worker without a time limit is this process, with all threads. Otherwise workers are
    processes that share the cores, since small batches do not fill more than one. A process that
    dies or is killed is replaced.

    Args:
        n: How many.
        limit: Seconds that a job may take before its worker is killed; ``None`` for no limit.
        stop: Tells when to start no more jobs.
    """

    def __init__(self, n: int, limit: float | None = None, stop: Stop | None = None) -> None:
        self._n, self._limit, self._stop = n, limit, stop or Stop()
        self._here = n == 1 and limit is None
        self._threads = max(1, usable_cores() // n)
        self._workers: list[Worker[Any]] = []
        self._failed_starts = 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def run(
        self, work: Callable[[J], R], jobs: Sequence[J], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        """Runs jobs, see ``Executor``."""
        if not self._here:
            try:
                yield from self._run(work, deque(Assigned(job) for job in jobs), lost)
            finally:  # jobs of an abandoned run must not reach the next
                for worker in [w for w in self._workers if w.task is not None]:
                    self._end(worker)
            return
        for job in jobs:
            yield None
            if self._stop.asked:
                return
            yield job, work(job)

    def _run(
        self, work: Callable[[J], R], waiting: deque[Assigned[J]], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        while True:
            if self._stop.asked:
                waiting.clear()
            busy = sum(worker.task is not None for worker in self._workers)
            if not waiting and not busy:
                return
            self._start(min(self._n, len(waiting) + busy))
            self._hand_out(work, waiting)
            signs = wait([sign for worker in self._workers for sign in worker.signs], 0.25)
            yield None
            for worker in [w for w in self._workers if any(sign in signs for sign in w.signs)]:
                yield from self._hear(worker, waiting, lost)
            for worker in [w for w in self._workers if w.overdue(self._limit)]:
                assert worker.task is not None
                self._end(worker)
                why = f"ended after {self._limit:g} s, the time limit of a chunk"
                yield worker.task.job, lost(worker.task.job, why)

    def _start(self, n: int) -> None:
        while len(self._workers) < n:
            self._workers.append(Worker(self._threads))

    def _hand_out(self, work: Callable[[J], Any], waiting: deque[Assigned[J]]) -> None:
        for worker in self._workers:
            # A worker that has died is noticed when it is heard.
            if waiting and worker.idle and worker.begin(work, waiting[0]):
                waiting.popleft()

    def _hear(
        self, worker: Worker[J], waiting: deque[Assigned[J]], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R]]:
        """Handles a worker's answer or death; yields the job that has ended by it, if any."""
        answer, task = worker.answer(), worker.task
        if answer is not None:
            self._failed_starts, worker.task = 0, None
            fine, outcome = answer
            if not fine:
                raise outcome
            if task is not None:
                yield task.job, outcome
            return
        self._workers.remove(worker)
        code = worker.end(5.0)
        if task is not None and task.tries < TRIES and not self._stop.asked:
            waiting.append(task)
        elif task is not None:
            yield task.job, lost(task.job, _how_it_died(code, task.tries))
        elif not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == TRIES:
                for left in waiting:
                    yield left.job, lost(left.job, _how_it_died(code, TRIES, ", as it started"))
                self._failed_starts = 0
                waiting.clear()

    def _end(self, worker: Worker[Any]) -> None:
        self._workers.remove(worker)
        worker.end()


def _how_it_died(code: int, times: int, when: str = "") -> str:
    if code >= 0:
        return f"its worker process ended with code {code}, {times} times{when}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # of no name on this system
        name = f"signal {-code}"
    memory = ": too little memory, perhaps; try --workers 1" * (name == "SIGKILL")
    return f"its worker process was ended by {name}, {times} times{when}{memory}"
