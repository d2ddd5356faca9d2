"""A worker process: it runs one job after the other, and its death is always noticed."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

J = TypeVar("J")

_SPAWN = multiprocessing.get_context("spawn")
"""A forked copy of a process with threads, such as torch starts, may hang."""


@dataclass
class Assigned(Generic[J]):
    """A job and its attempts.

    Attributes:
        job: The job.
        tries: How often it was started.
        begun: When it was last started, by ``time.monotonic``.
    """

    job: J
    tries: int = 0
    begun: float = 0.0


class Worker(Generic[J]):
    """The parent's side of a worker process, with a pipe of its own.

    The pipe closes when the process ends. Workers share nothing, so that a killed one can break
    nothing, and it is always known which job it had.

    Args:
        threads: Threads that torch may use in the process.

    Attributes:
        ready: Whether it has started, and so can be given a job.
        task: The job at work.
    """

    def __init__(self, threads: int) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.ready = False
        self.task: Assigned[J] | None = None
        self._process = _SPAWN.Process(target=_serve, args=(theirs, threads), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def signs(self) -> list[Any]:
        """What to wait for: an answer in the pipe, or the end of the process."""
        return [self.pipe, self._process.sentinel]

    @property
    def idle(self) -> bool:
        """Whether it can be given a job."""
        return self.ready and self.task is None

    def begin(self, work: Callable[[J], Any], task: Assigned[J]) -> bool:
        """Gives it a job; returns whether it was alive to take it."""
        try:
            self.pipe.send((work, task.job))
        except OSError:
            return False
        task.tries, task.begun, self.task = task.tries + 1, time.monotonic(), task
        return True

    def overdue(self, limit: float | None) -> bool:
        """Says whether its job has taken longer than ``limit`` seconds."""
        if self.task is None or limit is None:
            return False
        return time.monotonic() - self.task.begun > limit

    def answer(self) -> tuple[bool, Any] | None:
        """Reads its answer, once one of ``signs`` is there.

        Returns:
            ``(True, outcome)`` or ``(False, exception)`` of its job; the first answer of all only
            says that it is ready. ``None`` if it has died.
        """
        if not self.pipe.poll():
            return None
        try:
            found: tuple[bool, Any] = self.pipe.recv()
        except (EOFError, OSError):  # between two messages, or within one
            return None
        self.ready = True
        return found

    def end(self, seconds: float = 0.0) -> int:
        """Closes its pipe, kills it if it still runs after ``seconds``; returns its exit code."""
        self.pipe.close()
        if seconds:
            self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        return self._process.exitcode or 0


def _serve(pipe: Connection, threads: int) -> None:
    """Runs jobs until the pipe closes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)
    threading.Thread(
        target=_leave_with, args=(multiprocessing.parent_process(),), daemon=True
    ).start()
    try:
        pipe.send((True, None))
        while True:
            work, job = pipe.recv()
            pipe.send_bytes(_done(work, job))
    except (EOFError, OSError):
        return


def _done(work: Callable[[Any], Any], job: Any) -> memoryview:
    try:
        return ForkingPickler.dumps((True, work(job)))
    except Exception as error:  # the parent raises it again
        trace = traceback.format_exc()
        error.add_note(f"in a worker process:\n{trace}")
        try:
            return ForkingPickler.dumps((False, error))
        except Exception:  # it holds something that cannot be pickled
            return ForkingPickler.dumps((False, RuntimeError(f"in a worker process:\n{trace}")))


def _leave_with(parent: multiprocessing.process.BaseProcess | None) -> None:
    """Ends this worker once its parent is gone, so that a killed run leaves no processes."""
    if parent is not None:
        parent.join()
    os._exit(1)
