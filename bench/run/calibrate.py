"""Predicts how long cells take, from passes timed for about a second."""

from __future__ import annotations

import heapq
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bench.core.cell import CellSpec
from bench.core.identity import digest
from bench.data import take_slice
from bench.models.external import Source
from bench.oracle import Access, Oracle, cross_entropy, frozen
from bench.run.job import Job
from bench.run.target import Target
from bench.zoo import open_model

FORWARD_ONLY = frozenset(("natural", "noise", "square"))
"""Attacks that ask for no gradient."""

SPENT = 0.2
"""Seconds for which each kind of pass is timed: twice two kinds come to about a second."""

FEW = 8
"""Images that say how many may be timed at once."""


@dataclass(frozen=True)
class PassCost:
    """What a pass over an image takes.

    Attributes:
        forward: Seconds of a forward pass.
        both: Seconds of a forward and a backward pass.
    """

    forward: float
    both: float

    def seconds(self, attack: str, passes: float) -> float:
        """Returns what an attack takes at most that makes so many passes of either kind."""
        each = self.forward if attack in FORWARD_ONLY else max(self.forward, self.both / 2)
        return passes * each


class Calibration:
    """Times the passes of models, those of the same architecture and norm once.

    Args:
        workers: Processes that share the machine's cores, as ``bench.run.local.Workers`` does it.
    """

    def __init__(self, workers: int) -> None:
        self._threads = max(1, len(os.sched_getaffinity(0)) // workers)
        self._known: dict[str, PassCost] = {}

    def seconds(self, job: Job) -> float:
        """Returns what a job takes at most, from its estimated passes.

        Raises:
            UserError: When its checkpoint or data cannot be read.
        """
        spec = job.spec
        source = spec.surrogate or spec
        model = open_model(source.checkpoint, job.shelf)
        key = _key(model, source.stats, spec, job.device)
        if key not in self._known:
            with _threads(self._threads):
                self._known[key] = _measure(model, source.stats, job)
        return self._known[key].seconds(spec.attack, job.cost)


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Returns when the last of some jobs ends, if the longest start first.

    Args:
        seconds: Of each job.
        workers: How many run at a time.
    """
    free = [0.0] * workers
    for length in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def _key(source: Source, stats: str | None, spec: CellSpec, device: str) -> str:
    """Returns the same for models whose passes take the same time."""
    model = source.facts().spec.model_dump(mode="json", exclude={"mean", "std"})
    return digest([model, stats, spec.search, spec.batch_size, device])


def _measure(source: Source, stats: str | None, job: Job) -> PassCost:
    target = Target.of(source.load(stats).to(job.device))
    data = take_slice(job.spec.data, job.data_root)
    x = torch.from_numpy(data.x[: job.spec.batch_size]).to(job.device)
    y = torch.from_numpy(data.y[: job.spec.batch_size]).to(job.device)
    with frozen(target.model):
        n = min(len(x), _affordable(target, x[:FEW], y[:FEW]))
        ask = _query(target, x[:n], y[:n], fast=job.spec.search == "fast")
        return PassCost(_timed(lambda: ask(False)) / n, _timed(lambda: ask(True)) / n)


def _affordable(target: Target, x: torch.Tensor, y: torch.Tensor) -> int:
    """Returns how many images fit into the time for one kind of pass, at least those given."""
    ask = _query(target, x, y, fast=False)
    ask(True)
    started = time.perf_counter()
    ask(True)
    return max(len(x), int(len(x) * SPENT / (time.perf_counter() - started)))


def _query(
    target: Target, x: torch.Tensor, y: torch.Tensor, *, fast: bool
) -> Callable[[bool], float]:
    """Returns what asks an oracle about images as attacks do, with or without gradient."""
    access = Access(stochastic=target.stochastic, batch_dependent=target.batch_dependent, fast=fast)
    oracle = Oracle(target.model, x, target.classes, access)
    return lambda grad: float(oracle.query(x, y, cross_entropy, grad=grad).loss.sum())


def _timed(work: Callable[[], object]) -> float:
    """Returns the median time of some runs, after one that is not counted."""
    work()
    taken: list[float] = []
    while sum(taken) < SPENT or len(taken) < 2:
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def predict(jobs: Sequence[Job], workers: int) -> dict[str, float]:
    """Returns the seconds that each job takes at most, by the id of its cell.

    Broken images leave most attacks early, so this is an upper bound.

    Raises:
        UserError: When a checkpoint or the data cannot be read.
    """
    calibration = Calibration(workers)
    return {job.spec.cell_id: calibration.seconds(job) for job in jobs}
