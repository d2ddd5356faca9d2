"""The Ray executor: the same jobs on a cluster, or on one machine that Ray manages.

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
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.spec import digest
from bench.run.job import keep_sent, load_slice
from bench.run.local import TRIES, Stop
from bench.run.remote_files import (
    RayCluster,
    check_code,
    code_hash,
    inputs_of,
    pack,
    unpack,
    with_checkpoints_in,
)

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
"""Seconds between two polls for results."""


@dataclass
class _AtWork:
    job: Any
    tries: int
    begun: float


class RayWorkers:
    """A Ray cluster that runs jobs, for as long as the context lasts.

    Only as many jobs are submitted as the cluster has room for, so that a stop leaves none behind.
    Jobs of a node that is lost are started again elsewhere.

    Args:
        cluster: Its address, and what a job takes of it.
        n: Jobs at a time; ``None`` for as many as there is room for.
        limit: Seconds that a job may take before its worker is ended; ``None`` for no limit.
        stop: Tells when to start no more jobs.

    Raises:
        UserError: When no cluster answers at the address.
    """

    def __init__(
        self,
        cluster: RayCluster,
        n: int | None = None,
        limit: float | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._cluster, self._n, self._limit, self._stop = cluster, n, limit, stop or Stop()
        self._refs: dict[object, Any] = {}
        self._mine = not ray.is_initialized()
        if self._mine:
            _connect(cluster.address)
        options = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_retries": 0}
        self._remote = ray.remote(**options)(_run_there)

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
                    # Or it died of itself after a late start; from here the two look alike.
                    why = f"ended after more than {self._limit:g} s, the time limit of a chunk"
                    yield one.job, lost(one.job, why)
                elif one.tries <= TRIES and not self._stop.asked:
                    waiting.appendleft((one.job, one.tries + 1))
                else:
                    yield one.job, lost(one.job, _how_it_died(died, one.tries))

    def _room(self) -> int:
        """Returns how many jobs the cluster has room for now; at least 1."""
        if self._n is not None:
            return self._n
        rooms = []
        for node in ray.nodes():
            if node["Alive"]:
                has, takes = node["Resources"], self._cluster
                by_gpu = has.get("GPU", 0) / takes.gpus if takes.gpus else float("inf")
                rooms.append(int(min(has.get("CPU", 0) / takes.cpus, by_gpu)))
        return max(1, sum(rooms))

    def _send(self, jobs: Sequence[object]) -> None:
        """Puts the checkpoints and images of jobs into the object store, each once in a run."""
        inputs = inputs_of(jobs)
        for folder in inputs.checkpoints:
            if folder not in self._refs:
                self._refs[folder] = ray.put(pack(folder))
        for spec, root in inputs.slices:
            if spec not in self._refs:
                self._refs[spec] = ray.put(load_slice(spec, root))

    def _begin(self, work: Callable[[J], R], job: J) -> Any:
        inputs = inputs_of([job])
        checkpoints = {folder.name: self._refs[folder] for folder in inputs.checkpoints}
        slices = [(spec, self._refs[spec]) for spec, _ in inputs.slices]
        return self._remote.remote(work, job, checkpoints, slices, code_hash(), self._limit)


def _fetch(ref: Any) -> tuple[Any, Exception | None]:
    """Returns a job's result, or the error that its worker was lost with.

    Raises:
        UserError: When the job raised one. Other exceptions come as Ray wraps them.
    """
    try:
        return ray.get(ref), None
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RayError):  # its inputs were lost
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
    """Runs a job in a worker process of Ray; at the time limit the process exits."""
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
        keep_sent(spec, ref.hex(), partial(ray.get, ref))
    # Another checkpoint of this name has another reference, and so another folder.
    folder = _home() / digest(sorted((name, ref.hex()) for name, ref in checkpoints.items()))
    if not folder.exists():
        for name, ref in checkpoints.items():
            unpack(ray.get(ref), folder / name)
    return work(with_checkpoints_in(job, folder))


@lru_cache(maxsize=1)
def _home() -> Path:
    """Returns a folder of this worker process, deleted when it exits."""
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="rbench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _how_it_died(error: Exception, tries: int) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"its worker was lost {tries} times ({type(error).__name__}: {first})"
