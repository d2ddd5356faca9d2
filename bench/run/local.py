"""The local executor: cells side by side in worker processes, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import torch

from bench.core.errors import UserError
from bench.core.result import CellInfo, Row
from bench.run.job import Job, execute

Outcome = tuple[Job, CellInfo, list[Row]]


def default_workers(device: str) -> int:
    """Returns one worker per core on a CPU, one in all on a GPU."""
    return 1 if device != "cpu" else len(os.sched_getaffinity(0))


def run_jobs(jobs: Sequence[Job], workers: int) -> Iterator[Outcome | None]:
    """Runs jobs, the costliest first; yields each outcome, and ``None`` about four times a second.

    One worker runs in this process with all threads. Several run in processes of their own, with
    the cores shared out among them: small batches do not fill more than one core.
    """
    ordered = sorted(jobs, key=lambda job: -job.cost)
    if workers <= 1 or len(ordered) <= 1:
        for job in ordered:
            yield None
            yield (job, *execute(job))
        return
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _initialize, (threads, os.getpid())) as pool:
        try:
            yield from _collect(pool, ordered)
        except BrokenProcessPool:
            raise UserError(
                "a worker process died (out of memory?); what is finished is stored: run the same "
                "command again to go on, perhaps with --workers 1"
            ) from None
        except BaseException:  # the caller gave up, or the user did: do not wait for long cells
            _kill(pool)
            raise


def _collect(pool: ProcessPoolExecutor, jobs: Sequence[Job]) -> Iterator[Outcome | None]:
    pending: dict[Future[tuple[CellInfo, list[Row]]], Job] = {
        pool.submit(execute, job): job for job in jobs
    }
    while pending:
        done, _ = wait(pending, timeout=0.25, return_when=FIRST_COMPLETED)
        yield None
        for future in done:
            yield (pending.pop(future), *future.result())


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
