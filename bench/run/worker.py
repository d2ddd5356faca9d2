"""A process that does one job after the other, and tells at whose hands it died."""

from __future__ import annotations

import multiprocessing
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
"""A forked copy of a process with threads, which torch has, may hang."""


@dataclass
class Assigned(Generic[J]):
    """A job and how far it has got.

    Attributes:
        job: The job.
        tries: Times that it was begun.
        begun: When it was last begun, by ``time.monotonic``.
    """

    job: J
    tries: int = 0
    begun: float = 0.0


class Worker(Generic[J]):
    """This side of a worker process. It has a pipe of its own, which ends when the process does.

    So nothing is shared that a process could take with it when it is killed, and it is always known
    which job it had.

    Args:
        threads: That torch may use in it.

    Attributes:
        ready: Whether it has started, and so can be given a job.
        task: What it is doing.
    """

    def __init__(self, threads: int) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.ready = False
        self.task: Assigned[J] | None = None
        self._process = _SPAWN.Process(
            target=_serve, args=(theirs, threads, os.getpid()), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def signs(self) -> list[Any]:
        """What to wait for: it says something, or has died."""
        return [self.pipe, self._process.sentinel]

    @property
    def idle(self) -> bool:
        """Whether it can be given a job."""
        return self.ready and self.task is None

    def begin(self, work: Callable[[J], Any], task: Assigned[J]) -> bool:
        """Gives it a job; says whether it lived to take it."""
        try:
            self.pipe.send((work, task.job))
        except OSError:
            return False
        task.tries, task.begun, self.task = task.tries + 1, time.monotonic(), task
        return True

    def overdue(self, limit: float | None) -> bool:
        """Says whether it has been at its job for longer than ``limit`` seconds."""
        if self.task is None or limit is None:
            return False
        return time.monotonic() - self.task.begun > limit

    def answer(self) -> tuple[bool, Any] | None:
        """Reads what it says, once one of its signs is there.

        Returns:
            Whether its job came to an end, and the outcome or the exception; as the first of all,
            that it is ready. ``None`` when it has died.
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
        """Ends it, by force if it is still there after so many seconds; returns its exit code.

        A process whose pipe has ended may take a moment to end itself.
        """
        self.pipe.close()
        if seconds:
            self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        return self._process.exitcode or 0


def _serve(pipe: Connection, threads: int, parent: int) -> None:
    """Does jobs until the pipe ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
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
    except Exception as error:  # is raised again on the other side
        trace = traceback.format_exc()
        error.add_note(f"in a worker process:\n{trace}")
        try:
            return ForkingPickler.dumps((False, error))
        except Exception:  # whatever it holds that cannot be sent
            return ForkingPickler.dumps((False, RuntimeError(f"in a worker process:\n{trace}")))


def _leave_with(parent: int) -> None:
    """Ends this worker once its parent is gone: a killed run must not leave work behind."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
