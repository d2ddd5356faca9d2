"""Runs a selftest's cases, comparisons and checkpoints in several processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch

from bench.core.errors import UserError
from bench.core.host import usable_cores
from bench.selftest.case import Case, CaseResult, Outcome, pick, run_case
from bench.selftest.checkpoints import CheckpointResult, check_checkpoint
from bench.selftest.libraries import Comparison, Trial, compare, trials

MOST = 8
"""Processes at most: each imports torch, and few parts are long."""

T = TypeVar("T")


class Processes:
    """Processes of one core each, for models so small that a second core would slow them down.

    What cannot be sent to another process, such as a case's function, is looked up there by its
    id. Leave the context to end them. Results raise ``UserError`` when a process dies.

    Args:
        n: Processes; ``None`` for one per usable core, at most ``MOST``.
    """

    def __init__(self, n: int | None = None) -> None:
        self._pool = ProcessPoolExecutor(
            n or min(MOST, usable_cores()),
            mp_context=get_context("spawn"),
            initializer=torch.set_num_threads,
            initargs=(1,),
        )

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def check_checkpoints(
        self, folders: Iterable[Path], data_root: Path | None
    ) -> Iterator[CheckpointResult]:
        """Begins at once; yields results in the order of the folders."""
        return _alive(self._pool.map(partial(check_checkpoint, data_root=data_root), folders))

    def compare(self, shown: Iterable[Trial]) -> Iterator[Comparison]:
        """Begins at once; yields comparisons in the order of the trials."""
        return _alive(self._pool.map(_compare, [trial.id for trial in shown]))

    def run_cases(self, cases: Sequence[Case]) -> Iterator[CaseResult]:
        """Begins at once; yields results in the order of the cases, which are of ``CASES``."""
        found = _alive(self._pool.map(_run_case, [case.id for case in cases]))
        return (CaseResult(case, *one) for case, one in zip(cases, found, strict=True))


def _alive(results: Iterator[T]) -> Iterator[T]:
    try:
        yield from results
    except BrokenProcessPool as error:
        raise UserError(
            "a process of the selftest was killed, perhaps for want of memory; run it again, or "
            "one case with --case"
        ) from error


def _compare(trial_id: str) -> Comparison:
    return compare(next(trial for trial in trials() if trial.id == trial_id))


def _run_case(case_id: str) -> tuple[Outcome, float]:
    from bench.selftest import CASES

    found = run_case(pick(CASES, case_id))
    return found.outcome, found.seconds
