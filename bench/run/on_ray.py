"""The Ray executor: the same jobs on a cluster, or on all of a machine that Ray manages.

Checkpoints and images travel through Ray's object store, once to each node; results come back to
this process, which alone writes to the run folder.
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.spec import digest
from bench.run.job import is_lent, lend_slice, load_slice
from bench.run.local import TRIES, Stop
from bench.run.remote_files import all_needs, check_code, code_hash, moved, needs_of, pack, unpack

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

try:
    ray: Any = import_module("ray")  # an extra, whose types differ from version to version
    import_module("ray.exceptions")
except ImportError as _error:
    raise UserError("--engine ray needs Ray; pip install 'rbench[ray]'") from _error

J = TypeVar("J")
R = TypeVar("R")

TICK = 0.25
"""Seconds between two looks at what has ended."""


@dataclass(frozen=True)
class Share:
    """What a job takes of the cluster.

    Attributes:
        cpus: Cores, at least 1; a job has as many threads.
        gpus: GPUs; 0.5 puts two jobs on one.
    """

    cpus: float = 1
    gpus: float = 0


@dataclass
class _AtWork:
    job: Any
    tries: int
    begun: float


class RayWorkers:
    """A Ray cluster that runs jobs, for as long as the context lasts.

    As many jobs are handed over as the cluster has room for, so that a stop leaves none behind.
    Jobs of a node that is lost are begun anew elsewhere.

    Args:
        address: Of a cluster, as ``ray.init`` takes it: ``auto``, ``host:port``, ``ray://...``;
            ``None`` starts Ray on this machine.
        n: Jobs at a time; ``None`` for as many as there is room for.
        share: What a job takes.
        limit: Seconds that a job may take before its worker is ended; ``None`` for no end.
        stop: Tells when to begin no more.

    Raises:
        UserError: When there is no such cluster.
    """

    def __init__(
        self,
        address: str | None,
        n: int | None,
        share: Share,
        limit: float | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._n, self._share, self._limit, self._stop = n, share, limit, stop or Stop()
        self._refs: dict[object, Any] = {}
        self._mine = not ray.is_initialized()
        if self._mine:
            _connect(address)
        self._remote = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0)(
            _run_there
        )

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._mine:
            ray.shutdown()

    def run(
        self, work: Callable[[J], R], jobs: Sequence[J], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        """Runs jobs, see ``bench.run.local.Executor``."""
        self._send(jobs)
        waiting: deque[tuple[J, int]] = deque((job, 1) for job in jobs)
        at_work: dict[Any, _AtWork] = {}
        while at_work or (waiting and not self._stop.asked):
            while waiting and not self._stop.asked and len(at_work) < self._room():
                job, tries = waiting.popleft()
                at_work[self._begin(work, job)] = _AtWork(job, tries, time.monotonic())
            done, _ = ray.wait(list(at_work), timeout=TICK) if at_work else ([], [])
            yield None
            for ref in done:
                one = at_work.pop(ref)
                outcome, died = _fetch(ref)
                late = self._limit is not None and time.monotonic() - one.begun >= self._limit
                if died is None:
                    yield one.job, outcome
                elif late:
                    # Or it died by itself, having begun late: that is not told from here.
                    why = f"ended after more than {self._limit:g} s, the time limit of a chunk"
                    yield one.job, lost(one.job, why)
                elif one.tries <= TRIES and not self._stop.asked:
                    waiting.appendleft((one.job, one.tries + 1))
                else:
                    yield one.job, lost(one.job, _how_it_died(died, one.tries))

    def _room(self) -> int:
        """Returns how many jobs the cluster has room for, as it is now; at least 1."""
        if self._n is not None:
            return self._n
        rooms = []
        for node in ray.nodes():
            if node["Alive"]:
                has, share = node["Resources"], self._share
                by_gpu = has.get("GPU", 0) / share.gpus if share.gpus else float("inf")
                rooms.append(int(min(has.get("CPU", 0) / share.cpus, by_gpu)))
        return max(1, sum(rooms))

    def _send(self, jobs: Sequence[object]) -> None:
        """Puts what jobs read into the object store, once for a run."""
        needs = all_needs(jobs)
        for folder in needs.checkpoints:
            if folder not in self._refs:
                self._refs[folder] = ray.put(pack(folder))
        for spec, root in needs.slices:
            if spec not in self._refs:
                self._refs[spec] = ray.put(load_slice(spec, root))

    def _begin(self, work: Callable[[J], R], job: J) -> Any:
        needs = needs_of(job)
        checkpoints = {folder.name: self._refs[folder] for folder in needs.checkpoints}
        slices = [(spec, self._refs[spec]) for spec, _ in needs.slices]
        return self._remote.remote(work, job, checkpoints, slices, code_hash(), self._limit)


def _fetch(ref: Any) -> tuple[Any, Exception | None]:
    """Returns what a job has made, or what befell its worker.

    Raises:
        UserError: When the job raised one; any other exception of it as Ray has it.
    """
    try:
        return ray.get(ref), None
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RayError):  # what it reads was lost
            return None, error.cause
        raise error.cause if isinstance(error.cause, UserError) else error from None
    except ray.exceptions.RayError as error:
        return None, error


def _connect(address: str | None) -> None:
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, include_dashboard=None if address else False)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--address {address}: {error}; start a cluster with `ray start --head`, or leave the "
            "address out to use this machine"
        ) from None


def _run_there(
    work: Callable[[Any], Any],
    job: Any,
    checkpoints: dict[str, Any],
    slices: list[tuple[DataSpec, Any]],
    code: str,
    limit: float | None,
) -> Any:
    """Runs a job in a worker process of Ray; one that takes too long ends the process."""
    if limit is not None:
        faulthandler.dump_traceback_later(limit, exit=True)  # needs no lock of the interpreter
    try:
        return _run(work, job, checkpoints, slices, code)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _run(
    work: Callable[[Any], Any],
    job: Any,
    checkpoints: dict[str, Any],
    slices: list[tuple[DataSpec, Any]],
    code: str,
) -> Any:
    check_code(code, socket.gethostname())
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for spec, ref in slices:
        if not is_lent(spec):
            lend_slice(spec, ray.get(ref))
    # Another checkpoint of this name has another reference, and so another folder.
    folder = _home() / digest(sorted((name, ref.hex()) for name, ref in checkpoints.items()))
    if not folder.exists():
        for name, ref in checkpoints.items():
            unpack(ray.get(ref), folder / name)
    return work(moved(job, folder))


@lru_cache(maxsize=1)
def _home() -> Path:
    """Returns a folder of this worker process, which goes with it."""
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="rbench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _how_it_died(error: Exception, tries: int) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"its worker was lost {tries} times ({type(error).__name__}: {first})"
